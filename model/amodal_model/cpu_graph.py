"""8-bit graphs for the CPU leave out the objects that have nothing to be done.

Rewrites of an exported graph. The first two take out the rows (objects) that matter, work on them
and put them back. For the CPU alone: on a GPU the number of rows would have to be waited for.

- `move_what_moved`: the memory of windows that stay is not resampled.
- `complete_what_can_be_hidden`: an object that shows, whose contour touches no other mask and no
  border, and whose memory reaches under none, is what shows of it: nothing is left to complete.
- `join_quantised`: what is joined to be quantised is quantised first: a fourth of the bytes move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import ModelProto, NodeProto
from onnx.helper import make_node, make_tensor_value_info

from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES
from amodal_model.errors import ModelError
from amodal_model.memory import SCALAR_NAMES

_CROP, _THETA, _, _MAPS, _ = INPUT_NAMES
_LOGITS, _CONFIDENCE, _, _NEXT_MAPS, _NEXT_SCALARS = OUTPUT_NAMES
_FRAMES_HIDDEN = SCALAR_NAMES.index("frames_hidden")
LEAST_CONTACT = 0.01
"""Share of the contour that must lie at other masks or borders for a part to be hidden there."""

FoundT = TypeVar("FoundT")
Steps = list[tuple[str, list[str], str, dict[str, Any]]]


def move_what_moved(model: ModelProto) -> ModelProto:
    """Return the graph with the memory resampled only of objects whose window changed.

    Most windows stay (`tracks.follow`), and ONNX Runtime's GridSample on the CPU costs as much as
    a sixth of the convolutions.

    Raises:
        ModelError: the graph does not resample the memory.
    """
    nodes = list(model.graph.node)
    sample = next(
        (node for node in nodes if node.op_type == "GridSample" and node.input[0] == _MAPS), None
    )
    if sample is None:
        raise ModelError(f"the graph has no GridSample of {_MAPS!r}")
    _add_constants(
        model,
        {
            "still_theta": np.eye(2, 3, dtype=np.float32)[None],
            "still_zero": np.zeros((), np.float32),
            "still_axes": np.array([1, 2]),
            **_ROW_AXES,
        },
    )
    steps: Steps = [
        ("Sub", [_THETA, "still_theta"], "still_change", {}),
        ("Abs", ["still_change"], "still_size", {}),
        ("ReduceMax", ["still_size", "still_axes"], "still_largest", {"keepdims": 0}),
        ("Greater", ["still_largest", "still_zero"], "still_is_moved", {}),
        *_find_rows("still_is_moved", "moved"),
        ("Gather", [_MAPS, "moved_rows"], "moved_maps", {"axis": 0}),
        ("Gather", [sample.input[1], "moved_rows"], "moved_grid", {"axis": 0}),
        (
            "GridSample",
            ["moved_maps", "moved_grid"],
            "moved_sampled",
            {entry.name: onnx.helper.get_attribute_value(entry) for entry in sample.attribute},
        ),
        ("ScatterND", [_MAPS, "moved_index", "moved_sampled"], sample.output[0], {}),
    ]
    nodes.remove(sample)
    return _rebuilt(model, [*nodes, *_make(steps)])


def complete_what_can_be_hidden(
    model: ModelProto, open_confidence: Float32[np.ndarray, " 2"]
) -> ModelProto:
    """Return the graph with convolutions only for objects of which a part can be hidden.

    Of the others the logits are what the memory says, and the confidence is a constant, whatever
    else is in the batch. Where there are only others, the first is worked on and its outcome left
    out: convolutions of no rows are not safe.

    Args:
        model: a graph in which nothing is left out yet.
        open_confidence: what the network says of objects that nothing can hide.

    Raises:
        ModelError: the graph is not that of `AmodalNetwork`.
    """
    nodes = list(model.graph.node)
    makers = {name: node for node in nodes for name in node.output}
    contact, evidence = find_reasons(model)
    answer, confidence = makers[_LOGITS], makers[_CONFIDENCE]
    seen = _only(
        node for node in nodes if node.op_type == "Concat" and [*node.input] == [_CROP, _NEXT_MAPS]
    )
    conditions = _only(
        node.input[0]
        for node in nodes
        if node.op_type == "Gemm" and makers[node.input[0]].op_type == "Concat"
    )
    residual = _only(name for name in answer.input if name != evidence)
    _add_constants(
        model,
        {
            "open_confidence": np.asarray(open_confidence, np.float32)[None],
            "open_limit": np.array(LEAST_CONTACT, np.float32),
            "open_pixels": np.array([1, 2]),
            "open_objects": np.array([0]),
            "open_zero": np.zeros((), np.float32),
            "open_hidden": np.array(_FRAMES_HIDDEN),
            "open_mark": np.array(1, np.int32),
            "open_first": np.array(0),
            "open_step": np.array(1),
            **_ROW_AXES,
        },
    )
    steps: Steps = [
        ("ReduceMax", [evidence, "open_pixels"], "open_best", {"keepdims": 0}),
        ("Greater", ["open_best", "open_zero"], "open_reaches", {}),
        ("GreaterOrEqual", [contact, "open_limit"], "open_touches", {}),
        ("Gather", [_NEXT_SCALARS, "open_hidden"], "open_frames_hidden", {"axis": 1}),
        ("Greater", ["open_frames_hidden", "open_zero"], "open_is_out_of_sight", {}),
        ("Or", ["open_reaches", "open_touches"], "open_is_met", {}),
        ("Or", ["open_is_met", "open_is_out_of_sight"], "open_is_not", {}),
        ("Shape", [_CROP], "open_count", {"start": 0, "end": 1}),
        ("Squeeze", ["open_count", "rows_first"], "open_number", {}),
        ("Range", ["open_first", "open_number", "open_step"], "open_places", {}),
        ("Equal", ["open_places", "open_first"], "open_is_first", {}),
        ("Cast", ["open_is_not"], "open_marks", {"to": onnx.TensorProto.INT32}),
        ("ReduceMax", ["open_marks", "open_objects"], "open_any", {"keepdims": 0}),
        ("Less", ["open_any", "open_mark"], "open_is_all", {}),
        ("And", ["open_is_first", "open_is_all"], "open_stands_in", {}),
        ("Or", ["open_is_not", "open_stands_in"], "open_is_worked_on", {}),
        *_find_rows("open_is_worked_on", "hidden"),
        ("Gather", ["open_is_not", "hidden_rows"], "hidden_counts", {"axis": 0}),
        ("Unsqueeze", ["hidden_counts", "rows_last"], "hidden_counts_2", {}),
        ("Unsqueeze", ["hidden_counts", "open_pixels"], "hidden_counts_3", {}),
        ("Gather", [_CROP, "hidden_rows"], "hidden_crop", {"axis": 0}),
        ("Gather", [_NEXT_MAPS, "hidden_rows"], "hidden_maps", {"axis": 0}),
        ("Gather", [conditions, "hidden_rows"], "hidden_conditions", {"axis": 0}),
        ("Gather", [evidence, "hidden_rows"], "hidden_evidence", {"axis": 0}),
        ("Add", [residual, "hidden_evidence"], "hidden_sum", {}),
        ("Where", ["hidden_counts_3", "hidden_sum", "hidden_evidence"], "hidden_logits", {}),
        ("ScatterND", [evidence, "hidden_index", "hidden_logits"], _LOGITS, {}),
        (
            "Where",
            ["hidden_counts_2", "hidden_said", "open_confidence"],
            "hidden_confidence",
            {},
        ),
        ("Concat", ["open_count", "hidden_last"], "open_shape", {"axis": 0}),
        ("Expand", ["open_confidence", "open_shape"], "open_confidences", {}),
        ("ScatterND", ["open_confidences", "hidden_index", "hidden_confidence"], _CONFIDENCE, {}),
    ]
    nodes.remove(answer)
    _rename_input(seen, {_CROP: "hidden_crop", _NEXT_MAPS: "hidden_maps"})
    for node in nodes:
        if node.op_type == "Gemm":
            _rename_input(node, {conditions: "hidden_conditions"})
    confidence.output[0] = "hidden_said"
    return _rebuilt(model, [*nodes, *_make(steps)])


def join_quantised(model: ModelProto) -> ModelProto:
    """Return the graph with the inputs of a Concat quantised in place of what it gives.

    Both are the same to the last bit. Where nothing else reads the joined values alone.
    """
    nodes = list(model.graph.node)
    for joined in [node for node in nodes if node.op_type == "Concat"]:
        readers = [node for node in nodes if joined.output[0] in node.input]
        if [node.op_type for node in readers] != ["QuantizeLinear"]:
            continue
        how = list(readers[0].input[1:])
        quantised = [f"{name}_quantised" for name in joined.input]
        parts = [
            make_node("QuantizeLinear", [name, *how], [made], made)
            for name, made in zip(joined.input, quantised, strict=True)
        ]
        axis = onnx.helper.get_attribute_value(joined.attribute[0])
        together = make_node("Concat", quantised, readers[0].output, joined.name, axis=axis)
        nodes = [node for node in nodes if node is not joined and node is not readers[0]]
        nodes += [*parts, together]
    return _rebuilt(model, nodes)


def find_reasons(model: ModelProto) -> tuple[str, str]:
    """Return the names of what tells whether a part of an object can be hidden.

    Returns:
        ``contact``, (N,): the share of the contour at other masks or borders (`view_quality`);
        ``evidence``, (N, S, S): above 0 where the memory reaches under them (`evidence_logits`).

    Raises:
        ModelError: the graph is not that of `AmodalNetwork`.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    contact = _only(
        node.output[0]
        for node in model.graph.node
        if node.op_type == "Div" and makers[node.input[0]].op_type == "ReduceSum"
    )
    answer = makers[_LOGITS]
    evidence = _only(name for name in answer.input if makers[name].op_type == "Sub")
    return contact, evidence


def with_reasons(model: ModelProto) -> ModelProto:
    """Return a copy of the graph that gives out `find_reasons` as well."""
    copied = ModelProto()
    copied.CopyFrom(model)
    for name in find_reasons(model):
        copied.graph.output.append(make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copied


_ROW_AXES = {"rows_first": np.array([0]), "rows_last": np.array([1]), "hidden_last": np.array([2])}


def _find_rows(is_wanted: str, name: str) -> Steps:
    """Return steps that give ``NAME_rows``, (K,), and ``NAME_index``, (K, 1)."""
    return [
        ("NonZero", [is_wanted], f"{name}_found", {}),
        ("Squeeze", [f"{name}_found", "rows_first"], f"{name}_rows", {}),
        ("Unsqueeze", [f"{name}_rows", "rows_last"], f"{name}_index", {}),
    ]


def _make(steps: Steps) -> list[NodeProto]:
    return [make_node(kind, given, [made], made, **how) for kind, given, made, how in steps]


def _only(found: Iterable[FoundT]) -> FoundT:
    """Return the one thing that is found.

    Raises:
        ModelError: there is none, or more than one.
    """
    all_found = list(found)
    if len(all_found) != 1:
        raise ModelError(f"the graph is not the network's: {len(all_found)} where one is expected")
    return all_found[0]


def _add_constants(model: ModelProto, constants: Mapping[str, np.ndarray]) -> None:
    known = {entry.name for entry in model.graph.initializer}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name)
        for name, value in constants.items()
        if name not in known
    )


def _rename_input(node: NodeProto, names: Mapping[str, str]) -> None:
    renamed = [names.get(name, name) for name in node.input]
    del node.input[:]
    node.input.extend(renamed)


def _rebuilt(model: ModelProto, nodes: list[NodeProto]) -> ModelProto:
    """Return the model with other nodes, in an order in which each follows what it needs."""
    made_here = {name for node in nodes for name in node.output}
    done: set[str] = set()
    ordered: list[NodeProto] = []
    left = nodes
    while left:
        ready = [node for node in left if done.issuperset(made_here.intersection(node.input))]
        if not ready:
            raise ModelError("the graph has a loop")
        ordered += ready
        done.update(name for node in ready for name in node.output)
        chosen = {id(node) for node in ready}
        left = [node for node in left if id(node) not in chosen]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    onnx.checker.check_model(model)
    return model
