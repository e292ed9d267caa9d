"""The work on frames: batches, refusals, room for objects, and what a result says."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from live_streams import (
    box,
    given,
    given_all,
    incoming,
    masks_of,
    plain_segmenter,
    read_result,
    task,
)

from amodal_client.stream_messages import GivenObject, PromptMessage, PromptObject, Remove
from amodal_client.stream_wire import Codec
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.stream import AmodalSegmenter
from amodal_model.veils import Sighting
from amodal_service.mask_sources import SOURCES, Runtime
from amodal_service.streams.frame_work import Done, Order, orders_for, work_on
from amodal_service.streams.memory import StreamMemory

Visible = dict[int, BoxedMask]
IMAGE = np.full((48, 64, 3), 90, np.uint8)
IMAGE[10:30, 10:30] = (220, 40, 40)


def packet(done: Done) -> bytes:
    assert done.packet is not None, done.error
    return done.packet


def test_frames_of_a_batch_are_what_they_are_alone(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[Visible]
) -> None:
    memories = [StreamMemory(), StreamMemory(), StreamMemory()]
    alone = list(memories)
    for index in range(8):
        scenes = [boxes_scene[index], boxes_scene[index + 20], boxes_scene[index + 40]]
        sent = [incoming(index, given_all(each), width=160, height=120) for each in scenes]
        together = work_on(
            [task(each, memory) for each, memory in zip(sent, memories, strict=True)],
            tiny_segmenter,
        )
        one_by_one = [
            work_on([task(each, memory)], tiny_segmenter)[0]
            for each, memory in zip(sent, alone, strict=True)
        ]
        for ours, theirs in zip(together, one_by_one, strict=True):
            own, other = (masks_of(read_result(packet(each))) for each in (ours, theirs))
            assert own.keys() == other.keys()
            assert all(mask_iou(own[key], other[key]) == 1 for key in own)
        memories = [each.memory for each in together]
        alone = [each.memory for each in one_by_one]


def test_a_bad_frame_of_a_batch_fails_alone() -> None:
    segmenter = plain_segmenter()
    good, bad, image = incoming(0), incoming(5, [GivenObject(1)]), incoming(9, (), b"x", codec=1)
    done = work_on([task(good), task(bad), task(good), task(image)], segmenter)
    assert [each.error == "" for each in done] == [True, False, True, False]
    assert done[1].memory == StreamMemory()
    assert "has nothing" in done[1].error
    assert done[3].error == "payload is not a JPEG image"
    assert segmenter.engine.steps == [2]  # type: ignore[attr-defined]
    assert not done[1].is_internal


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"width": 0, "height": 0}, "frame has no size"),
        ({"width": 0, "height": 48}, "frame has no size"),
        ({"width": 4096, "height": 4096}, "frame is 4096x4096, limit 4194304 pixels"),
        ({"width": 65535, "height": 1}, "each side must be 1 to 16384"),
    ],
)
def test_a_first_frame_needs_a_size_within_the_limits(header: dict[str, int], message: str) -> None:
    (done,) = work_on([task(incoming(0, (), **header))], plain_segmenter())
    assert message in done.error


def test_the_size_of_the_first_frame_is_the_streams() -> None:
    segmenter = plain_segmenter()
    (first,) = work_on([task(incoming(0))], segmenter)
    (other,) = work_on([task(incoming(1, (), width=64, height=47), first.memory)], segmenter)
    assert "frame is 64x47, the stream's are 64x48; reset the stream" in other.error
    assert other.memory is first.memory
    (unsaid,) = work_on([task(incoming(2, (), width=0, height=0), first.memory)], segmenter)
    assert read_result(packet(unsaid)).header.width == 64


def prompted(
    memory: StreamMemory, seq: int, *orders: PromptMessage | Remove, **options: Any
) -> Done:
    sent = incoming(seq, (), IMAGE.tobytes(), codec=int(Codec.RGB8))
    asked = [Order(each, -1) for each in orders]
    finder = SOURCES["prompted"].make(Runtime("cpu"))
    work = task(sent, memory, asked, finder, masks="prompted", **options)
    return work_on([work], plain_segmenter())[0]


def test_a_prompt_begins_an_object_and_one_that_does_not_fit_leaves_the_frame_intact() -> None:
    begun = prompted(StreamMemory(), 0, PromptMessage((PromptObject(7, box=(10, 10, 20, 20)),)))
    assert [each.track_id for each in read_result(packet(begun)).meta.objects] == [7]
    assert not begun.refused
    outside = PromptMessage((PromptObject(8, box=(100, 10, 20, 20)),), id="bad")
    refused = prompted(begun.memory, 1, outside)
    assert [each.track_id for each in read_result(packet(refused)).meta.objects] == [7]
    ((order, reason),) = refused.refused
    assert order.message is outside
    assert "64x48" in reason


def test_prompts_for_more_objects_than_agreed_are_refused() -> None:
    begun = prompted(
        StreamMemory(), 0, PromptMessage((PromptObject(1, box=(10, 10, 20, 20)),)), max_objects=1
    )
    more = PromptMessage((PromptObject(2, box=(30, 10, 20, 20)),))
    done = prompted(begun.memory, 1, more, max_objects=1)
    assert "2 objects with those prompted, limit 1 (max_objects)" in done.refused[0][1]
    assert [each.track_id for each in read_result(packet(done)).meta.objects] == [1]


def test_removals_never_fail_a_frame() -> None:
    begun = prompted(StreamMemory(), 0, PromptMessage((PromptObject(7, box=(10, 10, 20, 20)),)))
    done = prompted(begun.memory, 1, Remove((7, 7)), Remove((7, 99)), Remove((2**60,)))
    assert read_result(packet(done)).meta.objects == ()


def test_an_object_that_is_removed_and_given_in_one_frame_is_new() -> None:
    segmenter = plain_segmenter()
    named = [given(1, box(4, 4, 20, 20)), given(None, box(40, 4, 9, 9))]
    (first,) = work_on([task(incoming(0, named))], segmenter)
    order = Order(Remove((1,)), -1)
    (second,) = work_on([task(incoming(1, named), first.memory, [order])], segmenter)
    ids = [each.track_id for each in read_result(packet(second)).meta.objects]
    assert 1 in ids


def test_an_image_is_needed_where_the_service_looks_for_the_masks() -> None:
    work = task(incoming(0, ()), finder=SOURCES["prompted"].make(Runtime("cpu")), masks="prompted")
    (done,) = work_on([work], plain_segmenter())
    assert done.error == "masks 'prompted' need an image in every frame"


@pytest.mark.parametrize(("ids", "are_known"), [((None, None), [True, True]), ((1, 2), None)])
def test_images_are_looked_at_for_masks_without_ids(
    ids: tuple[int | None, int | None], are_known: list[bool] | None
) -> None:
    rings = [(10, 10, 30, 10, 30, 30, 10, 30), (40, 10, 60, 10, 60, 30, 40, 30)]
    objects = [GivenObject(key, polygon=(each,)) for key, each in zip(ids, rings, strict=True)]
    sent = incoming(0, objects, IMAGE.tobytes(), codec=int(Codec.RGB8))
    (done,) = work_on([task(sent)], plain_segmenter())
    finder = done.memory.finder
    known = None if finder is None else [each.colours.size > 0 for each in finder.tracks]
    assert known == are_known


def test_the_longest_hidden_objects_make_room() -> None:
    segmenter, memory = plain_segmenter(), StreamMemory()
    for seq in range(6):
        sent = incoming(seq, [given(seq, box(2 + 8 * seq, 2, 6, 6))])
        (done,) = work_on([task(sent, memory, max_objects=3)], segmenter)
        memory = done.memory
    assert memory.state is not None
    assert sorted(memory.state.track_ids) == [3, 4, 5]
    assert memory.state.lost_ids == (0, 1, 2)
    states = {each.track_id: each.state for each in read_result(packet(done)).meta.objects}
    assert [states[key] for key in (0, 1, 2)] == ["lost"] * 3
    assert states[5] == "visible"


def test_ids_that_are_lost_are_bounded() -> None:
    segmenter, memory = plain_segmenter(), StreamMemory()
    for seq in range(30):
        sent = incoming(seq, [given(seq, box(2, 2, 6, 6))])
        (done,) = work_on([task(sent, memory, max_objects=2)], segmenter)
        memory = done.memory
        assert memory.state is not None
        assert len(memory.state.lost_ids) <= 2
        assert len(memory.last_seen_ns) <= 4
    assert memory.state is not None
    assert memory.state.lost_ids == (26, 27)


def test_when_an_object_was_last_seen_is_told_by_capture_time() -> None:
    segmenter, memory = plain_segmenter(), StreamMemory()
    seen = []
    for seq, objects in enumerate([[given(1, box(2, 2, 9, 9))], [], []]):
        sent = incoming(seq, objects, capture_ns=1000 + seq)
        (done,) = work_on([task(sent, memory)], segmenter)
        memory = done.memory
        seen.append(read_result(packet(done)).meta.objects[0].last_seen_ns)
    assert seen == [1000, 1000, 1000]


def test_delta_leaves_out_exactly_what_is_the_same() -> None:
    segmenter, memory = plain_segmenter(), StreamMemory()
    full: list[dict[int, BoxedMask]] = []
    known: dict[int, BoxedMask] = {}
    spared = 0
    for seq in range(8):
        objects = [given(1, box(2, 2, 9, 9)), given(2, box(20 + seq // 3, 20, 9, 9))]
        sent = incoming(seq, objects)
        (done,) = work_on([task(sent, memory, delta=True, is_full=seq == 0)], segmenter)
        (plain,) = work_on([task(sent, memory)], segmenter)
        memory = done.memory
        result = read_result(packet(done))
        unchanged = {each.track_id for each in result.meta.objects if each.unchanged}
        spared += len(unchanged)
        masks = masks_of(result)
        known = {key: known[key] if key in unchanged else masks[key] for key in masks}
        full.append(masks_of(read_result(packet(plain))))
        assert all(mask_iou(known[key], full[-1][key]) == 1 for key in full[-1])
    assert spared >= 8


def test_orders_wait_for_their_frame() -> None:
    orders = [Order(Remove((index,)), at) for index, at in enumerate((-1, 5, 3))]
    now, later = orders_for(orders, 4)
    assert [each.at for each in now] == [-1, 3]
    assert [each.at for each in later] == [5]


class Judge:
    """A judge of veils that takes nothing for one, and keeps whether it saw pictures."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def __call__(self, sighting: Sighting) -> np.ndarray:
        self.asked.extend(sighting.has_look.tolist())
        return np.full(sighting.usual.shape, -9, np.float32)


def cut_off(
    judge: Judge,
    images: Sequence[np.ndarray | None],
    given_as: Callable[[BoxedMask], GivenObject],
    *,
    sees_pictures: bool = True,
    **options: Any,
) -> list[Done]:
    """Stream an object of which half is gone from the third frame on."""
    segmenter = AmodalSegmenter(plain_segmenter().engine, judge=judge, sees_pictures=sees_pictures)
    memory, ended = StreamMemory(), []
    for index, image in enumerate(images):
        sent = [given_as(box(8, 8, 40 if index < 2 else 20, 30))]
        codec, payload = (Codec.NONE, b"") if image is None else (Codec.RGB8, image.tobytes())
        frame = incoming(index, sent, payload, codec=int(codec))
        (done,) = work_on([task(frame, memory, **options)], segmenter)
        memory = done.memory
        ended.append(done)
    return ended


def _with_id(mask: BoxedMask) -> GivenObject:
    return given(1, mask)


def _without_id(mask: BoxedMask) -> GivenObject:
    return given(None, mask)


def _as_box(mask: BoxedMask) -> GivenObject:
    x0, y0, x1, y1 = mask.bbox_xyxy
    return GivenObject(1, box=(x0, y0, x1 - x0, y1 - y0))


@pytest.mark.parametrize("sees_pictures", [True, False])
@pytest.mark.parametrize(
    ("given_as", "pictures", "is_shown"),
    [
        (_with_id, False, False),
        (_as_box, False, False),
        (_without_id, False, True),
        (_with_id, True, True),
        (_as_box, True, True),
        (_without_id, True, True),
    ],
)
def test_images_are_shown_to_the_judge_of_veils_where_they_are_looked_at(
    given_as: Callable[[BoxedMask], GivenObject],
    pictures: bool,
    is_shown: bool,
    sees_pictures: bool,
) -> None:
    """Beside masks with ids nobody needs the image: it is decoded where that is asked for."""
    judge = Judge()
    done = cut_off(judge, [IMAGE] * 3, given_as, sees_pictures=sees_pictures, pictures=pictures)
    assert not any(each.error for each in done)
    assert any(judge.asked) == (sees_pictures and is_shown)


@pytest.mark.parametrize("given_as", [_with_id, _as_box, _without_id])
def test_a_frame_of_masks_alone_needs_no_picture(
    given_as: Callable[[BoxedMask], GivenObject],
) -> None:
    for images in ([None] * 3, [IMAGE, None, IMAGE], [IMAGE, IMAGE, None]):
        judge = Judge()
        done = cut_off(judge, images, given_as, pictures=True)
        assert [each.error for each in done] == [""] * 3
        assert not any(judge.asked)  # it needs the image of the frame before, too


@pytest.mark.parametrize("pictures", [True, False])
def test_an_image_that_cannot_be_decoded_is_refused_where_it_is_looked_at(pictures: bool) -> None:
    begin = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 64, 48)
    frame = incoming(0, [given(1, box(8, 8, 9, 9))], begin, codec=int(Codec.PNG))
    (done,) = work_on([task(frame, pictures=pictures)], plain_segmenter())
    assert done.error == ("PNG image cannot be decoded" if pictures else "")
