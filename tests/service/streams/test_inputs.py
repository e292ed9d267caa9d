"""What clients say of a frame: masks, polygons, boxes, prompts, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from live_streams import SIZE, box, given

from amodal_client.stream_messages import GivenObject, MaskRle, PromptObject
from amodal_model.errors import InputError, LimitError
from amodal_model.masks import encode_rle
from amodal_service.streams.inputs import client_prompts, given_prompts

SQUARE = MaskRle((2, 3), "06")


def frame_rle(x: int, y: int, width: int, height: int, size: tuple[int, int] = SIZE) -> MaskRle:
    rle = encode_rle(box(x, y, width, height, size))
    return MaskRle((size[0], size[1]), rle["counts"])


def test_a_mask_is_the_same_by_box_by_frame_and_as_a_polygon() -> None:
    ring = (7.0, 8.0, 17.0, 8.0, 17.0, 12.0, 7.0, 12.0)
    said = [
        given(1, box(7, 8, 10, 4)),
        GivenObject(2, rle=frame_rle(7, 8, 10, 4)),
        GivenObject(3, polygon=(ring,)),
        GivenObject(None, polygon=(ring,)),
    ]
    prompts = given_prompts(said, SIZE, 4)
    assert [each.track_id for each in prompts] == [1, 2, 3, None]
    for each in prompts:
        assert each.mask is not None
        assert np.array_equal(each.mask.full(), box(7, 8, 10, 4).full())


def test_a_box_is_given_as_its_corners() -> None:
    (prompt,) = given_prompts([GivenObject(9, box=(5.0, 3.0, 2.5, 2.0))], SIZE, 1)
    assert prompt.bbox_xyxy == (5.0, 3.0, 7.5, 5.0)


def test_masks_without_a_pixel_are_left_out() -> None:
    empty = GivenObject(1, rle=MaskRle((0, 0), ""), bbox=(0, 0, 0, 0))
    assert given_prompts([empty, given(2, box(1, 1, 2, 2))], SIZE, 2)[0].track_id == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (GivenObject(4), "track 4: has nothing, must be rle, polygon or box"),
        (GivenObject(None, rle=SQUARE, box=(0, 0, 1, 1)), "object 0: has rle and box"),
        (GivenObject(4, bbox=(0, 0, 3, 2)), "track 4: has nothing"),
        (GivenObject(4, rle=SQUARE), "mask is of a frame 3x2, this one is 64x48"),
        (GivenObject(4, rle=SQUARE, bbox=(62, 0, 3, 2)), "inside the frame 64x48"),
        (GivenObject(4, rle=SQUARE, bbox=(0, 0, 2, 3)), r"RLE size is \[2, 3\]"),
        (GivenObject(4, rle=SQUARE, bbox=(-1, 0, 3, 2)), "inside the frame 64x48"),
        (GivenObject(4, rle=MaskRle((2, 3), "07"), bbox=(0, 0, 3, 2)), "RLE"),
        (GivenObject(4, rle=MaskRle((2, 3), "\u00e9"), bbox=(0, 0, 3, 2)), "ASCII"),
        (GivenObject(4, rle=MaskRle((2**40, 3), "06")), "this one is 64x48"),
        (GivenObject(4, polygon=((1.0, 2.0, 3.0, 4.0),)), "track 4: polygon 0 has 4 coordinates"),
        (GivenObject(4, polygon=((1e9, 2.0, 3.0, 4.0, 5.0, 6.0),)), "is not from -"),
        (GivenObject(4, polygon=((float("nan"), 2.0, 3.0, 4.0, 5.0, 6.0),)), "is not from -"),
        (GivenObject(4, polygon=((100.0, 0, 110.0, 0, 110.0, 9.0),)), "hold no pixel"),
        (GivenObject(2**53 + 1, box=(0, 0, 2, 2)), f"must be from {-(2**53)} to {2**53}"),
        (GivenObject(2**64 - 1, rle=SQUARE, bbox=(0, 0, 3, 2)), f"to {2**53}"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_value(said: GivenObject, message: str) -> None:
    with pytest.raises(InputError, match=message):
        given_prompts([said], SIZE, 4)


def test_too_many_objects_name_the_number_and_the_limit() -> None:
    with pytest.raises(LimitError, match=r"3 objects in a frame, limit 2 \(max_objects\)"):
        given_prompts([given(each, box(1, 1, 2, 2)) for each in range(3)], SIZE, 2)
    with pytest.raises(LimitError, match="10002 vertices in a mask's polygons, limit 10000"):
        given_prompts([GivenObject(1, polygon=((1.0,) * 20_004,))], SIZE, 2)


def test_prompts_of_each_kind() -> None:
    prompts = client_prompts(
        [
            PromptObject(1, box=(2, 3, 4, 5)),
            PromptObject(2, points=((1.0, 2.0, 1), (3.0, 4.0, 0))),
            PromptObject(3, rle=frame_rle(7, 8, 10, 4)),
            PromptObject(4, remove=True),
        ],
        SIZE,
    )
    assert prompts[0].bbox_xyxy == (2, 3, 6, 8)
    assert prompts[1].points == ((1.0, 2.0, True), (3.0, 4.0, False))
    assert prompts[2].mask is not None
    assert prompts[2].mask.area == 40
    assert prompts[3].remove


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (PromptObject(1), "track 1: .*exactly one of"),
        (PromptObject(1, box=(0, 0, 5, 5), remove=True), "has bbox_xyxy and remove"),
        (PromptObject(1, box=(60, 40, -5, 5)), "is empty"),
        (PromptObject(1, points=((64.0, 0.0, 1),)), r"\(64, 0\) is outside the frame, 64x48"),
        (PromptObject(1, points=((1.0, 0.0, 3),)), "must end with 1 or 0"),
        (PromptObject(1, rle=SQUARE), "mask is of a frame 3x2, this one is 64x48"),
        (PromptObject(2**60, remove=True), "track_id"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(said: PromptObject, message: str) -> None:
    with pytest.raises(InputError, match=message):
        client_prompts([said], SIZE)
