"""MCAP recordings of robots as clips: the images of one topic, with their own times.

A recording is not trusted: records, chunks and what they unpack to are bounded before memory is
taken for them, the index at its end is not used, and messages are read by their known layouts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from amodal_model.errors import DatasetError, LimitError, MissingExtraError
from amodal_model.video import DEFAULT_FPS, Frame, FrameCheck, no_check
from amodal_model.youtube_vis import MAX_FRAMES
from amodal_service.recorded_images import ImageMessage, Reader, reader_of

if TYPE_CHECKING:
    from mcap.records import Chunk

SUFFIX = ".mcap"
MAX_RECORD_BYTES = 256 << 20
MAX_CHUNK_BYTES = 256 << 20
MAX_CHANNELS = 10_000
_MAX_WINDOW = 128 << 20
_RECORD = struct.Struct("<BQ")


class RecordedImage(NamedTuple):
    """An image message of a recording.

    Attributes:
        topic: that it was sent on.
        stamp_ns: of its header, else when it was logged; ns.
        message: the image.
    """

    topic: str
    stamp_ns: int
    message: ImageMessage


def read_images(path: Path, topic: str | None = None) -> Iterator[RecordedImage]:
    """Yield the images of a recording in file order, of one topic or of all.

    Raises:
        DatasetError: damaged or truncated; all images before the damage are given out first.
        LimitError: a record or chunk that is too large.
        MissingExtraError: the extra ``mcap`` is not installed.
    """
    channels: dict[int, tuple[str, Reader | None]] = {}
    schemas: dict[int, str] = {}
    count = 0
    with _explained(path):
        for record in _records(path):
            kind = type(record).__name__
            if kind == "Schema":
                schemas[record.id] = record.name
            elif kind == "Channel":
                reader = reader_of(schemas.get(record.schema_id, ""), record.message_encoding)
                channels[record.id] = (record.topic, reader)
                if len(channels) > MAX_CHANNELS or len(schemas) > MAX_CHANNELS:
                    raise LimitError(f"more than {MAX_CHANNELS} channels (MAX_CHANNELS)")
            elif kind == "Message":
                name, reader = channels.get(record.channel_id, ("", None))
                if reader is None or topic not in (None, name):
                    continue
                try:
                    message = reader(record.data)
                except DatasetError as error:
                    raise DatasetError(f"{name}, image {count}: {error}") from None
                yield RecordedImage(name, message.stamp_ns or record.log_time, message)
                count += 1


@dataclass(frozen=True)
class Recording:
    """The images of one topic, as a clip.

    Attributes:
        path: of the recording.
        topic: of the images.
        frame_size: ``(height, width)`` of every image, pixels.
        fps: average, by the stamps.
        length: images of the topic.
        start_ns: stamp of the first image.
    """

    path: Path
    topic: str
    frame_size: tuple[int, int]
    fps: float
    length: int
    start_ns: int

    def count(self, check: FrameCheck = no_check) -> int:
        """Return the number of images, known since the recording was opened."""
        check(self.length)
        return self.length

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """Yield the images from number ``first`` on, at seconds after the first one.

        A stamp that does not move forward is replaced by the time after the one before.

        Raises:
            DatasetError: damaged, truncated, or an image of another size.
        """
        time_s = -1.0 / self.fps
        for index, image in enumerate(read_images(self.path, self.topic)):
            stamp_s = (image.stamp_ns - self.start_ns) / 1e9
            time_s = stamp_s if stamp_s > time_s else time_s + 1.0 / self.fps
            if index < first:
                continue
            where = f"{self.path}: {self.topic}, image {index}"
            try:
                size = image.message.size()
                if size != self.frame_size:
                    height, width = self.frame_size
                    raise DatasetError(f"is {size[1]}x{size[0]}, the first is {width}x{height}")
                pixels = image.message.pixels()
            except (DatasetError, LimitError) as error:
                raise type(error)(f"{where}: {error}") from None
            yield Frame(index, time_s, pixels)


def open_recording(path: Path, topic: str | None = None) -> Recording:
    """Return the clip of a recording's images; it is read once, without making pictures.

    Args:
        path: an MCAP file.
        topic: of the images; needed where there are several.

    Raises:
        DatasetError: missing, damaged, no images, or several topics and none was named.
        LimitError: too many images, or too large.
        MissingExtraError: the extra ``mcap`` is not installed.
    """
    found: dict[str, Recording] = {}
    last_ns: dict[str, int] = {}
    for image in read_images(path, topic):
        name = image.topic
        if name not in found:
            try:
                size = image.message.size()
            except (DatasetError, LimitError) as error:
                raise type(error)(f"{path}: {name}: {error}") from None
            found[name] = Recording(path, name, size, DEFAULT_FPS, 0, image.stamp_ns)
        clip = found[name] = replace(found[name], length=found[name].length + 1)
        last_ns[name] = image.stamp_ns
        if clip.length > MAX_FRAMES:
            raise LimitError(f"{path}: more than {MAX_FRAMES} images (MAX_FRAMES)")
    if not found:
        wanted = "no images" if topic is None else f"no images on topic {topic!r}"
        raise DatasetError(f"{path}: {wanted} (sensor_msgs Image or CompressedImage, Foxglove)")
    if len(found) > 1:
        names = ", ".join(f"{name} ({each.length})" for name, each in sorted(found.items()))
        raise DatasetError(f"{path}: images on {len(found)} topics, name one with --topic: {names}")
    (name, clip), *_ = found.items()
    return replace(clip, fps=_rate(clip.length, clip.start_ns, last_ns[name]))


def _rate(length: int, first_ns: int, last_ns: int) -> float:
    seconds = (last_ns - first_ns) / 1e9
    rate = (length - 1) / seconds if seconds > 0 else DEFAULT_FPS
    return rate if 0.001 <= rate <= 1000 else DEFAULT_FPS


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file makes its readers raise into one line."""
    try:
        yield
    except (DatasetError, LimitError) as error:
        raise type(error)(f"{path}: {error}") from None
    except MissingExtraError:
        raise
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except Exception as error:
        text = str(error).splitlines()[:1] or [type(error).__name__]
        raise DatasetError(f"{path}: damaged or truncated recording ({text[0]})") from None


def _records(path: Path) -> Iterator[Any]:
    """Yield the records of a recording, those of its chunks among them."""
    try:
        from mcap.records import Chunk  # noqa: PLC0415  an extra
        from mcap.stream_reader import StreamReader  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError(
            "MCAP recordings need more packages: pip install 'amodal[mcap]'"
        ) from None
    with path.open("rb") as file:
        bounded = cast("IO[bytes]", _Bounded(file, path.stat().st_size))
        reader = StreamReader(bounded, emit_chunks=True, record_size_limit=MAX_RECORD_BYTES)
        for record in reader.records:
            if isinstance(record, Chunk):
                yield from _chunk_records(record)
            else:
                yield record


class _Bounded:
    """A file that is never asked for more than is left of it, whatever a record says."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size

    def read(self, length: int) -> bytes:
        found = self._file.read(min(length, self._left))
        self._left -= len(found)
        return found


def _chunk_records(chunk: Chunk) -> Iterator[Any]:
    """Yield the schemas, channels and messages of a chunk, one at a time."""
    from mcap.data_stream import ReadDataStream  # noqa: PLC0415  an extra
    from mcap.opcode import Opcode  # noqa: PLC0415
    from mcap.records import Channel, Message, Schema  # noqa: PLC0415

    data = _unpacked(chunk)
    at = 0
    while at < len(data):
        opcode, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        body = ReadDataStream(BytesIO(data[at : at + length]))
        if length > len(data) - at:
            raise DatasetError(f"record of {length} bytes, {len(data) - at} are left of its chunk")
        if opcode == Opcode.SCHEMA:
            yield Schema.read(body)
        elif opcode == Opcode.CHANNEL:
            yield Channel.read(body)
        elif opcode == Opcode.MESSAGE:
            yield Message.read(body, length)
        at += length


def _unpacked(chunk: Chunk) -> bytes:
    """Return the data of a chunk, never more than it may be."""
    size = chunk.uncompressed_size
    if size > MAX_CHUNK_BYTES:
        raise LimitError(f"chunk of {size} bytes, limit {MAX_CHUNK_BYTES} (MAX_CHUNK_BYTES)")
    unpack = _UNPACK.get(chunk.compression)
    if unpack is None:
        raise DatasetError(f"chunk compression {chunk.compression[:40]!r} is not known: zstd, lz4")
    data = unpack(chunk.data, size)
    if len(data) != size:
        raise DatasetError(f"a chunk says that it holds {size} bytes, it holds another number")
    return data


def _unpack_zstd(data: bytes, size: int) -> bytes:
    import zstandard  # noqa: PLC0415  comes with mcap

    reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(BytesIO(data))
    parts = bytearray()
    while len(parts) <= size and (part := reader.read(size + 1 - len(parts))):
        parts += part
    return bytes(parts)


def _unpack_lz4(data: bytes, size: int) -> bytes:
    import lz4.frame  # noqa: PLC0415  comes with mcap

    unpacked: bytes = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    return unpacked


_UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "": lambda data, size: data,
    "zstd": _unpack_zstd,
    "lz4": _unpack_lz4,
}
