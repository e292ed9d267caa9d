"""Frames as they come: a camera, a network camera, a video or recording at its own pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import av
import cv2
import numpy as np
from av.error import FFmpegError

from amodal_client.stream_frames import Image
from amodal_model.errors import DatasetError, InputError, UnavailableError
from amodal_model.video import DEFAULT_FPS, Clip
from amodal_service.mcap_recording import Recording
from amodal_service.sources import open_clip

NETWORK_SCHEMES = ("rtsp://", "rtsps://")
_NETWORK_S = 10.0


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame: its number, seconds from the first one, uint8 RGB (H, W, 3).

    Attributes:
        stamp_ns: when it was taken, by the source's own clock; 0: not known.
    """

    index: int
    pts_s: float
    image: Image
    stamp_ns: int = 0


class LiveSource(Protocol):
    """Where frames come from.

    Attributes:
        name: what messages call it.
        fps: frames a second; about, for a camera.
        is_recorded: whether it waits: then nobody need hurry, and it is played at a pace.
    """

    name: str
    fps: float
    is_recorded: bool

    def frames(self) -> Iterator[LiveFrame]:
        """Yield the frames."""


class RecordedSource:
    """A video file, a folder of frames or a robot's recording."""

    is_recorded = True

    def __init__(self, clip: Clip) -> None:
        self.name = clip.path.name
        self.fps = clip.fps
        self.frame_size = clip.frame_size
        self._clip = clip
        self._start_ns = clip.start_ns if isinstance(clip, Recording) else None

    def frames(self) -> Iterator[LiveFrame]:
        """Yield the frames, as fast as they are asked for."""
        start_s = None
        for frame in self._clip.frames():
            start_s = frame.pts_s if start_s is None else start_s
            pts_s = frame.pts_s - start_s
            stamp_ns = 0 if self._start_ns is None else self._start_ns + round(1e9 * pts_s)
            yield LiveFrame(frame.index, pts_s, frame.image, stamp_ns)


class CameraSource:
    """A camera of this machine, by its index."""

    is_recorded = False

    def __init__(self, index: int) -> None:
        self.name = f"camera {index}"
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise UnavailableError(f"{self.name} cannot be opened")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS

    def frames(self) -> Iterator[LiveFrame]:
        """Yield frames until the camera gives none any more."""
        start_s = time.monotonic()
        index = 0
        try:
            while True:
                is_there, image = self._capture.read()
                if not is_there:
                    raise UnavailableError(f"{self.name} gives no frame after {index} frames")
                rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                yield LiveFrame(index, time.monotonic() - start_s, rgb)
                index += 1
        finally:
            self._capture.release()


class NetworkSource:
    """A network camera (RTSP over TCP)."""

    is_recorded = False

    def __init__(self, url: str) -> None:
        self.name = url.partition("@")[2] or url  # no password in messages
        options = {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtp,udp,tcp,tls"}
        try:
            self._container = av.open(url, options=options, timeout=_NETWORK_S)
            self._stream = self._container.streams.video[0]
        except (FFmpegError, OSError, IndexError) as error:
            raise UnavailableError(f"{self.name}: {_reason(error)}") from None
        self.fps = float(self._stream.average_rate or DEFAULT_FPS)

    def frames(self) -> Iterator[LiveFrame]:
        """Yield frames until the camera ends."""
        start_s = time.monotonic()
        with self._container:
            try:
                for index, frame in enumerate(self._container.decode(self._stream)):
                    image: Any = frame.to_ndarray(format="rgb24")
                    yield LiveFrame(index, time.monotonic() - start_s, image)
            except FFmpegError as error:
                raise UnavailableError(f"{self.name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or "no video").splitlines()[0]


def open_source(source: str | None, camera: int | None, topic: str | None = None) -> LiveSource:
    """Return the source of a path, a URL or the index of a camera.

    Args:
        source: a file, a folder of frames or a URL.
        camera: index of a camera instead.
        topic: of the images of a recording that has several.

    Raises:
        InputError: not exactly one of them, or nothing that can be read.
        UnavailableError: the camera cannot be opened.
    """
    if (source is None) == (camera is None):
        raise InputError("name a video file, an rtsp:// address, or --camera INDEX")
    if camera is not None:
        return CameraSource(camera)
    if source is not None and source.startswith(NETWORK_SCHEMES):
        return NetworkSource(source)
    if source is not None and "://" in source:
        raise DatasetError(f"{source[:80]}: only files and {', '.join(NETWORK_SCHEMES)} are read")
    return RecordedSource(open_clip(Path(source or ""), topic=topic))


def paced(frames: Iterator[LiveFrame]) -> Iterator[LiveFrame]:
    """Yield recorded frames when they are due; the first one at once."""
    start_s = time.monotonic()
    for frame in frames:
        time.sleep(max(0.0, start_s + frame.pts_s - time.monotonic()))
        yield frame
