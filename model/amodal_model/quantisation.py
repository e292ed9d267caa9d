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
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from amodal_model.cpu_graph import (
    LEAST_CONTACT,
    complete_what_can_be_hidden,
    find_reasons,
    join_quantised,
    move_what_moved,
    with_reasons,
)
from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES, Engine
from amodal_model.errors import ModelError
from amodal_model.memory import SCALAR_NAMES, MemoryState, StepInputs
from amodal_model.onnx_session import CPU

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
    model = onnx.load(target)
    open_confidence = mean_open_confidence(model, steps)
    completed = complete_what_can_be_hidden(model, open_confidence)
    onnx.save(join_quantised(move_what_moved(completed)), target)


def mean_open_confidence(model: onnx.ModelProto, steps: Sequence[Step]) -> np.ndarray:
    """Return the mean confidence, (2,), of the objects of some steps that nothing can hide.

    Where there are none, it is the mean over all objects.
    """
    content = with_reasons(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=[CPU])
    names = [OUTPUT_NAMES[1], OUTPUT_NAMES[4], *find_reasons(model)]
    said, is_open = [], []
    for inputs, memory in steps:
        feeds = dict(zip(INPUT_NAMES, (*inputs, *memory), strict=True))
        confidence, scalars, contact, evidence = session.run(names, feeds)
        said.append(confidence)
        is_met = (contact >= LEAST_CONTACT) | (evidence.max((1, 2)) > 0)
        is_open.append(~is_met & (scalars[:, SCALAR_NAMES.index("frames_hidden")] <= 0))
    every, chosen = np.concatenate(said), np.concatenate(is_open)
    return np.asarray((every[chosen] if chosen.any() else every).mean(0), np.float32)


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
