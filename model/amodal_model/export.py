"""Export to ONNX, and the parity that a file must hold to be written.

The exported graph is compared with the network over several numbers of objects and over 50
steps in which each feeds on its own memory, so that a difference that grows would show.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from amodal_model.checkpoint import save_weights
from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES, Engine
from amodal_model.engine_onnx import OnnxEngine
from amodal_model.engine_torch import TorchEngine
from amodal_model.errors import ModelError
from amodal_model.memory import (
    CONTEXT_NAMES,
    CROP_SIDE,
    MAP_NAMES,
    SCALAR_NAMES,
    MemoryState,
    StepInputs,
)
from amodal_model.model_files import FORMAT, GRAPHS, ModelFolder, file_sha256
from amodal_model.network import AmodalNetwork
from amodal_model.quantisation import Calibration, check_hidden_iou, quantise

TOLERANCE = {"fp32": 1e-4, "fp16": 5e-2}
"""Largest difference of any output, by precision; logits count as probabilities."""
PARITY_COUNTS = (1, 2, 5)
PARITY_STEPS = 50


class _Graph(nn.Module):
    """The step with flat inputs and outputs, its completion in single or half precision."""

    def __init__(self, network: AmodalNetwork, precision: str) -> None:
        super().__init__()
        self.network = network.half() if precision == "fp16" else network

    def forward(
        self, crop: Tensor, theta: Tensor, context: Tensor, maps: Tensor, scalars: Tensor
    ) -> tuple[Tensor, ...]:
        inputs = StepInputs(crop, theta, context)
        outputs, memory = self.network(inputs, MemoryState(maps, scalars))
        return (*outputs, *memory)


def export_model(
    network: AmodalNetwork,
    folder: Path,
    *,
    name: str,
    version: str,
    training: dict[str, Any],
    calibration: Calibration | None = None,
) -> ModelFolder:
    """Write a model folder; nothing is written unless parity holds.

    An 8-bit graph that fails its gate is left out; ``model.json`` says under ``int8`` what it
    loses, or why it is not there.

    Args:
        network: the network, on any device.
        folder: replaced as a whole when everything holds.
        name: name of the model.
        version: its version.
        training: what it was trained on and how; goes into ``model.json``.
        calibration: what the 8-bit graph is made and judged with; without, there is none.

    Raises:
        ModelError: an exported graph differs from the network by more than `TOLERANCE`.
    """
    network = network.cpu().eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as partial:
        path = Path(partial)
        save_weights(network, path)
        for precision in TOLERANCE:
            _write_graph(network, path / GRAPHS[precision], precision)
        description = {
            "format": FORMAT,
            "name": name,
            "version": version,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "crop_side": CROP_SIDE,
            "parameters": sum(value.numel() for value in network.parameters()),
            "network": network.config._asdict(),
            "training": training,
            "sha256": {entry.name: file_sha256(entry) for entry in sorted(path.glob("*.*"))},
        }
        written = ModelFolder(path, description)
        for precision in TOLERANCE:
            engine = OnnxEngine(written, "cpu", precision=precision)
            check_parity(TorchEngine(network), engine, TOLERANCE[precision])
        if calibration is not None:
            description["int8"] = _add_int8(written, calibration)
        (path / "model.json").write_text(json.dumps(description, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        for entry in path.iterdir():
            shutil.copy(entry, folder)
    return ModelFolder(folder, description)


def _add_int8(written: ModelFolder, calibration: Calibration) -> dict[str, Any]:
    """Add the 8-bit graph to a folder if it holds its gate, and return what is said of it."""
    path = written.path / GRAPHS["int8"]
    sha256 = written.description["sha256"]
    try:
        quantise(written.graph("fp32"), path, calibration.steps)
        sha256[path.name] = file_sha256(path)
        single, eight = (OnnxEngine(written, "cpu", precision=name) for name in ("fp32", "int8"))
        loss = check_hidden_iou(single, eight, calibration)
    except ModelError as error:
        path.unlink(missing_ok=True)
        sha256.pop(path.name, None)
        return {"left_out": str(error)}
    return {"hidden_iou_loss": round(loss, 5), "calibration_steps": len(calibration.steps)}


def describe_int8(folder: ModelFolder) -> str:
    """Return one line on the 8-bit graph of an exported folder."""
    said = folder.description.get("int8")
    if said is None:
        return "no 8-bit graph; `amodal export` makes one, given a dataset"
    if "left_out" in said:
        return f"no 8-bit graph: {said['left_out']}"
    return f"8-bit graph: loses {said['hidden_iou_loss']:.4f} hidden IoU on held-out occlusions"


def _write_graph(network: AmodalNetwork, path: Path, precision: str) -> None:
    copied = AmodalNetwork(network.config)
    copied.load_state_dict(network.state_dict())
    graph = _Graph(copied.eval(), precision).eval()
    example = random_step(np.random.default_rng(0), 2)
    tensors = tuple(torch.from_numpy(array) for array in example)
    tensors += (
        torch.zeros(2, len(MAP_NAMES), CROP_SIDE, CROP_SIDE),
        torch.zeros(2, len(SCALAR_NAMES)),
    )
    objects = torch.export.Dim("objects", min=1, max=4096)
    shapes = tuple({0: objects} for _ in INPUT_NAMES)
    write_graph(graph, tensors, path, (INPUT_NAMES, OUTPUT_NAMES), shapes)


def write_graph(
    module: nn.Module,
    example: tuple[Tensor, ...],
    path: Path,
    names: tuple[Sequence[str], Sequence[str]],
    dynamic_shapes: Any = None,
) -> None:
    """Write a module as an ONNX file that names nothing of this machine.

    Args:
        module: in evaluation mode.
        example: its inputs.
        path: of the file.
        names: of its inputs and outputs.
        dynamic_shapes: as `torch.export.export` takes them; all axes are fixed without.

    Raises:
        ModelError: the exporter gave nothing.
    """
    # the exporter warns about its own internals, and about packages that are not needed
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            example,
            dynamo=True,
            input_names=list(names[0]),
            output_names=list(names[1]),
            dynamic_shapes=dynamic_shapes,
            verbose=False,
        )
    if program is None:
        raise ModelError("the ONNX exporter gave nothing")
    onnx.save(without_traces(program.model_proto), path)


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without the exporter's stack traces, which name this machine's paths."""
    graph = model.graph
    for entry in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]
        entry.doc_string = ""
    del graph.metadata_props[:]
    del model.metadata_props[:]
    return model


def random_step(rng: np.random.Generator, count: int) -> StepInputs[np.ndarray]:
    """Return plausible inputs of N objects: two overlapping boxes each, a window that drifts."""
    crop = np.zeros((count, 3, CROP_SIDE, CROP_SIDE), np.float32)
    for index in range(count):
        for channel in (0, 1):
            x, y = rng.integers(10, 50, 2)
            width, height = rng.integers(10, 45, 2)
            crop[index, channel, y : y + height, x : x + width] = 1
    crop[:, 1] *= 1 - crop[:, 0]
    crop[:, 2, :, :5] = 1
    theta = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (count, 1, 1))
    if rng.random() < 0.3:
        theta[:, :, 2] += rng.normal(0, 0.03, (count, 2)).astype(np.float32)
    context = rng.normal(0, 0.02, (count, len(CONTEXT_NAMES))).astype(np.float32)
    context[:, 0], context[:, 1] = rng.uniform(0, 0.1, count), 1
    return StepInputs(crop, theta, context)


def blank_memory(count: int) -> MemoryState[np.ndarray]:
    """Return the memory of N objects that nothing is remembered of."""
    maps = np.zeros((count, len(MAP_NAMES), CROP_SIDE, CROP_SIDE), np.float32)
    return MemoryState(maps, np.zeros((count, len(SCALAR_NAMES)), np.float32))


def check_parity(reference: Engine, engine: Engine, tolerance: float) -> float:
    """Return the largest difference of two engines' outputs over batch sizes and 50 steps.

    Raises:
        ModelError: it is above the tolerance.
    """
    largest = 0.0
    for count in PARITY_COUNTS:
        rng = np.random.default_rng(count)
        memories = [blank_memory(count), blank_memory(count)]
        for step in range(PARITY_STEPS):
            inputs = random_step(rng, count)
            first, memories[0] = reference.step(inputs, memories[0])
            second, memories[1] = engine.step(inputs, memories[1])
            pairs = [(_probability(first.logits), _probability(second.logits))]
            pairs += zip(first[1:], second[1:], strict=True)
            pairs += zip(
                *(e.to_host(m) for e, m in _paired(reference, engine, memories)), strict=True
            )
            # numpy's max, because Python's own would let NaN pass
            largest = float(np.max([largest, *(np.abs(a - b).max() for a, b in pairs)]))
            if not largest <= tolerance:
                raise ModelError(
                    f"{engine.info.actual} differs from the network by {largest:.2g} at step "
                    f"{step} with {count} objects, limit {tolerance:g}"
                )
    return largest


def _paired(reference: Engine, engine: Engine, memories: list[Any]) -> list[tuple[Engine, Any]]:
    return [(reference, memories[0]), (engine, memories[1])]


def _probability(logits: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))))
