"""8-bit graphs: near the network where they are calibrated, left out where they are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript")
pytest.importorskip("torch")

import onnx

from amodal_model.engine import Engine
from amodal_model.engine_onnx import OnnxEngine
from amodal_model.engine_torch import TorchEngine
from amodal_model.errors import ModelError
from amodal_model.export import (
    blank_memory,
    describe_int8,
    export_model,
    random_step,
)
from amodal_model.model_files import ModelFolder, find_model
from amodal_model.network import AmodalNetwork
from amodal_model.quantisation import (
    Calibration,
    Step,
    check_hidden_iou,
    quantise,
)

TOLERANCE = 0.1
"""Largest difference of any output of the tiny network in 8 bit; logits count as probabilities."""


def drawn_steps(count: int) -> list[Step]:
    rng = np.random.default_rng(3)
    return [(random_step(rng, 2), blank_memory(2)) for _ in range(count)]


def agreement(network: AmodalNetwork) -> Callable[[Engine], float]:
    """Return the gate's measure here: soft IoU of an engine's silhouettes and the network's.

    The network is random and its logits lie about 0 where it adds: hard masks would flicker.
    """
    reference = TorchEngine(network)

    def measure(engine: Engine) -> float:
        inputs, memory = random_step(np.random.default_rng(9), 8), blank_memory(8)
        logits = (e.step(inputs, memory)[0].logits for e in (engine, reference))
        said, expected = (1 / (1 + np.exp(-values)) for values in logits)
        return float(np.minimum(said, expected).sum() / np.maximum(said, expected).sum())

    return measure


def exported(network: AmodalNetwork, folder: Path, steps: list[Step]) -> ModelFolder:
    calibration = Calibration(steps, agreement(network))
    return export_model(
        network, folder, name="tiny", version="7", training={}, calibration=calibration
    )


@pytest.fixture(scope="module")
def int8_folder(
    tiny_network: AmodalNetwork, tmp_path_factory: pytest.TempPathFactory
) -> ModelFolder:
    return exported(tiny_network, tmp_path_factory.mktemp("int8") / "tiny", drawn_steps(20))


def test_calibrated_graph_stays_near_the_network(
    int8_folder: ModelFolder, tiny_network: AmodalNetwork
) -> None:
    """Of objects that are completed; of the others the network is not asked."""
    engine, reference = OnnxEngine(int8_folder, "cpu", precision="int8"), TorchEngine(tiny_network)
    graph = onnx.load(int8_folder.graph("int8"))
    (constant,) = (entry for entry in graph.graph.initializer if entry.name == "open_confidence")
    rng, memory = np.random.default_rng(5), blank_memory(5)
    largest, completed = [], 0
    for _ in range(50):
        inputs = random_step(rng, 5)
        first = reference.step(inputs, memory)[0]
        second, following = engine.step(inputs, memory)
        memory = engine.to_host(following)
        is_completed = (second.confidence != onnx.numpy_helper.to_array(constant)).any(1)
        completed += int(is_completed.sum())
        for said, expected in zip(second[:2], first[:2], strict=True):
            both = [1 / (1 + np.exp(-each[is_completed])) for each in (said, expected)]
            largest.append(np.abs(both[0] - both[1]).max(initial=0.0))
    assert 1e-4 < max(largest) < TOLERANCE, "a graph in 8 bit is near the network, not equal to it"
    assert completed > 100


def test_memory_is_that_of_single_precision(int8_folder: ModelFolder) -> None:
    engines = [OnnxEngine(int8_folder, "cpu", precision=name) for name in ("fp32", "int8")]
    inputs = random_step(np.random.default_rng(1), 3)
    memories = [engine.to_host(engine.step(inputs, blank_memory(3))[1]) for engine in engines]
    assert np.array_equal(memories[0].maps, memories[1].maps)
    assert np.array_equal(memories[0].scalars, memories[1].scalars)


def test_cpu_runs_8_bit_where_the_model_has_it(
    int8_folder: ModelFolder, tiny_model_folder: ModelFolder
) -> None:
    assert OnnxEngine(find_model(int8_folder.path), "cpu").info.precision == "int8"
    assert OnnxEngine(int8_folder, "cpu", precision="fp32").info.precision == "fp32"
    assert OnnxEngine(tiny_model_folder, "cpu").info.precision == "fp32"
    with pytest.raises(ModelError, match=r"no model-int8\.onnx"):
        OnnxEngine(tiny_model_folder, "cpu", precision="int8")


def test_description_says_what_8_bit_loses(int8_folder: ModelFolder) -> None:
    said = json.loads((int8_folder.path / "model.json").read_text())["int8"]
    assert said["hidden_iou_loss"] < 0.005
    assert said["calibration_steps"] == 20
    assert "loses" in describe_int8(int8_folder)


def test_graph_calibrated_on_nothing_is_left_out(
    tiny_network: AmodalNetwork, tmp_path: Path
) -> None:
    """Ranges of empty crops are far too small for what comes, so the silhouettes differ."""
    inputs, memory = drawn_steps(1)[0]
    empty = (inputs._replace(crop=np.zeros_like(inputs.crop)), memory)
    folder = exported(tiny_network, tmp_path / "tiny", [empty])
    assert not (folder.path / "model-int8.onnx").exists()
    described = find_model(folder.path)
    assert not described.has("int8")
    assert "8-bit quantisation loses" in described.description["int8"]["left_out"]
    assert describe_int8(described).startswith("no 8-bit graph: ")
    assert OnnxEngine(described, "cpu").info.precision == "fp32"


def test_gate_refuses_what_is_not_a_number(int8_folder: ModelFolder) -> None:
    engine = OnnxEngine(int8_folder, "cpu")
    with pytest.raises(ModelError, match="loses nan hidden IoU"):
        check_hidden_iou(engine, engine, Calibration([], lambda engine: float("nan")))


def test_quantising_without_steps_is_refused(
    tiny_model_folder: ModelFolder, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="needs calibration steps, got none"):
        quantise(tiny_model_folder.graph(), tmp_path / "out.onnx", [])
