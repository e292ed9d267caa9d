"""The work on one frame: image, visible masks, the model's step, the coded result.

Frames of several streams go through one step of the model (`work_on`). It runs in a thread and
touches nothing but its arguments; a frame that cannot be worked on fails alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from amodal_client.stream_messages import (
    FrameMeta,
    ModelName,
    PlacedMask,
    PromptMessage,
    Remove,
    ResultMeta,
    StreamObject,
    Timings,
)
from amodal_client.stream_messages import MaskRle as WireRle
from amodal_client.stream_wire import Codec, Header, Op, encode_meta, pack
from amodal_model.errors import AmodalError, InputError, LimitError
from amodal_model.masks import BoxedMask, encode_crop_rle
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.stream import AmodalSegmenter, PreparedStep, StepRequest
from amodal_model.visible_source import Prompt, VisibleMaskSource
from amodal_service.coded_images import decode_image, image_size
from amodal_service.streams.inputs import client_prompts, given_prompts
from amodal_service.streams.memory import (
    CodedMask,
    Keyframe,
    StreamMemory,
    gap_and_clock,
    with_keyframe,
)
from amodal_service.streams.metrics import FRAME_AGE_SECONDS
from amodal_service.streams.options import StreamOptions

_DIGITS = 4


@dataclass(frozen=True)
class Incoming:
    """A frame that was accepted.

    Attributes:
        header: of its message.
        meta: its visible masks.
        payload: the coded image; empty for masks only.
        arrived_s: when it came, seconds of the monotonic clock.
        due_s: when it is to be done at the latest.
    """

    header: Header
    meta: FrameMeta
    payload: memoryview
    arrived_s: float
    due_s: float


class Order(NamedTuple):
    """A prompt or a removal that waits for a frame, from ``at`` on; ``size`` is of its text."""

    message: PromptMessage | Remove
    at: int
    size: int = 0


class Task(NamedTuple):
    """One frame of one stream, to be worked on.

    Attributes:
        frame: the frame.
        memory: of the stream, before it.
        options: of the stream.
        finder: its source of visible masks.
        orders: prompts and removals that take effect with this frame.
        dropped: frames dropped since the last result.
        pixels: limit of a frame.
        is_full: whether the result must stand alone.
    """

    frame: Incoming
    memory: StreamMemory
    options: StreamOptions
    finder: VisibleMaskSource[Any]
    orders: tuple[Order, ...]
    dropped: int
    pixels: int
    is_full: bool


class Done(NamedTuple):
    """How a frame ended.

    Attributes:
        seq: of the frame.
        packet: the RESULT; ``None`` where it has none.
        error: why not.
        memory: of the stream, after it.
        orders: that were meant for it.
        refused: those of them that did not fit, with the reason.
        is_internal: whether the error is ours: the stream cannot go on.
    """

    seq: int
    packet: bytes | None
    error: str
    memory: StreamMemory
    orders: tuple[Order, ...] = ()
    refused: tuple[tuple[Order, str], ...] = ()
    is_internal: bool = False


@dataclass
class _Begun:
    """A frame on its way."""

    task: Task
    step: PreparedStep
    visible: Mapping[int, BoxedMask]
    memory: StreamMemory
    frame_gap: float
    refused: tuple[tuple[Order, str], ...]
    started_s: float
    decode_s: float


def work_on(tasks: Sequence[Task], segmenter: AmodalSegmenter) -> list[Done]:
    """Work on frames of different streams in one step of the model; in the order of ``tasks``."""
    begun: list[_Begun | Done] = [_begin(task, segmenter) for task in tasks]
    ready = [each for each in begun if isinstance(each, _Begun)]
    began_s = time.perf_counter()
    results = iter(segmenter.step_prepared([each.step for each in ready]))
    infer_s = time.perf_counter() - began_s
    return [
        each if isinstance(each, Done) else _finish(each, *next(results), segmenter, infer_s)
        for each in begun
    ]


def _begin(task: Task, segmenter: AmodalSegmenter) -> _Begun | Done:
    started_s = time.monotonic()
    began_s = time.perf_counter()
    seq = task.frame.header.seq
    try:
        return _prepare(task, segmenter, started_s, began_s)
    except AmodalError as error:
        return Done(seq, None, str(error), task.memory, task.orders)


def _prepare(task: Task, segmenter: AmodalSegmenter, started_s: float, began_s: float) -> _Begun:
    header, options = task.frame.header, task.options
    memory = _sized(task, segmenter)
    assert memory.state is not None  # noqa: S101  `_sized` makes it
    assert memory.frame_size is not None  # noqa: S101
    gap, clock = gap_and_clock(memory.clock, header.seq, header.capture_ns, options.fps)
    prompts, removed, refused = _read_orders(task.orders, memory.frame_size)
    if removed:
        memory = memory._replace(state=segmenter.forget(memory.state, removed))
    try:
        if prompts and options.masks == "given":
            raise InputError("the stream's masks are given: it takes no prompts")
        _check_count(memory, prompts, options.max_objects)
        visible, finder, shown = _find(task, memory, segmenter, (prompts, removed), gap)
    except InputError as error:
        if not prompts:
            raise
        asked = [each for each in task.orders if isinstance(each.message, PromptMessage)]
        refused = tuple((order, str(error)) for order in asked)
        visible, finder, shown = _find(task, memory, segmenter, ([], removed), gap)
    state = _make_room(memory.state, visible, options.max_objects, segmenter)
    step = segmenter.prepare(StepRequest(shown, visible, state, gap, options.remembered))
    memory = memory._replace(finder=finder, clock=clock)
    decode_s = time.perf_counter() - began_s
    return _Begun(task, step, visible, memory, gap, refused, started_s, decode_s)


def _sized(task: Task, segmenter: AmodalSegmenter) -> StreamMemory:
    """Return the memory, begun with the first frame's size.

    Raises:
        InputError: a frame of another size.
        LimitError: too many pixels.
    """
    header, memory = task.frame.header, task.memory
    size = (header.height, header.width)
    if header.codec != Codec.NONE:
        size = image_size(header.codec, task.frame.payload, size)
    elif size == (0, 0):
        size = memory.frame_size or size
    if not all(size):
        raise InputError("frame has no size: width and height of a frame without image are needed")
    if memory.frame_size is None:
        if size[0] * size[1] > task.pixels:
            raise LimitError(f"frame is {size[1]}x{size[0]}, limit {task.pixels} pixels")
        return memory._replace(frame_size=size, state=segmenter.start(size))
    if size != memory.frame_size:
        raise InputError(
            f"frame is {size[1]}x{size[0]}, the stream's are {memory.frame_size[1]}x"
            f"{memory.frame_size[0]}; reset the stream to change that"
        )
    return memory


def _read_orders(
    orders: Sequence[Order], frame_size: tuple[int, int]
) -> tuple[list[Prompt], list[int], tuple[tuple[Order, str], ...]]:
    """Return prompts, ids to forget, and the orders that do not fit."""
    prompts: list[Prompt] = []
    removed: list[int] = []
    refused = []
    for order in orders:
        message = order.message
        if isinstance(message, Remove):
            removed += message.track_ids
            continue
        try:
            prompts += client_prompts(message.objects, frame_size)
        except InputError as error:
            refused.append((order, str(error)))
    removed += [each.track_id for each in prompts if each.remove and each.track_id is not None]
    return [each for each in prompts if not each.remove], sorted(set(removed)), tuple(refused)


def _check_count(memory: StreamMemory, prompts: Sequence[Prompt], limit: int) -> None:
    """Refuse prompts for more objects than a stream may have.

    Raises:
        LimitError: there are more.
    """
    known = memory.state.track_ids if memory.state is not None else ()
    count = len({*known, *(each.track_id for each in prompts)})
    if prompts and count > limit:
        raise LimitError(f"{count} objects with those prompted, limit {limit} (max_objects)")


def _find(
    task: Task,
    memory: StreamMemory,
    segmenter: AmodalSegmenter,
    orders: tuple[list[Prompt], list[int]],
    gap: float,
) -> tuple[Mapping[int, BoxedMask], Any, UInt8[np.ndarray, "H W 3"] | None]:
    """Return the visible masks, the finder's state, and the image if it had to be decoded."""
    assert memory.state is not None  # noqa: S101  made before
    assert memory.frame_size is not None  # noqa: S101
    prompts, removed = orders
    frame, options, size = task.frame, task.options, memory.frame_size
    if options.masks == "given":
        given = given_prompts(frame.meta.objects or (), size, options.max_objects)
        named = {each.track_id: each.mask for each in given if each.track_id is not None}
        are_masks = len(named) == len(given) and None not in named.values()
        if are_masks and memory.finder is None:
            visible = {key: mask for key, mask in named.items() if mask is not None}
            return visible, None, _image_of(frame, size) if options.pictures else None
        prompts = given
    named_now = {each.track_id for each in prompts}  # what is given again is not forgotten
    removals = [Prompt(key, remove=True) for key in removed if key not in named_now]
    is_given = options.masks == "given"
    if frame.header.codec == Codec.NONE and not is_given:
        raise InputError(f"masks {options.masks!r} need an image in every frame")
    # masks without ids are told apart by their colours too
    is_needless = is_given and all(each.track_id is not None for each in prompts)
    image = None if is_needless and not options.pictures else _image_of(frame, size)
    finder = memory.finder if memory.finder is not None else task.finder.start(size)
    expected = segmenter.expect(memory.state, frame_gap=gap)
    visible, finder = task.finder.find(image, [*prompts, *removals], finder, expected)
    if len(visible) > options.max_objects:
        largest = sorted(visible, key=lambda key: -visible[key].area)[: options.max_objects]
        visible = {key: visible[key] for key in sorted(largest)}
    return visible, finder, image


def _image_of(frame: Incoming, size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"] | None:
    """Return the image of a frame; ``None``: it has none.

    Raises:
        InputError: its payload is not one.
    """
    codec = frame.header.codec
    return None if codec == Codec.NONE else decode_image(codec, frame.payload, size)


def _make_room(
    state: Any, visible: Mapping[int, BoxedMask], limit: int, segmenter: AmodalSegmenter
) -> Any:
    """Give up the objects that are hidden longest, so that no more than ``limit`` are followed."""
    hidden = [key for key in state.track_ids if key not in visible]
    excess = len(hidden) + len(visible) - limit
    if excess > 0:
        age = dict(zip(state.track_ids, state.frames_hidden.tolist(), strict=True))
        oldest = sorted(hidden, key=lambda key: (-age[key], key))[:excess]
        state = segmenter.forget(state, oldest)
        state = state._replace(lost_ids=tuple(sorted({*state.lost_ids, *oldest})))
    if len(state.lost_ids) > limit:  # the latest are reported; ids mostly rise
        state = state._replace(lost_ids=state.lost_ids[-limit:])
    return state


def _finish(
    begun: _Begun,
    result: FrameResult,
    state: Any,
    segmenter: AmodalSegmenter,
    infer_s: float,
) -> Done:
    began_s = time.perf_counter()
    task, memory = begun.task, begun.memory
    header, options = task.frame.header, task.options
    capture_ns = header.capture_ns
    followed = {each.track_id for each in result.objects}
    seen = {key: at for key, at in memory.last_seen_ns.items() if key in followed}
    seen |= dict.fromkeys(begun.visible, capture_ns)
    objects = {
        each.track_id: _object(each, seen.get(each.track_id, 0), options.remembered)
        for each in result.objects
    }
    shown: tuple[StreamObject, ...] = tuple(objects.values())
    if options.delta and not task.is_full:
        shown = tuple(_delta(each, memory.previous.get(each.track_id)) for each in shown)
    info = segmenter.engine.info
    queue_s = begun.started_s - task.frame.arrived_s
    encode_s = time.perf_counter() - began_s
    times = (queue_s, begun.decode_s, infer_s, encode_s)
    meta = ResultMeta(
        shown,
        result.order,
        Timings(*(round(1000 * each, 3) for each in times)),
        task.dropped,
        round(begun.frame_gap, _DIGITS),
        ModelName(info.model_name, info.model_version),
    )
    FRAME_AGE_SECONDS.observe(time.monotonic() - task.frame.arrived_s)
    height, width = memory.frame_size or (0, 0)
    packet = pack(Header(Op.RESULT, header.seq, capture_ns, 0, width, height), encode_meta(meta))
    number = memory.frames + 1
    keyframe = Keyframe(
        number, begun.frame_gap, tuple(_coded(each) for each in objects.values() if each.visible)
    )
    memory = memory._replace(
        state=state,
        frames=number,
        last_seen_ns=seen,
        keyframes=with_keyframe(memory.keyframes, keyframe),
        previous=objects if options.delta else {},
    )
    return Done(header.seq, packet, "", memory, task.orders, begun.refused)


def _object(each: ObjectResult, last_seen_ns: int, with_remembered: bool) -> StreamObject:
    visible = _placed(each.visible)
    amodal = visible if each.amodal.area == each.visible.area else _placed(each.amodal)
    return StreamObject(
        each.track_id,
        each.state,
        round(float(each.score), _DIGITS),
        visible,
        amodal,
        _placed(each.remembered) if with_remembered else None,
        round(float(each.occlusion_rate), _DIGITS),
        each.occluded_by,
        last_seen_ns,
        round(float(each.confidence_visible), _DIGITS),
        round(float(each.confidence_occluded), _DIGITS),
    )


def _coded(each: StreamObject) -> CodedMask:
    assert each.visible is not None  # noqa: S101  asked for by the caller
    return CodedMask(each.track_id, each.visible.bbox, each.visible.rle.counts)


def _placed(mask: BoxedMask) -> PlacedMask | None:
    if not mask.area:
        return None
    bbox, rle = encode_crop_rle(mask)
    height, width = rle["size"]
    return PlacedMask(bbox, WireRle((height, width), rle["counts"]))


def _delta(now: StreamObject, before: StreamObject | None) -> StreamObject:
    """Return an object as it is sent where masks, state and occluders are those of before."""
    if before is None:
        return now
    is_same = (
        now.state == before.state
        and now.visible == before.visible
        and now.amodal == before.amodal
        and now.occluded_by == before.occluded_by
        and now.remembered == before.remembered
    )
    return StreamObject(now.track_id, unchanged=True) if is_same else now


def orders_for(orders: Sequence[Order], seq: int) -> tuple[tuple[Order, ...], tuple[Order, ...]]:
    """Return the orders that take effect with a frame, and those that wait on."""
    return (
        tuple(order for order in orders if order.at <= seq),
        tuple(order for order in orders if order.at > seq),
    )
