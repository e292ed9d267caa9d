"""What is remembered of a stream: its time, past frames, and snapshots of it."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given as each_of
from hypothesis import settings
from hypothesis import strategies as st
from live_streams import box, given_all, incoming, masks_of, plain_segmenter, read_result, task
from veiled_box import frames_without_mask_of_wall, pictures

import amodal_model
from amodal_client.stream_wire import Codec
from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.source_given import GivenSource
from amodal_model.stream import AmodalSegmenter
from amodal_service.streams.frame_work import work_on
from amodal_service.streams.memory import (
    FORMAT,
    MAX_GAP,
    MAX_KEYFRAMES,
    MIN_GAP,
    Clock,
    Keyframe,
    StreamMemory,
    _Array,
    _arrays,
    gap_and_clock,
    load_memory,
    save_memory,
    with_keyframe,
)

MS = 1_000_000
Visible = dict[int, BoxedMask]


def gaps(frames: list[tuple[int, int]], fps: float | None = None) -> list[float]:
    clock, found = Clock(), []
    for seq, capture_ns in frames:
        gap, clock = gap_and_clock(clock, seq, capture_ns, fps)
        found.append(round(gap, 3))
    return found


def test_without_capture_times_the_seq_tells_the_gap() -> None:
    assert gaps([(5, 0), (6, 0), (9, 0), (9 + 10**7, 0)]) == [1, 1, 3, MAX_GAP]


def test_the_declared_rate_turns_capture_time_into_frames() -> None:
    assert gaps([(0, 100 * MS), (1, 140 * MS), (2, 260 * MS)], fps=25) == [1, 1, 3]


def test_the_median_of_recent_periods_stands_in_for_a_rate() -> None:
    steady = [(index, (100 + 40 * index) * MS) for index in range(10)]
    assert gaps([*steady, (10, (100 + 40 * 9 + 400) * MS)])[-1] == 10  # the camera stood still
    assert gaps([*steady, (13, (100 + 40 * 13) * MS)])[-1] == 4  # frames were dropped


def test_time_that_goes_back_is_not_believed() -> None:
    assert gaps([(0, 900 * MS), (1, 100 * MS), (3, 100 * MS)], fps=25) == [1, 1, 2]
    assert gaps([(0, 1), (1, 2)], fps=25) == [1, MIN_GAP]
    assert gaps([(0, 1), (1, 2**64 - 1)], fps=1000)[-1] == MAX_GAP


def test_the_clock_keeps_few_periods() -> None:
    clock = Clock()
    for seq in range(100):
        _, clock = gap_and_clock(clock, seq, (seq + 1) * MS, None)
    assert len(clock.periods_ns) == 16


def test_keyframes_reach_far_back_and_thin_out() -> None:
    kept: tuple[Keyframe, ...] = ()
    for number in range(1, 2000):
        kept = with_keyframe(kept, Keyframe(number, 1.0, ()))
        assert len(kept) <= MAX_KEYFRAMES
        numbers = [each.number for each in kept]
        assert numbers == sorted(set(numbers))
    ages = [1999 - each.number for each in kept]
    assert ages[-4:] == [3, 2, 1, 0]
    assert max(ages) > 900  # an object may be hidden for 900 frames
    for low in (4, 8, 16, 32, 64, 128, 256, 512):
        assert 1 <= sum(low <= age < 2 * low for age in ages) <= 3


def stream_of(
    segmenter: AmodalSegmenter, scene: list[Visible], memory: StreamMemory | None = None
) -> StreamMemory:
    memory = memory or StreamMemory()
    height, width = next(iter(scene[0].values())).frame_size
    for seq, visible in enumerate(scene, memory.clock.seq + 1):
        sent = incoming(seq, given_all(visible), width=width, height=height)
        (done,) = work_on([task(sent, memory)], segmenter)
        assert done.packet is not None, done.error
        memory = done.memory
    return memory


def test_a_snapshot_is_the_memory_to_the_last_digit(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[Visible]
) -> None:
    memory = stream_of(tiny_segmenter, boxes_scene[:25])
    content = save_memory(memory, tiny_segmenter, GivenSource(), "given")
    back = load_memory(content, tiny_segmenter, GivenSource(), "given")
    assert back.frame_size == memory.frame_size
    assert back.clock == memory.clock
    assert (back.frames, back.last_seen_ns) == (memory.frames, memory.last_seen_ns)
    assert memory.state is not None
    assert back.state is not None
    before = tiny_segmenter.save_state(memory.state)
    after = tiny_segmenter.save_state(back.state)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert after[name].dtype == array.dtype, name
        assert np.array_equal(after[name], array), name
    assert back.keyframes == memory.keyframes
    assert sum(len(each.masks) for each in back.keyframes) > 20


def resumed_iou(
    segmenter: AmodalSegmenter,
    memories: tuple[StreamMemory, StreamMemory],
    scene: list[Visible],
) -> list[float]:
    """Return the amodal IoU of each object in each frame between two streams that go on."""
    found: list[float] = []
    for seq, visible in enumerate(scene, memories[0].clock.seq + 1):
        sent = incoming(seq, given_all(visible), width=160, height=120)
        done = [work_on([task(sent, memory)], segmenter)[0] for memory in memories]
        memories = (done[0].memory, done[1].memory)
        one, other = (masks_of(read_result(each.packet or b"")) for each in done)
        found += [mask_iou(mask, other[key]) for key, mask in one.items()]
    return found


def test_a_stream_goes_on_from_a_snapshot_as_if_it_had_not_stopped(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[Visible]
) -> None:
    memory = stream_of(tiny_segmenter, boxes_scene[:25])
    content = save_memory(memory, tiny_segmenter, GivenSource(), "given")
    back = load_memory(content, tiny_segmenter, GivenSource(), "given")
    ious = resumed_iou(tiny_segmenter, (memory, back), boxes_scene[25:55])
    assert len(ious) > 90
    assert min(ious) == 1.0


def test_another_model_remembers_by_the_past_frames(
    tiny_segmenter: AmodalSegmenter, boxes_scene: list[Visible]
) -> None:
    other = plain_segmenter(sha256="other")
    content = save_memory(stream_of(other, boxes_scene[:25]), other, GivenSource(), "given")
    memory = stream_of(tiny_segmenter, boxes_scene[:25])
    back = load_memory(content, tiny_segmenter, GivenSource(), "given")
    assert memory.state is not None
    assert back.state is not None
    assert back.state.track_ids == memory.state.track_ids
    ious = resumed_iou(tiny_segmenter, (memory, back), boxes_scene[25:55])
    print(f"retraced: mean IoU {np.mean(ious):.3f}, worst {min(ious):.3f}")  # noqa: T201
    assert np.mean(ious) > 0.9


def looked_at(
    segmenter: AmodalSegmenter, frames: range, memory: StreamMemory | None = None, **options: Any
) -> tuple[StreamMemory, list[BoxedMask]]:
    """Stream frames of the veiled box, and return what is remembered, and its silhouettes."""
    memory, images, found = memory or StreamMemory(), pictures(), []
    for seq in frames:
        sent = given_all(frames_without_mask_of_wall()[seq])
        height, width = images[seq].shape[:2]
        payload = images[seq].tobytes()
        frame = incoming(seq, sent, payload, codec=int(Codec.RGB8), width=width, height=height)
        (done,) = work_on([task(frame, memory, **options)], segmenter)
        assert done.packet is not None, done.error
        memory = done.memory
        found.append(masks_of(read_result(done.packet))[1])
    return memory, found


def areas(masks: Sequence[BoxedMask]) -> list[int]:
    return [mask.area for mask in masks]


def test_a_stream_that_looks_at_pictures_goes_on_from_a_snapshot_too() -> None:
    shipped, other = amodal_model.load(), plain_segmenter(sha256="other")
    begin, rest = range(10, 20), range(20, 30)
    memory, _ = looked_at(shipped, begin, pictures=True)
    content = save_memory(memory, shipped, GivenSource(), "given")
    warm = load_memory(content, shipped, GivenSource(), "given")
    _, found = looked_at(shipped, rest, memory, pictures=True)
    _, resumed = looked_at(shipped, rest, warm, pictures=True)
    assert min(map(mask_iou, resumed, found)) == 1
    # what came while nobody looked is not known
    by_masks, _ = looked_at(shipped, begin)
    assert areas(looked_at(shipped, rest, by_masks)[1]) != areas(found)
    # of another model's snapshot the masks alone are left, and pictures are looked at from then on
    content = save_memory(looked_at(other, begin, pictures=True)[0], other, GivenSource(), "given")
    thin = load_memory(content, shipped, GivenSource(), "given")
    assert thin.state is not None
    assert not thin.state.tracks.has_look.any()
    thin, retraced = looked_at(shipped, rest, thin, pictures=True)
    assert thin.state is not None
    assert thin.state.tracks.has_look.all()
    assert all(mask.area for mask in retraced)


def content_of() -> bytes:
    segmenter = plain_segmenter()
    scene: list[Visible] = [{1: box(index, 8, 9, 9)} for index in range(6)]
    return save_memory(stream_of(segmenter, scene), segmenter, GivenSource(), "given")


def test_a_snapshot_of_another_source_or_format_is_refused() -> None:
    with pytest.raises(InputError, match=f"masks 'given', need {FORMAT} and 'motion'"):
        load_memory(content_of(), plain_segmenter(), GivenSource(), "motion")
    stored = msgspec.msgpack.decode(zlib.decompress(content_of()))
    stored["format"] = 9
    changed = zlib.compress(msgspec.msgpack.encode(stored))
    with pytest.raises(InputError, match="snapshot of format 9"):
        load_memory(changed, plain_segmenter(), GivenSource(), "given")


@pytest.mark.parametrize("content", [b"", b"x" * 100, zlib.compress(b""), zlib.compress(b"\xc1")])
def test_what_is_no_snapshot_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="snapshot cannot be read"):
        load_memory(content, plain_segmenter(), GivenSource(), "given")


_CONTENT = zlib.decompress(content_of())


@settings(max_examples=150, deadline=None)
@each_of(st.data())
def test_a_damaged_snapshot_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(_CONTENT)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        load_memory(zlib.compress(bytes(content), 1), plain_segmenter(), GivenSource(), "given")


@pytest.mark.parametrize("kind", ["a8", "08i4", "O", "<i4,<i4", "|V8", "<c8", "<U99999"])
def test_an_array_of_a_strange_kind_is_refused(kind: str) -> None:
    """NumPy would take some, warn of others, and parse Python for the rest."""
    with pytest.raises(InputError, match="snapshot holds an array of kind"):
        _arrays({"x": _Array(kind, (1,), b"12345678")})
