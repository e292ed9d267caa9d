"""Masks: what the boxed algebra says equals what whole frames say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from amodal_model import masks
from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, box_mask, decode_rle, empty_mask, encode_rle

CASES = settings(max_examples=60, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def full_masks(draw: st.DrawFn) -> np.ndarray:
    return draw(arrays.arrays(bool, draw(shapes)))


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(shapes)
    sparse = arrays.arrays(bool, shape, fill=st.just(value=False))
    return draw(sparse), draw(sparse)


@CASES
@given(full_masks())
def test_rle_round_trip_is_the_mask(mask: np.ndarray) -> None:
    rle = encode_rle(box_mask(mask))
    np.testing.assert_array_equal(decode_rle(rle).full(), mask)


@CASES
@given(full_masks())
def test_rle_equals_that_of_pycocotools(mask: np.ndarray) -> None:
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(box_mask(mask))
    assert ours == {"size": list(mask.shape), "counts": theirs["counts"].decode()}


def test_large_masks_round_trip() -> None:
    """Runs of several digits, and long gaps that code as negative differences."""
    mask = np.zeros((1080, 1920), bool)
    mask[:, 7] = True
    mask[100:900, 300:1700] = np.random.default_rng(0).random((800, 1400)) < 0.001
    np.testing.assert_array_equal(decode_rle(encode_rle(box_mask(mask))).full(), mask)


def counts_of(*runs: int) -> str:
    """Encode runs as COCO does, without any check."""
    text = ""
    for index, run in enumerate(runs):
        value, is_more = run - (runs[index - 2] if index > 2 else 0), True
        while is_more:
            digit, value = value & 0x1F, value >> 5
            is_more = value != (-1 if digit & 0x10 else 0)
            text += chr(48 + (digit | (0x20 if is_more else 0)))
    return text


def test_runs_written_by_hand_decode() -> None:
    assert decode_rle({"size": [4, 5], "counts": counts_of(3, 4, 13)}).area == 4
    assert decode_rle({"size": [4, 5], "counts": counts_of(0, 20)}).area == 20


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(counts_of(3, 4, 12), id="too few"),
        pytest.param(counts_of(3, 4, 14), id="too many"),
        pytest.param(counts_of(3, 4, 10_000_000), id="far too many"),
        pytest.param(counts_of(30, -4, -6), id="negative"),
        pytest.param(counts_of(5, 4, 3, -2, 10), id="negative in between"),
        pytest.param("o" * 12 + "0", id="huge run"),
        pytest.param("ooooooo", id="never ends"),
        pytest.param("", id="none"),
        pytest.param("0", id="short"),
        pytest.param("3\u00e4", id="not ascii"),
        pytest.param("~~~", id="not runs"),
        pytest.param("\x00\x01", id="control"),
        pytest.param("0" * 100_000, id="endless zeros"),
        pytest.param(b"34=", id="bytes"),
        pytest.param([3, 4, 13], id="uncompressed"),
        pytest.param(None, id="null"),
    ],
)
def test_hostile_counts_are_refused(counts: Any) -> None:
    with pytest.raises(InputError, match="RLE") as caught:
        decode_rle({"size": [4, 5], "counts": counts})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "size",
    [None, [4], [4, 5, 6], [0, 5], [-4, 5], [4, 16385], [4.0, 5], ["4", 5], "45", [1 << 40, 1]],
)
def test_bad_sizes_are_refused(size: Any) -> None:
    with pytest.raises(InputError, match="RLE size must be"):
        decode_rle({"size": size, "counts": counts_of(20)})


@CASES
@given(st.text(alphabet=[chr(48 + code) for code in range(64)], min_size=1, max_size=40))
def test_any_counts_decode_or_are_refused(counts: str) -> None:
    try:
        decoded = decode_rle({"size": [6, 7], "counts": counts})
    except InputError:
        return
    assert decoded.frame_size == (6, 7)
    theirs = coco_mask.decode({"size": [6, 7], "counts": counts.encode()})
    np.testing.assert_array_equal(decoded.full(), theirs.astype(bool))


@CASES
@given(full_masks())
def test_box_is_tight_and_holds_every_pixel(mask: np.ndarray) -> None:
    boxed = box_mask(mask)
    np.testing.assert_array_equal(boxed.full(), mask)
    assert boxed.area == mask.sum()
    if boxed.area:
        assert all(edge.any() for edge in (boxed.pixels[0], boxed.pixels[-1]))
        assert all(edge.any() for edge in (boxed.pixels[:, 0], boxed.pixels[:, -1]))
    else:
        assert boxed.bbox_xyxy == (0, 0, 0, 0)


@CASES
@given(mask_pairs())
def test_algebra_equals_that_of_whole_frames(pair: tuple[np.ndarray, np.ndarray]) -> None:
    first, second = pair
    a, b = box_mask(first), box_mask(second)
    np.testing.assert_array_equal(masks.union(a, b).full(), first | second)
    np.testing.assert_array_equal(masks.subtract(a, b).full(), first & ~second)
    assert masks.overlap_area(a, b) == (first & second).sum()
    either = (first | second).sum()
    assert masks.mask_iou(a, b) == ((first & second).sum() / either if either else 1.0)


@CASES
@given(full_masks(), st.data())
def test_within_is_that_part_of_the_frame(mask: np.ndarray, data: st.DataObject) -> None:
    height, width = mask.shape
    x0, y0 = data.draw(st.integers(0, width)), data.draw(st.integers(0, height))
    x1, y1 = data.draw(st.integers(x0, width)), data.draw(st.integers(y0, height))
    part = box_mask(mask).within((x0, y0, x1, y1))
    np.testing.assert_array_equal(part, mask[y0:y1, x0:x1])


def test_tighten_keeps_the_mask() -> None:
    pixels = np.zeros((6, 8), bool)
    pixels[2, 3:5] = True
    loose = BoxedMask((10, 20, 18, 26), pixels, (40, 50))
    tight = masks.tighten(loose)
    assert tight.bbox_xyxy == (13, 22, 15, 23)
    np.testing.assert_array_equal(tight.full(), loose.full())
    assert masks.tighten(BoxedMask((1, 1, 3, 3), np.zeros((2, 2), bool), (9, 9))).area == 0


def test_empty_masks_equal_each_other_only() -> None:
    nothing, dot = empty_mask((4, 4)), box_mask(np.eye(4, dtype=bool))
    assert masks.mask_iou(nothing, nothing) == 1
    assert masks.mask_iou(nothing, dot) == 0
    assert masks.union(nothing, dot).bbox_xyxy == dot.bbox_xyxy


def test_enclosing_box_ignores_an_empty_one() -> None:
    assert masks.enclose_boxes((0, 0, 0, 0), (5, 6, 7, 8)) == (5, 6, 7, 8)
    assert masks.enclose_boxes((5, 6, 7, 8), (3, 3, 3, 9)) == (5, 6, 7, 8)
    assert masks.enclose_boxes((5, 6, 7, 8), (1, 7, 2, 10)) == (1, 6, 7, 10)
