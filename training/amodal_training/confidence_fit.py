"""Set a network's confidence right on occlusions drawn over undisturbed masks, through the stream.

Half of what a network learns from has disturbed masks, on which less can be reached. How far the
masks of a stream are off is taken into account while it runs (`contour_noise`), so what the
network says itself must hold for clean ones. Each of its two expectations is moved by one number,
in its last layer; nothing else of it changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
import torch
from jaxtyping import Float64
from torch import nn

from amodal_model.engine_torch import TorchEngine
from amodal_model.masks import BoxedMask, box_mask, mask_iou, subtract
from amodal_model.network import AmodalNetwork
from amodal_model.results import ObjectResult
from amodal_model.stream import AmodalSegmenter
from amodal_training.losses import HIDDEN_FROM
from amodal_training.occluders import PasteConfig, PastedSequence, paste_occluders
from amodal_training.sequences import SequenceSource

CLEAN = PasteConfig(noise_share=0.0, carried_share=0.0, soft_share=0.0, unseen_share=0.0)
"""Where targets were carried away, or occluders have no mask, nothing tells what to expect."""
LEAST_FRAMES = 40
"""Frames with a hidden part from which a fit is made."""
_LEAST_AREA = 50
"""Pixels of a silhouette from which a frame counts."""
_HOLD = 30.0
"""How many frames' worth of errors it takes to move a logit by 1."""
_ROUNDS = 25
_TARGET, _OTHERS = 1, 2


def clean_sequences(
    source: SequenceSource, count: int, frames: int = 24
) -> Iterator[PastedSequence]:
    """Yield drawn occlusions over undisturbed masks, the same whenever they are asked for."""
    for index in range(count):
        rng = np.random.default_rng([11, index])
        yield paste_occluders(rng, source.sample(rng, frames), source, CLEAN)


def fit_confidence(network: AmodalNetwork, sequences: Iterable[PastedSequence]) -> bool:
    """Fit both expected IoUs, in place; return whether there were frames enough.

    Args:
        network: whose last layer of the confidence changes.
        sequences: drawn occlusions, of all clips that there are: of few clips the answers are few,
            and what is drawn over those that it learned from is new to it.
    """
    segmenter = AmodalSegmenter(TorchEngine(network))
    found = [pair for one in sequences for pair in _expectations(segmenter, one)]
    hidden = [pair[1] for pair in found if pair[1] is not None]
    if len(hidden) < LEAST_FRAMES:
        return False
    last = cast(nn.Linear, network.confidence[-1])
    shifts = [fit_shift(np.array(pairs)) for pairs in ([pair[0] for pair in found], hidden)]
    with torch.no_grad():
        last.bias.add_(torch.tensor(shifts).to(last.bias))
    return True


_Pair = tuple[float, float]
"""Expected IoU, and the one that was reached."""


def _expectations(
    segmenter: AmodalSegmenter, sequence: PastedSequence
) -> Iterator[tuple[_Pair, _Pair | None]]:
    """Yield what was expected and reached of the target: the whole, and the part that is hidden."""
    state, is_seen = segmenter.start(sequence.own[0].frame_size), False
    for own, coverage, answer, unknown in zip(*sequence[:4], strict=True):
        masks = {_TARGET: own, _OTHERS: subtract(box_mask(coverage > 0), own)}
        result, state = segmenter.step(None, masks, state)
        is_seen = is_seen or own.area > 0
        hole = box_mask(unknown.astype(bool))
        asked = subtract(answer, hole)
        if is_seen and asked.area >= _LEAST_AREA:
            made = next(one for one in result.objects if one.track_id == _TARGET)
            yield _measured(made, own, asked, hole)


def _measured(
    made: ObjectResult, own: BoxedMask, asked: BoxedMask, hole: BoxedMask
) -> tuple[_Pair, _Pair | None]:
    """Return what was expected and reached of one frame, the hole left out."""
    found, hidden = subtract(made.amodal, hole), subtract(asked, own)
    whole = made.score, mask_iou(found, asked)
    if hidden.area < HIDDEN_FROM * asked.area:
        return whole, None
    return whole, (made.confidence_occluded, mask_iou(subtract(found, own), hidden))


def fit_shift(pairs: Float64[np.ndarray, "M 2"]) -> float:
    """Return how far the logits of expectations are to be moved to be what is reached, in the mean.

    A slope as well fits one draw better and the next one worse (docs/experiments.md).

    Args:
        pairs: expected and reached IoUs, [0, 1].

    Source: the bias of Platt scaling, 1999; held to 0 where there is little to learn from.
    """
    expected, reached = np.clip(pairs[:, 0], 1e-4, 1 - 1e-4), pairs[:, 1]
    logits, shift = np.log(expected / (1 - expected)), 0.0
    for _ in range(_ROUNDS):
        said = 1 / (1 + np.exp(-logits - shift))
        error = float((said - reached).sum()) + _HOLD * shift
        # far from the answer Newton's steps overshoot
        shift -= float(np.clip(error / (float((said * (1 - said)).sum()) + _HOLD), -1, 1))
    return shift
