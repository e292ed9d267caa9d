"""What a frame is made of before it is sent: image, visible masks, header."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from amodal_client.errors import UsageError
from amodal_client.stream_messages import BoxPx, FrameMeta, GivenObject, MaskRle
from amodal_client.stream_wire import HEADER, Codec, Header, Op, encode_meta, pack
from amodal_client.values import MAX_SIDE, Mask

Image: TypeAlias = NDArray[np.uint8]
ImageCodec = Literal["jpeg", "png", "rgb8"]
Masks: TypeAlias = Mapping[int, Mask] | Iterable[GivenObject | tuple[int, Mask]]
Size: TypeAlias = tuple[int, int]

JPEG_QUALITY = 90
MAX_OBJECTS = 1024
MAX_DEADLINE_MS = 600_000
_MAX_NS = 2**63 - 1
_CODECS = {"jpeg": Codec.JPEG, "png": Codec.PNG, "rgb8": Codec.RGB8}
_MAGIC = {b"\xff\xd8\xff": Codec.JPEG, b"\x89PNG\r\n\x1a\n": Codec.PNG}


class OutgoingFrame:
    """A frame as it will be sent; an image given as an array is coded once, when asked for.

    Attributes:
        capture_ns: when it was taken; 0: not known.
        size: height and width, pixels; zeros where only the server will know.
    """

    def __init__(
        self,
        image: bytes | Image | None,
        codec: Codec,
        meta: bytes,
        size: Size,
        times: tuple[int, int],
    ) -> None:
        self.capture_ns, self._deadline_ms = times
        self.size = size
        self._image, self._codec, self._meta = image, codec, meta

    @property
    def is_coded(self) -> bool:
        """Whether nothing is left to code."""
        return not isinstance(self._image, np.ndarray)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes here."""
        image = self._image
        size = 0 if image is None else len(image) if isinstance(image, bytes) else image.nbytes
        return HEADER.size + len(self._meta) + size

    def code(self) -> None:
        """Code the image, if that is still to be done; may run in a thread."""
        if isinstance(self._image, np.ndarray):
            self._image = _coded(self._image, self._codec)

    def packed(self, seq: int, flags: int = 0) -> bytes:
        """Return the message."""
        self.code()
        image = self._image if isinstance(self._image, bytes) else b""
        height, width = self.size
        header = Header(
            Op.FRAME,
            seq,
            self.capture_ns,
            self._deadline_ms,
            width,
            height,
            self._codec,
            flags,
        )
        return pack(header, self._meta, image)


def make_frame(
    image: bytes | bytearray | memoryview | Image | None,
    objects: Masks | None,
    *,
    codec: ImageCodec = "jpeg",
    size: Size | None = None,
    times: tuple[int, int] = (0, 0),
) -> OutgoingFrame:
    """Return a frame.

    Args:
        image: RGB uint8 (H, W, 3), or the bytes of a JPEG or PNG file; none: masks only.
        objects: visible masks, bool (H, W), by track id; or `GivenObject` values.
        codec: how an array is coded.
        size: height and width of the frames before, where they are known.
        times: when it was taken, ns; and within which its result is wanted, ms.

    Raises:
        UsageError: none of these, or they do not fit each other.
    """
    _check_times(*times)
    coded, found = _image_of(image, codec)
    own = coded.shape[:2] if isinstance(coded, np.ndarray) else None
    given, of_masks = _objects_of(objects, own)
    frame_size = own or of_masks or (size if image is None else None)
    if frame_size is None and image is None:
        raise UsageError(
            "size of the frame is not known: give an image or a mask, or frame_size to stream()"
        )
    meta = encode_meta(FrameMeta(given))
    return OutgoingFrame(coded, found, meta, frame_size or (0, 0), times)


def _check_times(capture_ns: int, deadline_ms: int) -> None:
    if not 0 <= capture_ns <= _MAX_NS:
        raise UsageError(f"capture_ns is {capture_ns}, must be from 0 to {_MAX_NS}")
    if not 0 <= deadline_ms <= MAX_DEADLINE_MS:
        raise UsageError(f"deadline_ms is {deadline_ms}, must be from 0 to {MAX_DEADLINE_MS}")


def _image_of(
    image: bytes | bytearray | memoryview | Image | None, codec: ImageCodec
) -> tuple[bytes | Image | None, Codec]:
    if image is None:
        return None, Codec.NONE
    if isinstance(image, np.ndarray):
        if codec not in _CODECS:
            raise UsageError(f"codec {codec!r} is not one of {', '.join(_CODECS)}")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise UsageError(f"image is {image.dtype} {image.shape}, must be uint8 (H, W, 3) RGB")
        _check_size((image.shape[0], image.shape[1]))
        return np.array(image, order="C"), _CODECS[codec]  # the caller may use its own again
    content = bytes(image)
    for magic, found in _MAGIC.items():
        if content.startswith(magic):
            return content, found
    raise UsageError(f"image bytes begin with {content[:8]!r}: neither JPEG nor PNG")


def _coded(image: Image, codec: Codec) -> bytes:
    if codec == Codec.RGB8:
        return image.tobytes()
    import cv2  # noqa: PLC0415  slow to load, and not needed for masks or coded images

    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if codec == Codec.PNG:
        is_good, content = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    else:
        is_good, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not is_good:
        raise UsageError(f"image {image.shape} cannot be coded as {codec.name}")
    return content.tobytes()


def _check_size(size: Size) -> None:
    if not (0 < size[0] <= MAX_SIDE and 0 < size[1] <= MAX_SIDE):
        raise UsageError(f"frame is {size[1]}x{size[0]}, limit {MAX_SIDE}x{MAX_SIDE}")


def _objects_of(
    objects: Masks | None, size: Size | None
) -> tuple[tuple[GivenObject, ...] | None, Size | None]:
    """Return the objects as they are sent, and the size of their frame where they tell it."""
    if objects is None:
        return None, None
    pairs = objects.items() if isinstance(objects, Mapping) else objects
    given: list[GivenObject] = []
    for each in pairs:
        if len(given) >= MAX_OBJECTS:
            raise UsageError(f"more than {MAX_OBJECTS} objects in a frame")
        if isinstance(each, GivenObject):
            size = size or (each.rle.size if each.rle is not None and each.bbox is None else None)
            given.append(each)
            continue
        track_id, mask = each
        size = _mask_size(track_id, mask, size)
        placed = placed_mask(mask)
        if placed is not None:
            given.append(GivenObject(track_id, placed[1], placed[0]))
    return tuple(given), size


def _mask_size(track_id: int, mask: Mask, size: Size | None) -> Size:
    if np.ndim(mask) != 2 or mask.dtype != np.bool_:
        kind = f"{getattr(mask, 'dtype', type(mask).__name__)} {np.shape(mask)}"
        raise UsageError(f"mask of track {track_id} is {kind}, must be bool (H, W)")
    own = (mask.shape[0], mask.shape[1])
    if size is not None and own != tuple(size):
        raise UsageError(
            f"mask of track {track_id} is {own[1]}x{own[0]}, the frame {size[1]}x{size[0]}"
        )
    _check_size(own)
    return own


def placed_mask(mask: Mask) -> tuple[BoxPx, MaskRle] | None:
    """Return the box (x, y, width, height) of a mask and its runs there; None: no pixel."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(columns[0]), int(columns[-1]) + 1
    crop = np.asfortranarray(mask[top:bottom, left:right], np.uint8)
    counts = coco_mask.encode(crop)["counts"].decode("ascii")
    box = (left, top, right - left, bottom - top)
    return box, MaskRle((bottom - top, right - left), counts)
