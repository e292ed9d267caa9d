"""Reading clips: a video file or a folder of frames, as frames with true times.

What a container says about itself is a hint and no more: its frame count is never used, its
rotation is applied, and every frame is checked against the first. Only local files are opened:
the path is never parsed as a URL, and playlists, concatenations and image patterns are not among
the formats that may be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

from amodal_model.errors import DatasetError, LimitError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.youtube_vis import MAX_FRAMES

MIN_SIDE = 16
MAX_PIXELS = 64_000_000
DEFAULT_FPS = 25.0
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,flv,ogg,asf,gif,apng,"
    "h264,hevc,av1,obu,ivf,mjpeg,yuv4mpegpipe,mxf,nut,dv,rm,wtv"
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

FrameCheck: TypeAlias = Callable[[int], None]
"""Is told how many frames have been counted; raises where the counting is to end."""


def no_check(count: int) -> None:
    """Let every count pass."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded frame: its number from 0, its time in seconds, uint8 RGB (H, W, 3)."""

    index: int
    pts_s: float
    image: UInt8[np.ndarray, "H W 3"]


@runtime_checkable
class Clip(Protocol):
    """A clip that can be read from its start, any number of times."""

    @property
    def path(self) -> Path:
        """The file or folder."""

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(height, width)`` of every frame, pixels, after rotation."""

    @property
    def fps(self) -> float:
        """Average frames per second; the true times are the ``pts_s`` of the frames."""

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """Yield the frames from number ``first`` on, at strictly increasing times.

        Raises:
            DatasetError: damaged, truncated, or a frame of another size; names the last good frame.
            LimitError: more frames or seconds than allowed.
        """

    def count(self, check: FrameCheck = no_check) -> int:
        """Return the number of frames; a video is decoded for it, without making pictures.

        Raises:
            DatasetError: damaged or truncated; names the last good frame.
            LimitError: more frames or seconds than allowed.
        """


@dataclass(frozen=True)
class ClipLimits:
    """How much of a clip is read before it is refused.

    Attributes:
        max_pixels: pixels of one frame; checked before a frame is decoded, and by the decoder.
        max_frames: frames of the clip.
        max_duration_s: from the first frame to the last, seconds. What the header says counts too.
    """

    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES
    max_duration_s: float = float("inf")


_NO_FURTHER_LIMITS = ClipLimits()


def open_clip(
    path: Path, *, folder_fps: float = DEFAULT_FPS, limits: ClipLimits = _NO_FURTHER_LIMITS
) -> Clip:
    """Return the clip of a video file or of a folder of frames (in natural order of their names).

    Args:
        path: a video file or a folder of images.
        folder_fps: frames per second of a folder, which has no clock of its own.
        limits: how much of it is read.

    Raises:
        DatasetError: missing, empty, or nothing that can be read as video.
        LimitError: frames smaller than ``MIN_SIDE`` or larger than ``MAX_SIDE`` or ``max_pixels``,
            or a header that promises more than the limits allow.
    """
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise DatasetError(f"{path}: a folder without frames ({', '.join(IMAGE_SUFFIXES)})")
        height, width = _read_image(files[0], limits).shape[:2]
        return _FrameFolder(path, (height, width), folder_fps, tuple(files), limits)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path}: empty file (0 bytes)")
    return _open_file(path, limits)


def reopen_clip(
    path: Path, frame_size: tuple[int, int], fps: float, limits: ClipLimits = _NO_FURTHER_LIMITS
) -> Clip:
    """Return a clip that `open_clip` has seen before, without looking into it again.

    Args:
        path: a video file or a folder of images.
        frame_size: the clip's, as it was.
        fps: the clip's, as it was.
        limits: how much of it is read.
    """
    if path.is_dir():
        return _FrameFolder(path, frame_size, fps, tuple(image_files(path)), limits)
    return _VideoFile(path, frame_size, fps, limits)


def image_files(folder: Path) -> list[Path]:
    """Return the images of a folder, ``2.png`` before ``10.png``."""
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
    return sorted(found, key=lambda p: (_natural_key(p.name), p.name))


def _natural_key(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d+|\D+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _check_size(path: Path, width: int, height: int, limits: ClipLimits) -> None:
    """Raise LimitError for a frame that is too small or too large to work on."""
    if min(width, height) < MIN_SIDE or max(width, height) > MAX_SIDE:
        raise LimitError(
            f"{path}: frame is {width}x{height}, limit {MIN_SIDE} to {MAX_SIDE} pixels a side "
            "(MIN_SIDE, MAX_SIDE)"
        )
    if width * height > limits.max_pixels:
        raise LimitError(
            f"{path}: frame is {width}x{height} = {width * height} pixels, limit "
            f"{limits.max_pixels} (max_pixels)"
        )


def _check_shape(path: Path, index: int, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Raise DatasetError for a frame of another size than the clip's."""
    if shape[:2] != size:
        raise DatasetError(
            f"{path}: frame {index} is {shape[1]}x{shape[0]}, the clip is {size[1]}x{size[0]}"
        )


def _check_length(path: Path, index: int, passed_s: float, limits: ClipLimits) -> None:
    """Raise LimitError for a frame too many or too late."""
    if index >= limits.max_frames:
        raise LimitError(f"{path}: more than {limits.max_frames} frames (max_frames)")
    if passed_s > limits.max_duration_s:
        raise LimitError(
            f"{path}: frame {index} is at {passed_s:.1f} s, limit {limits.max_duration_s:.1f} s "
            "(max_duration_s)"
        )


@dataclass(frozen=True)
class _FrameFolder:
    path: Path
    frame_size: tuple[int, int]
    fps: float
    files: tuple[Path, ...]
    limits: ClipLimits

    def frames(self, first: int = 0) -> Iterator[Frame]:
        for index in range(first, len(self.files)):
            _check_length(self.path, index, index / self.fps, self.limits)
            image = _read_image(self.files[index], self.limits)
            _check_shape(self.files[index], index, image.shape, self.frame_size)
            yield Frame(index, index / self.fps, image)

    def count(self, check: FrameCheck = no_check) -> int:
        count = len(self.files)
        _check_length(self.path, count - 1, (count - 1) / self.fps, self.limits)
        check(count)
        return count


def _read_image(path: Path, limits: ClipLimits) -> UInt8[np.ndarray, "H W 3"]:
    """Return an image file as uint8 RGB: grey spread, alpha dropped, 16 bits cut to 8."""
    content = path.read_bytes()
    if content.startswith(_PNG_SIGNATURE) and len(content) >= 24:
        width, height = int.from_bytes(content[16:20]), int.from_bytes(content[20:24])
        _check_size(path, width, height, limits)  # a small PNG may unfold to gigabytes
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise DatasetError(f"{path}: not an image that can be read ({len(content)} bytes)")
    _check_size(path, image.shape[1], image.shape[0], limits)
    return image.astype(np.uint8, copy=False)


@dataclass(frozen=True)
class _VideoFile:
    path: Path
    frame_size: tuple[int, int]
    fps: float
    limits: ClipLimits

    def frames(self, first: int = 0) -> Iterator[Frame]:
        convert = VideoReformatter()
        for index, (time_s, decoded) in enumerate(self._timed()):
            if index < first:
                continue
            image = _rgb(decoded, convert)
            _check_shape(self.path, index, image.shape, self.frame_size)
            yield Frame(index, time_s, image)

    def count(self, check: FrameCheck = no_check) -> int:
        count = 0
        for count, _ in enumerate(self._timed(), start=1):
            check(count)
        return count

    def _timed(self) -> Iterator[tuple[float, av.VideoFrame]]:
        """Yield the decoded frames, each with its time, as far as the limits allow."""
        start_s, time_s, step_s = 0.0, -np.inf, 1.0 / self.fps
        for index, decoded in enumerate(_decode(self.path, self.limits)):
            time_s = _next_time(time_s, decoded.time, step_s)
            start_s = time_s if index == 0 else start_s
            _check_length(self.path, index, time_s - start_s, self.limits)
            yield time_s, decoded


def _open_file(path: Path, limits: ClipLimits) -> Clip:
    with _container(path, limits) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        rate = stream.average_rate or stream.guessed_rate
        if width and height:
            _check_size(path, width, height, limits)
        _check_header_duration(path, container, limits)
        first = next(_decoded(path, container, stream), None)
    if first is None:
        raise DatasetError(f"{path}: no frame in its video stream")
    image = _rgb(first, VideoReformatter())
    _check_size(path, image.shape[1], image.shape[0], limits)
    fps = float(rate) if rate and 0 < rate <= 1000 else DEFAULT_FPS
    return _VideoFile(path, (image.shape[0], image.shape[1]), fps, limits)


def _check_header_duration(path: Path, container: InputContainer, limits: ClipLimits) -> None:
    duration_s = (container.duration or 0) / av.time_base
    if duration_s > limits.max_duration_s + 1:  # a second for what containers round or pad
        raise LimitError(
            f"{path}: {duration_s:.1f} s by its header, limit {limits.max_duration_s:.1f} s "
            "(max_duration_s)"
        )


def _next_time(previous_s: float, stamp_s: float | None, step_s: float) -> float:
    """Return the time of a frame: its own stamp, where there is one and it moves forward."""
    if stamp_s is not None and stamp_s > previous_s:
        return float(stamp_s)
    return previous_s + step_s if np.isfinite(previous_s) else 0.0


def _rgb(frame: av.VideoFrame, convert: VideoReformatter) -> UInt8[np.ndarray, "H W 3"]:
    """Return the decoded frame as uint8 RGB, turned upright."""
    image = convert.reformat(frame, format="rgb24").to_ndarray()
    quarter_turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image


@contextmanager
def _container(path: Path, limits: ClipLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file and its first real video stream (a cover picture is none)."""
    options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        container = av.open(f"file:{path}", container_options=options)
    except (FFmpegError, ValueError) as error:
        raise DatasetError(f"{path}: not a video that can be read ({_reason(error)})") from None
    with container:
        for stream in container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                stream.thread_type = "AUTO"
                # The decoder itself refuses a picture that grows in the middle of a stream.
                stream.codec_context.options = {"max_pixels": str(_padded(limits.max_pixels))}
                yield container, stream
                return
        raise DatasetError(f"{path}: no video stream in this file")


def _padded(pixels: int) -> int:
    """Return the pixels a decoder may allocate for a frame: sides are padded to whole blocks."""
    return pixels + 256 * MAX_SIDE


def _decode(path: Path, limits: ClipLimits) -> Iterator[av.VideoFrame]:
    """Yield the decoded frames of a file."""
    with _container(path, limits) as (container, stream):
        yield from _decoded(path, container, stream)


def _decoded(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
    """Yield the decoded frames; a corrupt packet ends the clip with the last good frame's number.

    The decoder works some frames ahead: it is emptied before the damage is reported, so that the
    frames before it are all given out.
    """
    count = 0
    damage = None
    packets = container.demux(stream)
    while damage is None:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            damage = "a packet is cut short" if packet.is_corrupt else None
            decoded = [] if damage else packet.decode()
        except FFmpegError as error:
            damage, decoded = _reason(error), []
        for frame in decoded:
            yield frame
            count += 1
    for frame in _drain(stream):
        yield frame
        count += 1
    last = f"the last good frame is {count - 1}" if count else "no frame before it is good"
    raise DatasetError(f"{path}: damaged or truncated ({damage}); {last}")


def _drain(stream: VideoStream) -> list[av.VideoFrame]:
    try:
        return list(stream.codec_context.decode(None))
    except FFmpegError:
        return []


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0]
