"""Runs of a binary mask in column order, and COCO's text of them.

A mask of H x W pixels is read down its columns, left to right, as runs that alternate between
background, which comes first, and object. Position ``p`` is row ``p % H`` of column ``p // H``.
COCO writes runs from the fourth on as the difference to the run two before, each number in digits
of five bits, least first: bit 5 says that another digit follows, bit 4 of the last is the sign.

Source: pycocotools, maskApi.c (``rleEncode``, ``rleToString``, ``rleFrString``).
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Int64, UInt8

from amodal_model.errors import InputError

_MAX_DIGITS = 7
"""Of one number: the largest frame has 29 bits, and 35 cannot overflow what follows."""


def runs_from_counts(counts: str, pixels: int) -> Int64[np.ndarray, " R"]:
    """Return the runs of COCO's text, none below 0, that add up to ``pixels``.

    Raises:
        InputError: they do not, or the text is none of COCO's.
    """
    # what lies below "0" wraps around to more than 63
    codes = np.frombuffer(counts.encode("ascii"), np.uint8) - np.uint8(48)
    if codes.size == 0 or codes.max() > 63 or codes[-1] >= 0x20:
        raise InputError(f"RLE counts are not COCO runs: {counts[:24]!r}")
    runs = _numbers(codes.astype(np.int64))
    runs[1::2].cumsum(out=runs[1::2])
    runs[2::2].cumsum(out=runs[2::2])
    if runs.min() < 0 or runs.max() > pixels:
        odd = runs[(runs < 0) | (runs > pixels)][0]
        raise InputError(f"RLE counts hold a run of {odd} pixels, the frame has {pixels}")
    total = int(runs.sum())
    if total != pixels:
        raise InputError(f"RLE runs add up to {total} pixels, the frame has {pixels}")
    return runs


def _numbers(codes: Int64[np.ndarray, " D"]) -> Int64[np.ndarray, " R"]:
    """Return the signed numbers that digits spell."""
    ends = (codes < 0x20).nonzero()[0]
    numbers = (codes[ends] ^ 0x10) - 0x10
    if ends.size == codes.size:
        return numbers
    lengths = ends + 1
    lengths[1:] -= lengths[:-1].copy()
    longest = int(lengths.max())
    if longest > _MAX_DIGITS:
        raise InputError(f"RLE counts hold a run of {longest} digits, limit {_MAX_DIGITS}")
    for digit in range(1, longest):
        rows = (lengths > digit).nonzero()[0]
        numbers[rows] = (numbers[rows] << 5) + (codes[ends[rows] - digit] & 0x1F)
    return numbers


def is_shortest(counts: str, runs: Int64[np.ndarray, " R"]) -> bool:
    """Return whether a text of runs is the one that `counts_from_runs` gives.

    Others have a run of no pixels that is not the first, or a number with a digit too many.

    Args:
        counts: COCO's text.
        runs: that it spells.
    """
    if not runs[1:].all():
        return False
    codes = np.frombuffer(counts.encode("ascii"), np.uint8) - np.uint8(48)
    before, last = codes[:-1], codes[1:]
    # the last digit of a number says nothing where all of it is the sign of the one before
    sign = (before & 0x10) // 0x10 * 0x1F
    return not ((before >= 0x20) & (last == sign)).any()


def _short_texts() -> UInt8[np.ndarray, "32768 3"]:
    """Return the digits of the numbers from -16384 on, as characters; 0 where there is none."""
    numbers = np.arange(-(1 << 14), 1 << 14)
    size = np.where(numbers < 0, ~numbers, numbers)
    texts = np.zeros((len(numbers), 3), np.uint8)
    is_written = np.ones(len(numbers), bool)
    for digit in range(3):
        has_more = (size >> (5 * digit + 4)) > 0
        characters = ((numbers >> (5 * digit)) & 0x1F) + has_more * 0x20 + 48
        texts[:, digit] = np.where(is_written, characters, 0)
        is_written &= has_more
    return texts


_SHORT_TEXTS = _short_texts()
_SHORT = len(_SHORT_TEXTS) // 2


def counts_from_runs(runs: Int64[np.ndarray, " R"]) -> str:
    """Return COCO's text of runs."""
    numbers = runs.copy()
    numbers[3:] -= runs[1:-2]
    if numbers.max() < _SHORT and numbers.min() >= -_SHORT:
        characters: bytes = _SHORT_TEXTS[numbers + _SHORT].tobytes()
        return characters.translate(None, b"\0").decode("ascii")
    size = np.where(numbers < 0, ~numbers, numbers)
    longest = 1
    while size.max() >> (5 * longest - 1):
        longest += 1
    shifts = 5 * np.arange(longest)
    more = (size[:, None] >> (shifts + 4)) > 0
    digits = ((numbers[:, None] >> shifts) & 0x1F) + (more * 0x20 + 48)
    is_written = np.ones_like(more)
    is_written[:, 1:] = more[:, :-1]
    return digits[is_written].astype(np.uint8).tobytes().decode("ascii")


def box_from_runs(
    runs: Int64[np.ndarray, " R"], height: int
) -> tuple[tuple[int, int, int, int], Bool[np.ndarray, "h w"]]:
    """Return the tight box of a mask and its pixels in it; all 0 for a mask without any.

    The work is of the order of the runs and the box, not of the frame.

    Args:
        runs: of the mask.
        height: of the frame, pixels.
    """
    ends = runs.cumsum()
    first, last = ends[: runs.size - runs.size % 2 : 2], ends[1::2]
    if not runs[1::2].all():
        is_part = runs[1::2] > 0
        first, last = first[is_part], last[is_part]
    if first.size == 0:
        return (0, 0, 0, 0), np.zeros((0, 0), bool)
    column, row = np.divmod(first, height)
    x0, x1 = int(column[0]), int((last[-1] - 1) // height) + 1
    row_end = row + last - first
    y0, y1 = int(row.min()), int(row_end.max())
    if y1 > height:  # a run that goes on in the next column has the last row and the first
        y0, y1 = 0, height
    side = y1 - y0
    start = (column - x0) * side + (row - y0)
    edges = np.zeros(2 * start.size + 2, np.int64)
    edges[1:-1:2], edges[2:-1:2], edges[-1] = start, start + (last - first), (x1 - x0) * side
    is_object = np.zeros(edges.size - 1, np.uint8)
    is_object[1::2] = 1
    columns = np.repeat(is_object, edges[1:] - edges[:-1]).reshape(x1 - x0, side)
    pixels = np.asarray(cv2.transpose(columns), np.uint8).reshape(side, x1 - x0)
    return (x0, y0, x1, y1), pixels.view(bool)


def runs_from_box(
    pixels: Bool[np.ndarray, "h w"], corner_xy: tuple[int, int], frame_size: tuple[int, int]
) -> Int64[np.ndarray, " R"]:
    """Return the runs of a mask that is stored on a box of a frame.

    Args:
        pixels: the mask inside its box.
        corner_xy: column and row of the box's first pixel.
        frame_size: ``(height, width)`` of the frame, pixels.
    """
    height, width = frame_size
    tall, wide = pixels.shape
    # a row of background below ends each column's runs; a box as tall as the frame has none
    side = tall + (tall < height)
    columns = np.zeros(wide * side + 2, np.uint8)
    if pixels.size:
        turned = cv2.transpose(np.ascontiguousarray(pixels).view(np.uint8))
        columns[1:-1].reshape(wide, side)[:, :tall] = turned.reshape(wide, tall)
    changes = (columns[1:] != columns[:-1]).nonzero()[0]
    x, y = corner_xy
    positions = (changes // side + x) * height + (changes % side + y) if side else changes
    edges = np.empty(positions.size + 2, np.int64)
    edges[0], edges[1:-1], edges[-1] = 0, positions, height * width
    runs = edges[1:] - edges[:-1]
    # the last run is written only where it has pixels
    return runs[:-1] if positions.size and runs[-1] == 0 else runs
