"""ONNX Runtime: providers are named, what really runs is reported, bad files are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import amodal_model
from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES, take_rows
from amodal_model.engine_onnx import OnnxEngine
from amodal_model.errors import ModelError
from amodal_model.memory import CROP_SIDE, MemoryState, StepInputs
from amodal_model.model_files import ModelFolder, file_sha256, find_model
from amodal_model.onnx_session import CPU, CUDA, installed_wheels

HAS_GPU = CUDA in onnxruntime.get_available_providers()
no_gpu = pytest.mark.skipif(HAS_GPU, reason="this onnxruntime has a GPU provider")


def inputs_of(count: int) -> StepInputs[np.ndarray]:
    crop = np.zeros((count, 3, CROP_SIDE, CROP_SIDE), np.float32)
    for index in range(count):
        crop[index, 0, 20 + index : 60, 30:70] = 1
        crop[index, 1, 20:60, 60 + index :] = 1
    crop[:, 0] *= 1 - crop[:, 1]
    theta = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (count, 1, 1))
    context = np.tile(np.array([0.03, 1.0, 0, 0, 0, 0], np.float32), (count, 1))
    return StepInputs(crop, theta, context)


def blank(count: int) -> MemoryState[np.ndarray]:
    maps = np.zeros((count, 4, CROP_SIDE, CROP_SIDE), np.float32)
    return MemoryState(maps, np.zeros((count, 2), np.float32))


def copied(folder: ModelFolder, to: Path) -> Path:
    shutil.copytree(folder.path, to)
    return to


def describe(folder: Path) -> None:
    """Let model.json describe the graph that lies there now."""
    content = json.loads((folder / "model.json").read_text())
    content["sha256"]["model.onnx"] = file_sha256(folder / "model.onnx")
    (folder / "model.json").write_text(json.dumps(content))


def test_one_wheel_is_installed() -> None:
    (wheel,) = installed_wheels()
    assert wheel.startswith("onnxruntime")


def test_what_was_asked_for_and_what_runs_are_reported(tiny_model_folder: ModelFolder) -> None:
    info = OnnxEngine(tiny_model_folder, "cpu").info
    assert info.requested == (CPU,)
    assert info.actual == CPU
    assert (info.model_name, info.model_version) == ("tiny", "7")
    assert info.sha256 == file_sha256(tiny_model_folder.path / "model.onnx")


@no_gpu
def test_auto_is_the_cpu_where_there_is_no_gpu(tiny_model_folder: ModelFolder) -> None:
    info = OnnxEngine(tiny_model_folder).info
    assert (info.requested, info.actual) == ((CPU,), CPU)


def test_unknown_provider_is_refused(tiny_model_folder: ModelFolder) -> None:
    with pytest.raises(ModelError, match="'tpu' is not one of auto, cpu, cuda, tensorrt"):
        OnnxEngine(tiny_model_folder, "tpu")


@no_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_provider_that_is_not_installed_is_refused(
    tiny_model_folder: ModelFolder, provider: str
) -> None:
    with pytest.raises(ModelError, match=r"is not in the installed onnxruntime, which has .*CPU"):
        OnnxEngine(tiny_model_folder, provider)


def test_required_gpu_fails_on_the_cpu(tiny_model_folder: ModelFolder) -> None:
    with pytest.raises(ModelError, match="a GPU is required, but CPUExecutionProvider runs"):
        OnnxEngine(tiny_model_folder, "cpu", require_gpu=True)
    with pytest.raises(ModelError, match="a GPU is required"):
        amodal_model.load(tiny_model_folder.path, provider="cpu", require_gpu=True)


def test_file_that_is_no_graph_is_refused(tiny_model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = copied(tiny_model_folder, tmp_path / "model")
    (folder / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="sha256 differs"):
        OnnxEngine(find_model(folder), "cpu")
    describe(folder)
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        OnnxEngine(find_model(folder), "cpu")


def test_graph_of_something_else_is_refused(tiny_model_folder: ModelFolder, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder = copied(tiny_model_folder, tmp_path / "model")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["image"], ["same"])],
        "another",
        [value("image", onnx.TensorProto.FLOAT, ["n"])],
        [value("same", onnx.TensorProto.FLOAT, ["n"])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "model.onnx"
    )
    describe(folder)
    with pytest.raises(ModelError, match=r"model\.onnx: inputs \('image',\) and outputs"):
        OnnxEngine(find_model(folder), "cpu")


def test_graph_has_the_names_of_the_seam(tiny_model_folder: ModelFolder) -> None:
    path = tiny_model_folder.graph()
    session = onnxruntime.InferenceSession(str(path), providers=[CPU])
    assert tuple(entry.name for entry in session.get_inputs()) == INPUT_NAMES
    assert tuple(entry.name for entry in session.get_outputs()) == OUTPUT_NAMES


def test_memory_stays_with_the_engine_between_steps(tiny_model_folder: ModelFolder) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    _, memory = engine.step(inputs_of(3), blank(3))
    for field in memory:
        assert isinstance(field, onnxruntime.OrtValue)
    _, after = engine.step(inputs_of(3), memory)
    assert all(isinstance(field, onnxruntime.OrtValue) for field in after)
    host = engine.to_host(after)
    assert host.maps.shape == (3, 4, CROP_SIDE, CROP_SIDE)
    assert host.maps.dtype == host.scalars.dtype == np.float32


def test_memory_from_the_host_and_the_device_are_one(tiny_model_folder: ModelFolder) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    _, memory = engine.step(inputs_of(2), blank(2))
    bound, _ = engine.step(inputs_of(2), memory)
    saved, _ = engine.step(inputs_of(2), engine.to_host(memory))
    for a, b in zip(bound, saved, strict=True):
        np.testing.assert_array_equal(a, b)


def test_outputs_outlive_the_next_step(tiny_model_folder: ModelFolder) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    outputs, memory = engine.step(inputs_of(2), blank(2))
    kept = [np.array(field) for field in outputs]
    for _ in range(3):
        _, memory = engine.step(inputs_of(2), memory)
    for field, copy in zip(outputs, kept, strict=True):
        np.testing.assert_array_equal(field, copy)


def test_memory_given_is_not_written_to(tiny_model_folder: ModelFolder) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    _, memory = engine.step(inputs_of(2), blank(2))
    before = engine.to_host(memory).maps.copy()
    engine.step(inputs_of(2), memory)
    np.testing.assert_array_equal(engine.to_host(memory).maps, before)


def test_inputs_of_any_layout_are_taken(tiny_model_folder: ModelFolder) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    given = inputs_of(2)
    odd = StepInputs(*(np.asfortranarray(field.astype(np.float64)) for field in given))
    for a, b in zip(engine.step(given, blank(2))[0], engine.step(odd, blank(2))[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_taken_rows_are_in_the_order_asked_for() -> None:
    memory = blank(3)
    memory.scalars[:, 0] = [1, 2, 3]
    taken = take_rows(memory, [2, -1, 0])
    assert taken.scalars[:, 0].tolist() == [3, 0, 1]
    assert take_rows(memory, []).maps.shape == (0, 4, CROP_SIDE, CROP_SIDE)
    assert take_rows(blank(0), [-1]).maps.shape == (1, 4, CROP_SIDE, CROP_SIDE)


def test_loaded_model_completes_masks(tiny_model_folder: ModelFolder) -> None:
    segmenter = amodal_model.load(tiny_model_folder.path)
    mask = np.zeros((40, 50), bool)
    mask[10:30, 10:30] = True
    state = segmenter.start(mask.shape)
    result, _ = segmenter.step(None, {1: amodal_model.box_mask(mask)}, state)
    assert result.objects[0].track_id == 1
