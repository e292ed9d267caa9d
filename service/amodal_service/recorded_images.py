"""Image messages of robots, as bytes: ``sensor_msgs`` of ROS 2 and Foxglove's compressed images.

The three messages have fixed layouts, so they are read as such: a recording's own message
definitions, which may say anything, are not followed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_client.stream_wire import Codec
from amodal_model.errors import DatasetError, LimitError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.video import MAX_PIXELS, MIN_SIDE
from amodal_service.coded_images import decode_image, image_size

_CHANNELS = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}
_PNG = b"\x89PNG"


class ImageMessage(NamedTuple):
    """An image as it was recorded.

    Attributes:
        stamp_ns: of the message's header; 0: not set.
        frame_id: of the camera.
        encoding: of the pixels (``rgb8``, ``bgr8``, ...); empty: ``data`` is a coded image.
        height: in pixels; 0 for a coded image.
        width: in pixels; 0 for a coded image.
        step: bytes from one row to the next; 0 for a coded image.
        data: the pixels or the coded image.
    """

    stamp_ns: int
    frame_id: str
    encoding: str
    height: int
    width: int
    step: int
    data: bytes

    @property
    def codec(self) -> Codec | None:
        """How a stream would send ``data`` as it is; ``None``: as its RGB pixels only."""
        if self.encoding:
            return None
        return Codec.PNG if self.data.startswith(_PNG) else Codec.JPEG

    def size(self) -> tuple[int, int]:
        """Return ``(height, width)``, pixels, without decoding.

        Raises:
            DatasetError: no image, or of a kind that is not known.
            LimitError: smaller or larger than a frame may be.
        """
        if self.codec is None:
            size = self._pixel_size()
        else:
            try:
                size = image_size(self.codec, memoryview(self.data), (0, 0))
            except ValueError as error:
                raise DatasetError(f"compressed image: {error}") from None
        height, width = size
        if min(size) < MIN_SIDE or max(size) > MAX_SIDE or height * width > MAX_PIXELS:
            raise LimitError(
                f"frame is {width}x{height}, limit {MIN_SIDE} to {MAX_SIDE} pixels a side and "
                f"{MAX_PIXELS} in all"
            )
        return size

    def _pixel_size(self) -> tuple[int, int]:
        channels = _CHANNELS.get(self.encoding)
        if channels is None:
            known = ", ".join(_CHANNELS)
            raise DatasetError(f"image encoding {self.encoding[:40]!r} is not known: {known}")
        if self.step < channels * self.width or len(self.data) < self.step * self.height:
            raise DatasetError(
                f"image of {self.width}x{self.height} {self.encoding} has {len(self.data)} bytes "
                f"in rows of {self.step}: too few"
            )
        return self.height, self.width

    def pixels(self) -> UInt8[np.ndarray, "H W 3"]:
        """Return the image as uint8 RGB.

        Raises:
            DatasetError: it cannot be decoded.
            LimitError: smaller or larger than a frame may be.
        """
        height, width = self.size()
        if self.codec is not None:
            try:
                return decode_image(self.codec, memoryview(self.data), (height, width))
            except ValueError as error:
                raise DatasetError(f"compressed image: {error}") from None
        channels = _CHANNELS[self.encoding]
        rows = np.frombuffer(self.data, np.uint8, self.step * height).reshape(height, self.step)
        image = rows[:, : channels * width].reshape(height, width, channels)
        conversion = _TO_RGB.get(self.encoding)
        return image if conversion is None else np.asarray(cv2.cvtColor(image, conversion))


Reader = Callable[[bytes], ImageMessage]


def reader_of(schema: str, encoding: str) -> Reader | None:
    """Return what reads the messages of a channel; ``None``: they are no images.

    Args:
        schema: name of the message type.
        encoding: of the message, ``cdr`` or ``protobuf``.
    """
    return _READERS.get((encoding, schema.replace("/msg/", "/")))


class _Cdr:
    """Reads CDR: little or big-endian, numbers aligned to their size after 4 bytes of header."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 4:
            raise DatasetError(f"image message is {len(data)} bytes, at least 4 are needed")
        self._data = data
        self._at = 4
        self._order = "<" if data[1] & 1 else ">"

    def number(self, kind: str = "I") -> int:
        size = struct.calcsize(kind)
        self._at += -(self._at - 4) % size
        try:
            (value,) = struct.unpack_from(self._order + kind, self._data, self._at)
        except struct.error:
            raise DatasetError(f"image message ends at byte {len(self._data)}") from None
        self._at += size
        return int(value)

    def stamp_ns(self) -> int:
        seconds = self.number("i")
        return max(0, seconds * 1_000_000_000 + self.number())

    def octets(self) -> bytes:
        length = self.number()
        found = self._data[self._at : self._at + length]
        if len(found) < length:
            raise DatasetError(f"image message tells of {length} bytes, {len(found)} follow")
        self._at += length
        return found

    def text(self) -> str:
        return self.octets().rstrip(b"\0").decode(errors="replace")


def _read_image(data: bytes) -> ImageMessage:
    cdr = _Cdr(data)
    stamp_ns, frame_id = cdr.stamp_ns(), cdr.text()
    height, width, encoding = cdr.number(), cdr.number(), cdr.text()
    cdr.number("B")  # whether bytes are swapped: of one byte they cannot be
    return ImageMessage(
        stamp_ns, frame_id, encoding or "?", height, width, cdr.number(), cdr.octets()
    )


def _read_compressed(data: bytes) -> ImageMessage:
    cdr = _Cdr(data)
    stamp_ns, frame_id, _ = cdr.stamp_ns(), cdr.text(), cdr.text()
    return ImageMessage(stamp_ns, frame_id, "", 0, 0, 0, cdr.octets())


def _read_foxglove_cdr(data: bytes) -> ImageMessage:
    cdr = _Cdr(data)
    return ImageMessage(cdr.stamp_ns(), cdr.text(), "", 0, 0, 0, cdr.octets())


def _read_foxglove_protobuf(data: bytes) -> ImageMessage:
    fields = _protobuf_fields(data)
    stamp = _protobuf_fields(_as_bytes(fields.get(1, b"")))
    seconds, nanos = _as_number(stamp.get(1, 0)), _as_number(stamp.get(2, 0))
    frame_id = _as_bytes(fields.get(4, b"")).decode(errors="replace")
    content = _as_bytes(fields.get(2, b""))
    return ImageMessage(seconds * 1_000_000_000 + nanos, frame_id, "", 0, 0, 0, content)


def _as_bytes(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else b""


def _as_number(value: bytes | int) -> int:
    return value if isinstance(value, int) and value < 1 << 63 else 0


def _protobuf_fields(data: bytes) -> dict[int, bytes | int]:
    """Return the last value of every field of a protobuf message that is a number or bytes."""
    fields: dict[int, bytes | int] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            fields[number], at = _varint(data, at)
            continue
        if kind == 2:
            length, at = _varint(data, at)
        else:
            length = {1: 8, 5: 4}.get(kind, len(data) + 1)
        if length > len(data) - at:
            raise DatasetError(f"image message is damaged at byte {at} of {len(data)}")
        fields[number] = data[at : at + length]
        at += length
    return fields


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise DatasetError(f"image message is damaged at byte {at} of {len(data)}")


_READERS: dict[tuple[str, str], Reader] = {
    ("cdr", "sensor_msgs/Image"): _read_image,
    ("cdr", "sensor_msgs/CompressedImage"): _read_compressed,
    ("cdr", "foxglove_msgs/CompressedImage"): _read_foxglove_cdr,
    ("protobuf", "foxglove.CompressedImage"): _read_foxglove_protobuf,
}
