"""Generic segmenters: an image in, instance masks out.

image      (1, 3, H, W), (1, H, W, 3), (3, H, W) or (H, W, 3); uint8, float16 or float32
masks      (N, h, w), (1, N, h, w) or (N, 1, h, w); floats, bool or uint8 (not 0: object)
scores     (N,) or (1, N) floats; optional
track_ids  (N,) or (1, N) whole numbers, the same over time; optional
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import ModelError
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.segmenter_graph import FLOATS, WHOLES, Graph
from amodal_model.segmenter_image import fit_image, frame_mask, image_input
from amodal_model.segmenter_settings import SegmenterSettings

MAX_MASKS = 1024
"""More masks of one frame than that are an error, not a choice."""
MAX_TRACK_ID = 2**53
"""Largest id of either sign: what JSON carries exactly."""


class Instance(NamedTuple):
    """One object that a segmenter found in one frame.

    Attributes:
        mask: its visible pixels.
        score: [0, 1]; 1 where the model has none.
        track_id: from the model; ``None`` where it has none.
    """

    mask: BoxedMask
    score: float
    track_id: int | None


class GenericSegmenter:
    """Runs a model that gives the masks themselves.

    Args:
        settings: of kind ``generic``.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the model cannot be loaded or has not the tensors above.
    """

    def __init__(self, settings: SegmenterSettings) -> None:
        self._settings = settings
        self._names = names = settings.tensors
        self.graph = graph = Graph(settings.models["model"], settings)
        self._input = image_input(graph, names["image"], settings)
        graph.refuse_others((names["image"],))
        graph.output(names["masks"], (*FLOATS, "bool", "uint8"), "N h w", "1 N h w", "N 1 h w")
        self._outputs = [names["masks"]]
        for role, dtypes in (("scores", FLOATS), ("track_ids", WHOLES)):
            if names[role] in graph.outputs:
                graph.output(names[role], dtypes, "N", "1 N")
                self._outputs.append(names[role])

    @property
    def has_track_ids(self) -> bool:
        """Whether the model says which object is which over time."""
        return self._names["track_ids"] in self._outputs

    def find(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Instance]:
        """Return the instances of a frame, best score first.

        Raises:
            ModelError: the model fails, or what comes out does not fit together.
        """
        settings = self._settings
        fit, feed = fit_image(image, self._input, settings)
        arrays = self.graph.run(feed, *self._outputs)
        found = dict(zip(self._outputs, arrays, strict=True))
        grids = self._grids(found[self._names["masks"]])
        scores = self._column(found, "scores", len(grids))
        track_ids = self._track_ids(found, len(grids))
        kept = [
            Instance(
                frame_mask(_floats(grids[row]), fit, settings.thresholds.mask),
                float(scores[row]),
                None if track_ids is None else track_ids[row],
            )
            for row in best_rows(scores, settings.thresholds.score, settings.max_objects)
        ]
        return drop_duplicates(kept, settings.thresholds.duplicate_iou)

    def _grids(self, masks: np.ndarray) -> np.ndarray:
        """Return masks as (N, h, w)."""
        shape = masks.shape
        if masks.ndim == 4 and 1 in shape[:2]:
            masks = masks.reshape(-1, *shape[2:])
        if masks.ndim != 3 or (masks.size == 0 and len(masks)):
            need = "(N, h, w), (1, N, h, w) or (N, 1, h, w)"
            raise self.graph.misfit(self._names["masks"], masks, need)
        if len(masks) > MAX_MASKS:
            raise ModelError(f"{self.graph.path}: {len(masks)} masks in a frame, limit {MAX_MASKS}")
        return masks

    def _column(self, found: dict[str, np.ndarray], role: str, count: int) -> np.ndarray:
        column = found.get(self._names[role])
        if column is None:
            return np.ones(count)
        if column.size != count or column.ndim > 2:
            raise self.graph.misfit(self._names[role], column, f"({count},): one for each mask")
        return column.reshape(count)

    def _track_ids(self, found: dict[str, np.ndarray], count: int) -> list[int] | None:
        if self._names["track_ids"] not in found:
            return None
        track_ids = [int(entry) for entry in self._column(found, "track_ids", count)]
        for track_id in track_ids:
            if abs(track_id) > MAX_TRACK_ID or track_ids.count(track_id) > 1:
                raise ModelError(
                    f"{self.graph.path}: track id {track_id} in '{self._names['track_ids']}', need "
                    f"each once in a frame, at most {MAX_TRACK_ID} of either sign"
                )
        return track_ids


def best_rows(scores: np.ndarray, least: float, most: int) -> list[int]:
    """Return the rows of the best scores, best first; rows of NaN are none.

    Args:
        scores: (N,).
        least: score of a row that is still good enough.
        most: rows.
    """
    order = np.argsort(-scores, kind="stable")
    return [int(row) for row in order if scores[row] >= least][:most]


def drop_duplicates(instances: list[Instance], most_iou: float) -> list[Instance]:
    """Return the instances without those that show what a better one shows, and empty ones.

    Two classes of one object would else be two objects.

    Args:
        instances: best first.
        most_iou: masks that overlap more are one object.
    """
    kept: list[Instance] = []
    for instance in instances:
        if instance.mask.area and all(
            mask_iou(instance.mask, better.mask) <= most_iou for better in kept
        ):
            kept.append(instance)
    return kept


def _floats(grid: np.ndarray) -> np.ndarray:
    if grid.dtype == np.uint8:
        grid = grid > 0
    return grid.astype(np.float32)
