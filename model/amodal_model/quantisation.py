"""8-bit graphs for the CPU: static quantisation of the convolutions, and the gate it must pass.

Weights are signed 8 bit by channel, activations unsigned 8 bit with ranges seen on calibration
steps. The memory, its evidence and the last convolution, whose output are logits, stay float.
Imported where models are exported; serving only loads what was written.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from amodal_model.engine import INPUT_NAMES, Engine
from amodal_model.errors import ModelError
from amodal_model.memory import MemoryState, StepInputs

Step = tuple[StepInputs[np.ndarray], MemoryState[np.ndarray]]
"""Inputs of one step of the network."""
HIDDEN_IOU_LOSS = 0.005
"""Largest loss of hidden IoU on drawn held-out occlusions, 8 bit against single precision."""


class Calibration(NamedTuple):
    """What an 8-bit graph is made and judged with.

    Attributes:
        steps: realistic steps; the ranges of activations are taken from them.
        hidden_iou: returns an engine's mean hidden IoU on drawn held-out occlusions.
    """

    steps: Sequence[Step]
    hidden_iou: Callable[[Engine], float]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds steps to onnxruntime's calibration."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = (
            dict(zip(INPUT_NAMES, (*inputs, *memory), strict=True)) for inputs, memory in steps
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def quantise(source: Path, target: Path, steps: Sequence[Step]) -> None:
    """Write the 8-bit graph of a graph in single precision.

    Args:
        source: the ONNX file to read.
        target: the ONNX file to write.
        steps: what activations' ranges are taken from.

    Raises:
        ModelError: there are no steps, or the graph has no convolution.
    """
    if not steps:
        raise ModelError("8-bit quantisation needs calibration steps, got none")
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        logging.getLogger().disabled, before = True, logging.getLogger().disabled
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(target),
                _Reader(steps),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(QUANTISED),
                per_channel=True,
                reduce_range=True,  # 8 bit weights overflow 16 bit sums on CPUs without VNNI
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=float_nodes(onnx.load(prepared)),
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            logging.getLogger().disabled = before
    onnx.save(move_what_moved(onnx.load(target)), target)


QUANTISED = ("Conv",)


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that stay float: the last convolution.

    Raises:
        ModelError: the graph has no convolution.
    """
    names = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if not names:
        raise ModelError("the graph has no convolution to quantise")
    return names[-1:]


def check_hidden_iou(reference: Engine, engine: Engine, calibration: Calibration) -> float:
    """Return how much hidden IoU the 8-bit engine loses on drawn held-out occlusions.

    Raises:
        ModelError: it loses `HIDDEN_IOU_LOSS` or more.
    """
    single, eight = calibration.hidden_iou(reference), calibration.hidden_iou(engine)
    loss = single - eight
    if not loss < HIDDEN_IOU_LOSS:  # NaN fails too
        raise ModelError(
            f"8-bit quantisation loses {loss:.4f} hidden IoU on held-out drawn occlusions "
            f"({single:.4f} to {eight:.4f}), limit {HIDDEN_IOU_LOSS:g}"
        )
    return loss


def move_what_moved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the memory resampled only of objects whose window changed.

    Most windows stay (`tracks.follow`), and ONNX Runtime's GridSample on the CPU costs as much as
    a sixth of the convolutions. Those rows are taken out, sampled and put back. For the CPU alone:
    on a GPU the number of rows would have to be waited for.

    Raises:
        ModelError: the graph does not resample the memory.
    """
    graph = model.graph
    places = [
        place
        for place, node in enumerate(graph.node)
        if node.op_type == "GridSample" and node.input[0] == _MAPS
    ]
    if not places:
        raise ModelError(f"the graph has no GridSample of {_MAPS!r}")
    nodes = list(graph.node)
    sample = nodes[places[0]]
    grid, moved = sample.input[1], sample.output[0]
    graph.initializer.extend(
        onnx.numpy_helper.from_array(value, f"still_{name}") for name, value in _STILL.items()
    )
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Sub", [_THETA, "still_theta"], "still_change", {}),
        ("Abs", ["still_change"], "still_size", {}),
        ("ReduceMax", ["still_size", "still_axes"], "still_largest", {"keepdims": 0}),
        ("Greater", ["still_largest", "still_zero"], "still_is_moved", {}),
        ("NonZero", ["still_is_moved"], "still_found", {}),
        ("Squeeze", ["still_found", "still_first"], "still_rows", {}),
        ("Gather", [_MAPS, "still_rows"], "still_maps", {"axis": 0}),
        ("Gather", [grid, "still_rows"], "still_grid", {"axis": 0}),
        ("GridSample", ["still_maps", "still_grid"], "still_sampled", {}),
        ("Unsqueeze", ["still_rows", "still_last"], "still_index", {}),
        ("ScatterND", [_MAPS, "still_index", "still_sampled"], moved, {}),
    ]
    made = [onnx.helper.make_node(op, given, [out], out, **how) for op, given, out, how in steps]
    next(node for node in made if node.op_type == "GridSample").attribute.extend(sample.attribute)
    del graph.node[:]
    graph.node.extend([*nodes[: places[0]], *made, *nodes[places[0] + 1 :]])
    onnx.checker.check_model(model)
    return model


_THETA, _MAPS = INPUT_NAMES[1], INPUT_NAMES[3]
_STILL = {
    "theta": np.eye(2, 3, dtype=np.float32)[None],
    "zero": np.zeros((), np.float32),
    "axes": np.array([1, 2]),
    "first": np.array([0]),
    "last": np.array([1]),
}
