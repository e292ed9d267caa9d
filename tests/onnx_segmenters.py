"""Small ONNX files with the interfaces of real segmenters, made node by node.

Each computes something whose right answer a test can work out: a YOLO of constants, a SAM 2 whose
decoder takes the bright pixels near its prompt, a generic one that masks by colour.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Sides = Sequence[int | str | None]
FLOAT, FLOAT16, UINT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
BOOL, INT64, INT32 = TensorProto.BOOL, TensorProto.INT64, TensorProto.INT32


class GraphBuilder:
    """Collects nodes; `save` writes the file."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.weights: list[onnx.TensorProto] = []

    def input(self, name: str, kind: int, sides: Sides) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, kind, sides))
        return name

    def output(self, name: str, kind: int, sides: Sides | None, of: str) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, kind, sides))
        self.nodes.append(helper.make_node("Identity", [of], [name]))

    def weight(self, array: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        return self.weight(np.array(value, np.float32))

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def save(self, path: Path, domains: Mapping[str, int] | None = None) -> Path:
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.weights)
        opsets = [helper.make_opsetid(*entry) for entry in ({"": 17} | dict(domains or {})).items()]
        path.write_bytes(
            helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
        )
        return path


def write_yolo(
    path: Path,
    detections: np.ndarray,
    prototypes: np.ndarray,
    *,
    sides: Sides = (1, 3, 64, 64),
    output_sides: tuple[Sides, Sides] | None = None,
    kind: int = FLOAT,
) -> Path:
    """Write a YOLO that finds the same in every image: output0 and output1 are constants.

    Args:
        path: the file.
        detections: (1, C, A) or (1, D, C).
        prototypes: (1, K, h, w).
        sides: of the image.
        output_sides: what is stated of the outputs; their shapes by default.
        kind: element type of the image.
    """
    graph = GraphBuilder()
    image = graph.input("images", kind, sides)
    # the image takes part, so that nothing of the graph is folded away
    nothing = graph.node("ReduceMean", graph.node("Cast", image, to=FLOAT), keepdims=0)
    nothing = graph.node("Mul", nothing, graph.number(0))
    stated = output_sides or (detections.shape, prototypes.shape)
    for name, array, shape in zip(
        ("output0", "output1"), (detections, prototypes), stated, strict=True
    ):
        value = graph.node("Add", graph.weight(array.astype(np.float32)), nothing)
        graph.output(name, FLOAT, shape, value)
    return graph.save(path)


def write_sam2_encoder(
    path: Path,
    *,
    side: int | str = 64,
    names: tuple[str, str, str, str] = (
        "image",
        "high_res_feats_0",
        "high_res_feats_1",
        "image_embed",
    ),
    channels: int = 1,
) -> Path:
    """Write an encoder: the mean of the channels at a quarter, an eighth and a 16th of its side."""
    graph = GraphBuilder()
    image = graph.input(names[0], FLOAT, (1, 3, side, side))
    grey = graph.node("ReduceMean", image, axes=[1], keepdims=1)
    for name, stride in zip(names[1:], (4, 8, 16), strict=True):
        value = graph.node("AveragePool", grey, kernel_shape=[stride] * 2, strides=[stride] * 2)
        if name == names[3] and channels > 1:
            value = graph.node("Concat", *[value] * channels, axis=1)
        cells = side // stride if isinstance(side, int) else None
        width = channels if name == names[3] else 1
        graph.output(name, FLOAT, (1, width, cells, cells), value)
    return graph.save(path)


def write_sam2_decoder(
    path: Path,
    *,
    side: int = 64,
    names: Mapping[str, str] | None = None,
    labels_kind: int = FLOAT,
    has_prompts_axis: bool = False,
    masks: int = 1,
    has_logits: bool = False,
    embed_channels: int = 1,
) -> Path:
    """Write a decoder: bright pixels, of the quarter-size features, inside the prompted circle.

    The circle lies around the mean of the prompted points, and reaches half their extent and an
    eighth of the image further. A hundredth of the logits of a mask that is given is added. Scores
    are 0.9, 0.8, ... of the candidates; candidate 2 and up are all of the image.
    """
    called = {
        name: name
        for name in (
            "image_embed",
            "high_res_feats_0",
            "high_res_feats_1",
            "point_coords",
            "point_labels",
            "mask_input",
            "has_mask_input",
            "masks",
            "iou_predictions",
        )
    } | dict(names or {})
    quarter = side // 4
    graph = GraphBuilder()
    embed = graph.input(called["image_embed"], FLOAT, (1, embed_channels, side // 16, side // 16))
    bright = graph.input(called["high_res_feats_0"], FLOAT, (1, 1, quarter, quarter))
    other = graph.input(called["high_res_feats_1"], FLOAT, (1, 1, side // 8, side // 8))
    extra = [1] if has_prompts_axis else []
    coords = graph.input(called["point_coords"], FLOAT, ("B", *extra, "N", 2))
    labels = graph.input(called["point_labels"], labels_kind, ("B", *extra, "N"))
    unused, given = [embed, other, labels], None
    if called["mask_input"]:
        mask = graph.input(called["mask_input"], FLOAT, ("B", 1, quarter, quarter))
        has_mask = graph.input(called["has_mask_input"], FLOAT, ("B",))
        flat = graph.node("Reshape", mask, graph.weight(np.array([quarter, quarter])))
        given = graph.node("Mul", flat, has_mask)
    else:
        unused.append(graph.input("input_boxes", FLOAT, ("B", "M", 4)))
    inside = _inside_circle(graph, coords, side)
    # bright is (pixel / 255 - mean) / std: above 0.5 for light grey
    light = graph.node(
        "Sub",
        graph.node("Reshape", bright, graph.weight(np.array([quarter, quarter]))),
        graph.number(0.5),
    )
    light = graph.node("Mul", light, graph.number(10))
    value = graph.node("Min", light, inside)
    if given is not None:
        value = graph.node("Add", value, graph.node("Mul", given, graph.number(0.01)))
    for name in unused:
        number = graph.node("ReduceSum", graph.node("Cast", name, to=FLOAT), keepdims=0)
        value = graph.node("Add", value, graph.node("Mul", number, graph.number(0)))
    shape = graph.weight(np.array([1, *extra, 1, quarter, quarter]))
    best = graph.node("Reshape", value, shape)
    everything = graph.node("Add", graph.node("Mul", best, graph.number(0)), graph.number(5))
    stacked = graph.node("Concat", best, *[everything] * (masks - 1), axis=1 + len(extra))
    sides: Sides = ("B", *extra, masks, quarter, quarter)
    if has_logits:
        graph.output("low_res_masks", FLOAT, sides, stacked)
        stacked = graph.node("Greater", stacked, graph.number(0))
    graph.output(called["masks"], BOOL if has_logits else FLOAT, sides, stacked)
    scores = (0.9 - 0.1 * np.arange(masks, dtype=np.float32)).reshape(1, *extra, masks)
    graph.output(called["iou_predictions"], FLOAT, ("B", *extra, masks), graph.weight(scores))
    return graph.save(path)


def _inside_circle(graph: GraphBuilder, coords: str, side: int) -> str:
    """Return how far the cells of a grid are inside the circle around some points, pixels."""
    flat = graph.node("Reshape", coords, graph.weight(np.array([-1, 2])))
    flat = graph.node("Add", flat, graph.number(0.5))
    low = graph.node("ReduceMin", flat, axes=[0], keepdims=0)
    high = graph.node("ReduceMax", flat, axes=[0], keepdims=0)
    centre = graph.node("Mul", graph.node("Add", low, high), graph.number(0.5))
    extent = graph.node("ReduceMax", graph.node("Sub", high, low), keepdims=0)
    radius = graph.node("Mul", extent, graph.number(0.5))
    radius = graph.node("Add", radius, graph.number(side / 8))
    ys, xs = np.mgrid[: side // 4, : side // 4].astype(np.float32) * 4 + 2
    grid = graph.weight(np.stack([xs, ys], axis=-1))
    offset = graph.node("Sub", grid, centre)
    squares = graph.node(
        "ReduceSum", graph.node("Mul", offset, offset), graph.weight(np.array([2])), keepdims=0
    )
    return graph.node("Sub", radius, graph.node("Sqrt", squares))


def write_generic(
    path: Path,
    *,
    kind: int = FLOAT,
    channels_last: bool = False,
    sides: tuple[Sides, Sides] = ((1, 3, 48, 64), (2, 48, 64)),
    out: str = "float",
    scores: Sequence[float] | None = (0.9, 0.8),
    track_ids: Sequence[int] | None = None,
) -> Path:
    """Write a segmenter with one mask for the reds and one for the blues of its image.

    Args:
        path: the file.
        kind: element type of the image.
        channels_last: whether the image is (1, H, W, 3).
        sides: of the image, and what is stated of the masks.
        out: ``float``, ``bool`` or ``uint8`` masks.
        scores: an output of them, if any.
        track_ids: an output of them, if any.
    """
    graph = GraphBuilder()
    image = graph.input("image", kind, sides[0])
    values = graph.node("Cast", image, to=FLOAT)
    if channels_last:
        values = graph.node("Transpose", values, perm=[0, 3, 1, 2])
    values = graph.node("Squeeze", values, graph.weight(np.array([0])))
    picked = graph.node("Gather", values, graph.weight(np.array([0, 2])), axis=0)
    if kind == UINT8:
        picked = graph.node("Div", picked, graph.number(255))
    types = {"float": FLOAT, "bool": BOOL, "uint8": UINT8}
    if out != "float":
        picked = graph.node("Greater", picked, graph.number(0.5))
        picked = graph.node("Cast", picked, to=types[out])
    graph.output("masks", types[out], sides[1], picked)
    if scores is not None:
        graph.output("scores", FLOAT, (len(scores),), graph.weight(np.array(scores, np.float32)))
    if track_ids is not None:
        graph.output("track_ids", INT64, (len(track_ids),), graph.weight(np.array(track_ids)))
    return graph.save(path)
