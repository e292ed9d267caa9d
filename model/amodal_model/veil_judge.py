"""The judge of veils: a small network, in ONNX Runtime on the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from amodal_model.errors import ModelError
from amodal_model.memory import CONTEXT_NAMES
from amodal_model.model_files import find_helper
from amodal_model.onnx_session import CPU, open_session
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.veils import Sighting

MAPS = ("usual", "own", "covered", "latest", "veil")
"""Maps that the network sees, in this order."""
_SCALES = {"velocity_x": 20.0, "velocity_y": 20.0, "misfit": 4.0, "place_std": 10.0}
SCALARS = (*_SCALES, "usual_misfit")
"""Each over the whole map: of order 1."""
INPUT, OUTPUT = "sighting", "logits"
KIND = "veil_judge"
"""Of model, in `model.json`."""
PICTURE_GRAPH = "model-pictures.onnx"
"""The network that is asked where there are pictures, beside the one that knows masks alone."""
_COLUMNS = [CONTEXT_NAMES.index(name) for name in _SCALES]
_FACTORS = np.array(list(_SCALES.values()), np.float32)


def inputs_of(sighting: Sighting) -> Float32[np.ndarray, "N C 48 48"]:
    """Return what the network sees of objects: `MAPS`, then `SCALARS`."""
    side = TEMPLATE_SIDE
    inputs = np.empty((len(sighting.rows), len(MAPS) + len(SCALARS), side, side), np.float32)
    own, others, outside = sighting.seen.transpose(1, 0, 2, 3)
    maps = (sighting.usual, own, others + outside, sighting.latest, sighting.veil)
    for channel, values in enumerate(maps):
        inputs[:, channel] = values
    of_context = sighting.context[:, _COLUMNS] * _FACTORS
    of_usual = sighting.usual_misfit[:, None] * _SCALES["misfit"]
    scalars = np.clip(np.concatenate([of_context, of_usual], 1), -3, 3)
    inputs[:, len(MAPS) :] = scalars[:, :, None, None]
    return inputs


def seen_inputs_of(sighting: Sighting) -> Float32[np.ndarray, "N C 48 48"]:
    """Return what the network of pictures is given of objects: `inputs_of`, then their looks."""
    return np.concatenate([inputs_of(sighting), sighting.looks.astype(np.float32) / 255], 1)


class ServedJudge:
    """Asks one network where there are pictures, and another where there are masks alone.

    Attributes:
        sees_pictures: whether there is a network for them.
    """

    def __init__(self, masks: Any, pictures: Any | None) -> None:
        self._masks, self._pictures = masks, pictures
        self.sees_pictures = pictures is not None

    def __call__(self, sighting: Sighting) -> Float32[np.ndarray, "N 48 48"]:
        """Return the logits of what is missing of each object."""
        side = TEMPLATE_SIDE
        logits = np.empty((len(sighting.rows), side, side), np.float32)
        parts = (
            (self._masks, inputs_of, ~sighting.has_look),
            (self._pictures, seen_inputs_of, sighting.has_look),
        )
        for session, inputs, chosen in parts:
            if session is not None and chosen.any():
                asked = Sighting(*(field[chosen] for field in sighting))
                (logits[chosen],) = session.run((OUTPUT,), {INPUT: inputs(asked)})
        return logits


@cache
def open_judge(model: str | Path = "shipped") -> ServedJudge:
    """Return the judge of a model: ``shipped``, or a folder that `amodal veil-train` wrote.

    Raises:
        ModelError: no such model, or not a judge of veils.
        MissingExtraError: onnxruntime is not installed.
    """
    folder = find_helper("veils", model)
    if folder.description.get("kind") != KIND:
        raise ModelError(f"{folder.path}: not a judge of veils")
    masks = open_session(folder.graph(), (CPU,)).session
    path = folder.path / PICTURE_GRAPH
    pictures = open_session(path, (CPU,)).session if path.exists() else None
    return ServedJudge(masks, pictures)
