"""Frames of several streams in one call of the engine: each comes out as if stepped alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from amodal_model.engine import Engine, EngineInfo
from amodal_model.errors import InputError, LimitError
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter, StepRequest
from amodal_model.stream_state import StreamState

SMALL = (60, 90)
Frames = list[dict[int, BoxedMask]]


class CountingEngine:
    """The engine, and how many objects each call of it was given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[int] = []

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        self.calls.append(len(inputs.crop))
        return self._engine.step(inputs, memory)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        return self._engine.to_host(memory)


@pytest.fixture
def counting(each_segmenter: AmodalSegmenter) -> tuple[AmodalSegmenter, CountingEngine]:
    engine = CountingEngine(each_segmenter.engine)
    return AmodalSegmenter(engine, each_segmenter.config), engine


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SMALL, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def sliding(frames: int) -> Frames:
    """Return a box that moves right and is gone in some frames, from the third on."""
    return [
        {} if index < 3 or index % 5 == 0 else {9: rectangle(10 + index, 20, 30 + index, 44)}
        for index in range(frames)
    ]


def assert_same_state(
    segmenter: AmodalSegmenter, together: StreamState, alone: StreamState
) -> None:
    first, second = segmenter.save_state(together), segmenter.save_state(alone)
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        np.testing.assert_allclose(array, second[name], atol=1e-4, err_msg=name)


def assert_same_result(together: FrameResult, alone: FrameResult) -> None:
    assert together.order == alone.order
    for a, b in zip(together.objects, alone.objects, strict=True):
        assert (a.track_id, a.state, a.occluded_by) == (b.track_id, b.state, b.occluded_by)
        np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())
        np.testing.assert_array_equal(a.remembered.full(), b.remembered.full())
        assert a.score == pytest.approx(b.score, abs=1e-5)


def test_streams_together_equal_each_alone(
    counting: tuple[AmodalSegmenter, CountingEngine], boxes_scene: Frames
) -> None:
    """Four boxes, one that comes late and hides, nothing at all; other sizes and gaps."""
    segmenter, engine = counting
    scenes: list[Frames] = [boxes_scene[:12], sliding(12), [{}] * 12, boxes_scene[20:32]]
    gaps = [1.0, 2.5, 1.0, 1.0]
    sizes = [(120, 160), SMALL, (7, 9), (120, 160)]
    together = [segmenter.start(size) for size in sizes]
    alone = list(together)
    for index in range(12):
        visible = [scene[index] for scene in scenes]
        engine.calls.clear()
        requests = [
            StepRequest(None, masks, state, gap)
            for masks, state, gap in zip(visible, together, gaps, strict=True)
        ]
        stepped = segmenter.step_many(requests)
        assert engine.calls == [sum(len(state.track_ids) for _, state in stepped)]
        together = [state for _, state in stepped]
        for stream, (result, state) in enumerate(stepped):
            expected, alone[stream] = segmenter.step(
                None, visible[stream], alone[stream], frame_gap=gaps[stream]
            )
            assert_same_result(result, expected)
            assert_same_state(segmenter, state, alone[stream])


def test_stream_leaves_a_batch_and_goes_on_alone(
    each_segmenter: AmodalSegmenter, boxes_scene: Frames
) -> None:
    """Its arrays are its own: no batch stays in memory for one of its streams."""
    start = each_segmenter.start((120, 160))
    requests = [StepRequest(None, boxes_scene[index], start) for index in (0, 30)]
    (_, state), _ = each_segmenter.step_many(requests)
    for field in (*state.memory, *state.tracks):
        base = getattr(field, "base", None)
        assert base is None or base.nbytes == field.nbytes
    result, _ = each_segmenter.step(None, boxes_scene[1], state)
    _, expected = each_segmenter.step(None, boxes_scene[0], start)
    assert_same_result(result, each_segmenter.step(None, boxes_scene[1], expected)[0])


def test_streams_without_objects_call_no_engine(
    counting: tuple[AmodalSegmenter, CountingEngine],
) -> None:
    segmenter, engine = counting
    request = StepRequest(None, {}, segmenter.start(SMALL))
    assert segmenter.step_many([]) == []
    stepped = segmenter.step_many([request, request])
    assert [result.objects for result, _ in stepped] == [(), ()]
    assert engine.calls == []


def test_bad_request_is_refused_before_the_others_run(
    counting: tuple[AmodalSegmenter, CountingEngine],
) -> None:
    segmenter, engine = counting
    start = segmenter.start(SMALL)
    good = StepRequest(None, {9: rectangle(10, 10, 30, 30)}, start)
    odd = StepRequest(None, {9: BoxedMask((0, 0, 1, 1), np.ones((1, 1), bool), (5, 5))}, start)
    late = good._replace(frame_gap=-1.0)
    many = StepRequest(None, dict.fromkeys(range(1025), rectangle(0, 0, 2, 2)), start)
    image = good._replace(frame=np.zeros((5, 5, 3), np.uint8))
    for bad, kind in (
        (odd, InputError),
        (late, InputError),
        (many, LimitError),
        (image, InputError),
    ):
        with pytest.raises(kind):
            segmenter.step_many([good, bad])
        with pytest.raises(kind):
            segmenter.prepare(bad)
    assert engine.calls == []


def test_requests_that_pass_go_on_without_those_that_do_not(
    counting: tuple[AmodalSegmenter, CountingEngine],
) -> None:
    segmenter, engine = counting
    good = StepRequest(None, {9: rectangle(10, 10, 30, 30)}, segmenter.start(SMALL))
    prepared = []
    for request in (good, good._replace(frame_gap=0.0), good):
        try:
            prepared.append(segmenter.prepare(request))
        except InputError:
            continue
    stepped = segmenter.step_prepared(prepared)
    assert engine.calls == [2]
    for result, state in stepped:
        expected, after = segmenter.step(None, good.visible, good.state)
        assert_same_result(result, expected)
        assert_same_state(segmenter, state, after)
