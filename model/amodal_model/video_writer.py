"""Writing a video: H.264 at given times, visible under its name only once it is complete."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.stream import VideoStream
from jaxtyping import UInt8

from amodal_model.errors import InputError

TIME_BASE = Fraction(1, 90_000)
"""Clock of the written file, fine enough for any frame rate and for variable ones."""


class VideoWriter:
    """Write frames to an MP4 file (libx264, yuv420p); use it as a context manager.

    The file is written beside its final name and renamed when the block ends without an error;
    otherwise it is removed. Sides that are odd are padded by repeating the last row or column,
    because yuv420p has none of its own for it.
    """

    def __init__(self, path: Path, *, fps: float, crf: int = 20) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.partial.mp4")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._crf = crf
        self._frame_size: tuple[int, int] | None = None
        self._start_s = 0.0
        self._last_pts = -1
        self._stream: VideoStream | None = None
        self._container = av.open(
            f"file:{self._partial}", "w", format="mp4", options={"movflags": "faststart"}
        )

    def write(self, image: UInt8[np.ndarray, "H W 3"], pts_s: float) -> None:
        """Append a frame, uint8 RGB (H, W, 3), at ``pts_s`` seconds; the first one starts at 0.

        Raises:
            InputError: the frame is of another size than the first.
        """
        height, width = image.shape[:2]
        if self._stream is None:
            self._frame_size, self._start_s = (height, width), pts_s
            self._stream = self._add_stream(width + width % 2, height + height % 2)
        if (height, width) != self._frame_size:
            raise InputError(f"frame is {(height, width)}, the video is {self._frame_size}")
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        self._last_pts = max(round((pts_s - self._start_s) / TIME_BASE), self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _add_stream(self, width: int, height: int) -> VideoStream:
        options = {"crf": str(self._crf), "preset": "veryfast"}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        # its threads change what it writes, and how many there are depends on the machine
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        return stream

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        complete = error_type is None and self._stream is not None
        try:
            if complete and self._stream is not None:
                self._container.mux(self._stream.encode(None))
            self._container.close()
            if complete:
                self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)
