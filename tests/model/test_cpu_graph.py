"""Graphs that leave out objects: the others come to what they would, to the last bit."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("torch")

import onnx

from amodal_model.cpu_graph import complete_what_can_be_hidden, find_reasons, move_what_moved
from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES
from amodal_model.errors import ModelError
from amodal_model.export import blank_memory, random_step
from amodal_model.memory import MemoryState, StepInputs
from amodal_model.model_files import ModelFolder

SIDE = 96
OPEN_CONFIDENCE = np.array([0.25, 0.125], np.float32)


def run(
    model: onnx.ModelProto, inputs: StepInputs[np.ndarray], memory: MemoryState[np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the outputs of one step, by name."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(INPUT_NAMES, (*inputs, *memory), strict=True))
    return dict(zip(OUTPUT_NAMES, session.run(list(OUTPUT_NAMES), feeds), strict=True))


@pytest.fixture
def model(tiny_model_folder: ModelFolder) -> onnx.ModelProto:
    return onnx.load(tiny_model_folder.graph("fp32"))


def block(crop: np.ndarray, channel: int, *box: int) -> None:
    left, top, right, bottom = box
    crop[channel, top:bottom, left:right] = 1


def scene() -> tuple[StepInputs[np.ndarray], MemoryState[np.ndarray], list[bool]]:
    """Return six objects, and which of them a part can be hidden of."""
    inputs, memory = random_step(np.random.default_rng(4), 6), blank_memory(6)
    inputs.crop[:] = 0
    inputs.theta[:] = np.eye(2, 3)
    for crop in inputs.crop[:5]:
        block(crop, 0, 30, 30, 60, 60)
    block(inputs.crop[1], 1, 60, 20, 80, 80)  # touches another
    block(inputs.crop[2], 1, 70, 20, 90, 80)  # lies apart from another
    block(inputs.crop[3], 1, 70, 20, 90, 80)  # the same, but was larger once
    memory.maps[3, :3, 25:65, 25:85] = 1
    block(inputs.crop[4], 2, 0, 0, 32, 96)  # reaches the border of the image
    return inputs, memory, [False, True, False, True, True, True]  # the last shows nothing


def test_only_what_can_be_hidden_is_completed(model: onnx.ModelProto) -> None:
    inputs, memory, expected = scene()
    every = run(model, inputs, memory)
    evidence = _evidence(model, inputs, memory)
    some = run(complete_what_can_be_hidden(model, OPEN_CONFIDENCE), inputs, memory)
    for name in OUTPUT_NAMES[2:]:
        assert np.array_equal(some[name], every[name]), name
    is_left = (some["confidence"] == OPEN_CONFIDENCE).all(1)
    assert [not left for left in is_left] == expected
    rows = np.flatnonzero(expected)
    np.testing.assert_allclose(some["logits"][rows], every["logits"][rows], atol=1e-5)
    np.testing.assert_allclose(some["confidence"][rows], every["confidence"][rows], atol=1e-6)
    left = np.flatnonzero(is_left)
    assert np.array_equal(some["logits"][left], evidence[left])
    assert (evidence[left] <= 0).all()


def test_an_object_comes_to_the_same_whatever_is_beside_it(model: onnx.ModelProto) -> None:
    """Also where none of a batch can be hidden, and one is worked on for the sake of the others."""
    inputs, memory, _ = scene()
    left_out = complete_what_can_be_hidden(model, OPEN_CONFIDENCE)
    together = run(left_out, inputs, memory)
    for rows in ([0], [2], [0, 2], [2, 0], [3], [0, 1]):
        some_inputs = StepInputs(*(field[rows] for field in inputs))
        some = run(left_out, some_inputs, MemoryState(*(field[rows] for field in memory)))
        for name in OUTPUT_NAMES:
            np.testing.assert_allclose(some[name], together[name][rows], atol=1e-5)


def _evidence(
    model: onnx.ModelProto, inputs: StepInputs[np.ndarray], memory: MemoryState[np.ndarray]
) -> np.ndarray:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    _, evidence = find_reasons(copied)
    copied.graph.output.append(onnx.helper.make_tensor_value_info(evidence, 1, None))
    session = onnxruntime.InferenceSession(
        copied.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(INPUT_NAMES, (*inputs, *memory), strict=True))
    return np.asarray(session.run([evidence], feeds)[0])


@pytest.mark.parametrize("moved", [[], [1], [0, 2], [0, 1, 2]])
def test_memory_of_windows_that_stay_is_left_as_it_is(
    model: onnx.ModelProto, moved: list[int]
) -> None:
    """Only rows whose window changed are resampled."""
    inputs = random_step(np.random.default_rng(2), 3)
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1))
    theta[moved, 0, 2] = 0.07
    maps = np.random.default_rng(3).random((3, 4, SIDE, SIDE)).astype(np.float32)
    memory = MemoryState(maps, np.full((3, 2), 0.5, np.float32))
    inputs = inputs._replace(theta=theta)
    every = run(model, inputs, memory)
    some = run(move_what_moved(model), inputs, memory)
    np.testing.assert_allclose(some["next_maps"], every["next_maps"], atol=1e-4)


def test_both_rewrites_hold_together(model: onnx.ModelProto) -> None:
    inputs, memory, _ = scene()
    inputs.theta[0, 0, 2] = 0.05
    every = run(complete_what_can_be_hidden(model, OPEN_CONFIDENCE), inputs, memory)
    both = run(move_what_moved(model), inputs, memory)
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(both[name], every[name], atol=1e-4)


def test_other_graphs_are_refused(model: onnx.ModelProto) -> None:
    empty = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    with pytest.raises(ModelError, match="no GridSample of 'maps'"):
        move_what_moved(empty)
    once = complete_what_can_be_hidden(model, OPEN_CONFIDENCE)
    with pytest.raises(ModelError, match="not the network's"):
        complete_what_can_be_hidden(once, OPEN_CONFIDENCE)
