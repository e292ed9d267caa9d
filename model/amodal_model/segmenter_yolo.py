"""YOLO-style instance segmentation: boxes with mask coefficients, and mask prototypes.

    images   (1, 3, H, W) floats in [0, 1], RGB, letterboxed on grey 114
    output0  (1, 4 + classes + K, A): centre x, centre y, width, height in input pixels, a score
             for each class, K mask coefficients; one column an anchor, many on one object
    or       (1, D, 6 + K): x0, y0, x1, y1, score, class, K coefficients; overlaps are gone already
    output1  (1, K, mh, mw): prototypes over the input; a mask's logits are their weighted sum

Source: ultralytics' documentation of ``yolo export format=onnx`` for ``-seg`` models; prototypes
and coefficients: Bolya et al., YOLACT, ICCV 2019, section 3. Only the interface is spoken: no code
or weights of theirs are here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from amodal_model.errors import ModelError
from amodal_model.segmenter_generic import Instance, best_rows, drop_duplicates
from amodal_model.segmenter_graph import FLOATS, Graph, Tensor
from amodal_model.segmenter_image import (
    NCHW,
    InputFit,
    fit_image,
    frame_mask,
    image_input,
)
from amodal_model.segmenter_settings import SegmenterSettings

MAX_CANDIDATES = 1000
"""Boxes that are compared with each other; the best are taken."""
END_TO_END_COLUMNS = 6


class Candidates(NamedTuple):
    """Boxes of one frame, in the input of the model.

    Attributes:
        boxes: (N, 4) x0, y0, x1, y1, input pixels.
        scores: (N,).
        classes: (N,).
        coefficients: (N, K) of the masks.
    """

    boxes: Float32[np.ndarray, "N 4"]
    scores: Float32[np.ndarray, " N"]
    classes: Int64[np.ndarray, " N"]
    coefficients: Float32[np.ndarray, "N K"]

    def rows(self, rows: list[int]) -> Candidates:
        """Return some of them."""
        return Candidates(*(field[rows] for field in self))


class YoloSegmenter:
    """Runs a model with boxes, coefficients and prototypes.

    Args:
        settings: of kind ``yolo``.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the model cannot be loaded or has not the tensors above.
    """

    has_track_ids = False

    def __init__(self, settings: SegmenterSettings) -> None:
        self._settings = settings
        names = settings.tensors
        self.graph = graph = Graph(settings.models["model"], settings)
        graph.input(names["image"], ("float32", "float16", "uint8"), NCHW)
        self._input = image_input(graph, names["image"], settings)
        graph.refuse_others((names["image"],))
        rows = graph.output(names["detections"], FLOATS, "1 C A")
        prototypes = graph.output(names["prototypes"], FLOATS, "1 K h w")
        self._outputs = (names["detections"], names["prototypes"])
        if rows.shape and prototypes.shape and prototypes.shape[1] is not None:
            self._check_rows(rows, prototypes.shape[1])

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Instance]:
        """Return the instances of a frame, best score first.

        Raises:
            ModelError: the model fails, or what comes out does not fit together.
        """
        settings = self._settings
        fit, feed = fit_image(image, self._input, settings)
        rows, prototypes = self.graph.run(feed, *self._outputs)
        if prototypes.ndim != 4 or len(prototypes) != 1 or not prototypes.size:
            raise self.graph.misfit(self._outputs[1], prototypes, "(1, K, h, w)")
        found = self._candidates(rows, prototypes.shape[1])
        found = found.rows(keep_apart(found, settings.thresholds.nms_iou)[: settings.max_objects])
        instances = self._instances(found, prototypes[0].astype(np.float32), fit)
        return drop_duplicates(instances, settings.thresholds.duplicate_iou)

    def _candidates(self, array: np.ndarray, coefficients: int) -> Candidates:
        """Return the boxes that score well enough and are of a class that is wanted."""
        self._check_rows(Tensor(self._outputs[0], str(array.dtype), array.shape), coefficients)
        values = array[0].astype(np.float32)
        if array.shape[2] == END_TO_END_COLUMNS + coefficients:
            return self._wanted(_final_boxes(values))
        return self._wanted(_anchor_boxes(values, coefficients))

    def _check_rows(self, tensor: Tensor, coefficients: int) -> None:
        """Refuse detections that have not as many coefficients as there are prototypes."""
        least, final = 4 + 1 + coefficients, END_TO_END_COLUMNS + coefficients
        if len(tensor.shape) == 3:
            batch, rows, columns = tensor.shape
            fits = columns in (None, final) or rows is None or rows >= least
            if batch in (None, 1) and fits:
                return
        raise ModelError(
            f"{self.graph.path}: output {tensor}, need (1, {least} or more, A) or (1, D, {final}) "
            f"for {coefficients} prototypes"
        )

    def _wanted(self, found: Candidates) -> Candidates:
        scores = np.where(np.isfinite(found.boxes).all(axis=1), found.scores, -1)
        if self._settings.classes:
            scores = np.where(np.isin(found.classes, self._settings.classes), scores, -1)
        return found.rows(best_rows(scores, self._settings.thresholds.score, MAX_CANDIDATES))

    def _instances(
        self, found: Candidates, prototypes: Float32[np.ndarray, "K h w"], fit: InputFit
    ) -> list[Instance]:
        """Return the masks of boxes, each cut to its box."""
        threshold = _logit(self._settings.thresholds.mask)
        grids = np.tensordot(found.coefficients, prototypes, axes=1)
        height, width = fit.frame_size
        instances = []
        for box, score, grid in zip(found.boxes, found.scores, grids, strict=True):
            corners = fit.to_frame(box.reshape(2, 2))
            # the frame pixels whose centres lie in the box
            x0, y0, x1, y1 = np.clip(
                np.round(corners.ravel()), 0, [width, height, width, height]
            ).astype(int)
            mask = frame_mask(grid, fit, threshold, (int(x0), int(y0), int(x1), int(y1)))
            instances.append(Instance(mask, float(score), None))
        return instances


def _anchor_boxes(columns: Float32[np.ndarray, "C A"], coefficients: int) -> Candidates:
    classes = columns.shape[0] - coefficients - 4
    scores = columns[4 : 4 + classes]
    centre, half = columns[:2].T, columns[2:4].T / 2
    return Candidates(
        np.concatenate([centre - half, centre + half], axis=1),
        scores.max(axis=0),
        scores.argmax(axis=0),
        columns[4 + classes :].T,
    )


def _final_boxes(rows: Float32[np.ndarray, "D C"]) -> Candidates:
    classes = np.nan_to_num(rows[:, 5]).clip(0, 65535).astype(np.int64)
    return Candidates(rows[:, :4], rows[:, 4], classes, rows[:, END_TO_END_COLUMNS:])


def keep_apart(found: Candidates, most_iou: float) -> list[int]:
    """Return the rows that stay: of boxes of one class that overlap more, the best.

    Args:
        found: boxes, best score first.
        most_iou: IoU of boxes that are still two objects.
    """
    boxes = found.boxes.astype(np.float64)
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    is_left = areas > 0
    kept = []
    for row in range(len(boxes)):
        if not is_left[row]:
            continue
        kept.append(row)
        low = np.maximum(boxes[:, :2], boxes[row, :2])
        high = np.minimum(boxes[:, 2:], boxes[row, 2:])
        both = np.prod(np.maximum(high - low, 0), axis=1)
        either = np.maximum(areas + areas[row] - both, 1e-9)
        is_left &= (both / either <= most_iou) | (found.classes != found.classes[row])
    return kept


def _logit(probability: float) -> float:
    clipped = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(clipped / (1 - clipped))
