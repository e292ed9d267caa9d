"""Images of frames: their size from the header, their pixels where a source needs them."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_client.stream_wire import Codec
from amodal_model.errors import InputError

_PNG = b"\x89PNG\r\n\x1a\n"
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_MAX_MARKERS = 4096
"""Before the size; more are there to keep us busy."""


def image_size(codec: int, payload: memoryview, stated: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image, from its header alone.

    Args:
        codec: of the payload; not ``NONE``.
        payload: the coded image.
        stated: ``(height, width)`` of the message's header; zeros: not stated.

    Returns:
        ``(height, width)``, pixels.

    Raises:
        InputError: no such image, or of another size than stated.
    """
    if codec == Codec.RGB8:
        size = stated
        if len(payload) != 3 * stated[0] * stated[1]:
            raise InputError(
                f"RGB8 image is {len(payload)} bytes, {stated[1]}x{stated[0]} needs "
                f"{3 * stated[0] * stated[1]}"
            )
    else:
        size = _jpeg_size(payload) if codec == Codec.JPEG else _png_size(payload)
    if stated != (0, 0) and size != stated:
        raise InputError(f"image is {size[1]}x{size[0]}, its message says {stated[1]}x{stated[0]}")
    return size


def decode_image(
    codec: int, payload: memoryview, size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Return the RGB pixels of an image whose size `image_size` found.

    Raises:
        InputError: it cannot be decoded.
    """
    data = np.frombuffer(payload, np.uint8)
    if codec == Codec.RGB8:
        return data.reshape(*size, 3)
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise InputError(f"image cannot be decoded: {error.err}") from None
    if image is None or image.shape[:2] != size:
        raise InputError(f"{Codec(codec).name} image cannot be decoded")
    return np.asarray(image, np.uint8)


def _png_size(payload: memoryview) -> tuple[int, int]:
    if len(payload) < 24 or bytes(payload[:8]) != _PNG or bytes(payload[12:16]) != b"IHDR":
        raise InputError("payload is not a PNG image")
    width, height = struct.unpack_from(">II", payload, 16)
    return height, width


def _jpeg_size(payload: memoryview) -> tuple[int, int]:
    """Return the size that the start-of-frame segment tells (ITU-T T.81, B.2.2)."""
    if bytes(payload[:2]) != b"\xff\xd8":
        raise InputError("payload is not a JPEG image")
    at = 2
    for _ in range(_MAX_MARKERS):
        if at + 4 > len(payload) or payload[at] != 0xFF:
            break
        marker = payload[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", payload, at + 2)
        if marker in _START_OF_FRAME and at + 9 <= len(payload):
            height, width = struct.unpack_from(">HH", payload, at + 5)
            return height, width
        at += 2 + length
    raise InputError("JPEG image has no size: it is damaged or cut short")
