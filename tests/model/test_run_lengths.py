"""Runs and COCO's text of them: byte for byte those of pycocotools, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from amodal_model.errors import InputError
from amodal_model.masks import (
    BoxedMask,
    Rle,
    box_mask,
    decode_crop_rle,
    decode_rle,
    encode_crop_rle,
    encode_rle,
)
from amodal_model.run_lengths import counts_from_runs, is_shortest, runs_from_counts

CASES = settings(max_examples=150, deadline=None, derandomize=True)


@st.composite
def boxed_masks(draw: st.DrawFn) -> BoxedMask:
    """Return masks on boxes anywhere in a frame, edges and loose boxes included."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    fill = draw(st.sampled_from([st.just(value=True), st.just(value=False), st.booleans()]))
    pixels = draw(arrays.arrays(bool, (y1 - y0, x1 - x0), fill=fill))
    return BoxedMask((x0, y0, x1, y1), pixels, (height, width))


def theirs(full: np.ndarray) -> Rle:
    encoded = coco_mask.encode(np.asfortranarray(full.astype(np.uint8)))
    return {"size": list(full.shape), "counts": encoded["counts"].decode()}


def assert_same(decoded: BoxedMask, full: np.ndarray) -> None:
    expected = box_mask(full)
    assert decoded.bbox_xyxy == expected.bbox_xyxy
    assert decoded.frame_size == expected.frame_size
    assert decoded.pixels.dtype == bool
    assert decoded.pixels.flags.c_contiguous
    np.testing.assert_array_equal(decoded.pixels, expected.pixels)


@CASES
@given(boxed_masks())
def test_a_boxed_mask_has_the_text_of_its_frame(mask: BoxedMask) -> None:
    rle = encode_rle(mask)
    assert rle == theirs(mask.full())
    assert_same(decode_rle(rle), mask.full())


@CASES
@given(boxed_masks())
def test_a_crop_has_the_text_of_the_tight_box(mask: BoxedMask) -> None:
    full = mask.full()
    bbox_xywh, rle = encode_crop_rle(mask)
    x, y, width, height = bbox_xywh
    assert rle["size"] == [height, width]
    if full.any():
        assert rle == theirs(full[y : y + height, x : x + width])
    else:
        assert (bbox_xywh, rle) == ((0, 0, 0, 0), {"size": [0, 0], "counts": ""})
    assert_same(decode_crop_rle(bbox_xywh, rle, mask.frame_size), full)


@CASES
@given(boxed_masks())
def test_a_crop_of_a_loose_box_is_taken_and_tightened(mask: BoxedMask) -> None:
    x0, y0, x1, y1 = mask.bbox_xyxy
    rle = theirs(mask.pixels)
    decoded = decode_crop_rle((x0, y0, x1 - x0, y1 - y0), rle, mask.frame_size)
    assert_same(decoded, mask.full())


@CASES
@given(st.lists(st.integers(0, 1 << 27), min_size=1, max_size=30))
def test_runs_of_any_length_round_trip(runs: list[int]) -> None:
    given_runs = np.array(runs, np.int64)
    counts = counts_from_runs(given_runs)
    np.testing.assert_array_equal(runs_from_counts(counts, sum(runs)), given_runs)


@pytest.mark.parametrize("edge", [15, 16, 511, 512, 16383, 16384, 524287, 524288, 1 << 27])
def test_numbers_at_the_edge_of_a_digit_are_those_of_pycocotools(edge: int) -> None:
    """As a run, and as differences of either sign."""
    runs = [edge, 1, 1, 1 + edge, 1, 1]
    encoded = coco_mask.frPyObjects({"size": [sum(runs), 1], "counts": runs}, sum(runs), 1)
    assert counts_from_runs(np.array(runs, np.int64)) == encoded["counts"].decode()


BOX_RLE = theirs(np.eye(3, dtype=bool))


@pytest.mark.parametrize(
    "box",
    [
        (8, 0, 3, 3),
        (0, 6, 3, 3),
        (-1, 0, 3, 3),
        (0, 0, 3),
        (0.0, 0, 3, 3),
        (True, 0, 3, 3),
        "0033",
        None,
        (0, 0, 1 << 70, 3),
    ],
)
def test_boxes_that_leave_the_frame_are_refused(box: Any) -> None:
    with pytest.raises(InputError, match=r"mask box must be .* inside the frame 10x8") as caught:
        decode_crop_rle(box, BOX_RLE, (8, 10))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("size", [[3, 4], [4, 3], [3], None, [3.0, 3], [True, 3], "33"])
def test_crops_of_another_size_than_their_box_are_refused(size: Any) -> None:
    rle: Any = {"size": size, "counts": BOX_RLE["counts"]}
    with pytest.raises(InputError, match=r"its box is \[height, width\] \[3, 3\]"):
        decode_crop_rle((1, 1, 3, 3), rle, (8, 10))
    with pytest.raises(InputError, match="RLE size is None"):
        decode_crop_rle((1, 1, 3, 3), [], (8, 10))


@pytest.mark.parametrize("counts", ["", "0", "9", None, b"9", "ooooooo0", "o" * 9, "~~"])
def test_crops_whose_runs_do_not_fill_the_box_are_refused(counts: Any) -> None:
    rle: Rle = {"size": [4, 2], "counts": counts}
    with pytest.raises(InputError, match="RLE"):
        decode_crop_rle((1, 1, 2, 4), rle, (8, 10))


def test_an_empty_box_has_no_counts() -> None:
    assert decode_crop_rle((0, 0, 0, 0), {"size": [0, 0], "counts": ""}, (8, 10)).area == 0
    with pytest.raises(InputError, match="empty box has counts '0'"):
        decode_crop_rle((4, 4, 0, 0), {"size": [0, 0], "counts": "0"}, (8, 10))


def test_differences_that_add_up_beyond_any_frame_are_refused() -> None:
    """Each number is small enough, their running sum is not."""
    with pytest.raises(InputError, match="RLE"):
        decode_rle({"size": [16384, 16384], "counts": "oooooo7" * 20_000})


@CASES
@given(boxed_masks())
def test_a_text_that_was_read_is_written_as_it_came(mask: BoxedMask) -> None:
    """The text is kept with the mask; one that is kept is the one that would be written."""
    bbox, rle = encode_crop_rle(mask)
    again = decode_crop_rle(bbox, rle, mask.frame_size)
    assert again.counts == (rle["counts"] or None)
    assert encode_crop_rle(again) == (bbox, rle)


@pytest.mark.parametrize(
    ("counts", "runs"),
    [
        ("222N0", [2, 2, 2, 0, 2]),  # a run of nothing between two runs
        ("R0R0R0P0", [2, 2, 2, 2]),  # numbers with a digit more than they need
    ],
)
def test_another_text_of_the_same_mask_is_not_kept(counts: str, runs: list[int]) -> None:
    assert runs_from_counts(counts, sum(runs)).tolist() == runs
    assert not is_shortest(counts, np.array(runs))
    height = sum(runs) // 2
    mask = decode_crop_rle([0, 0, 2, height], {"size": [height, 2], "counts": counts}, (9, 9))
    assert mask.counts is None


def test_the_text_of_a_loose_box_is_not_kept() -> None:
    loose = decode_crop_rle([0, 0, 3, 1], {"size": [1, 3], "counts": "111"}, (9, 9))
    assert loose.bbox_xyxy == (1, 0, 2, 1)
    assert loose.counts is None
    assert encode_crop_rle(loose) == ((1, 0, 1, 1), {"size": [1, 1], "counts": "01"})
