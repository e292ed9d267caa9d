"""What the network is asked for, one pure function a term.

Pixels: hidden and known -> 1; under an occluder and known background -> 0; where other objects
were seen, or outside -> no loss. Each object weighs the same whatever its size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

OPEN_WEIGHT = 0.15
"""Weight of a pixel that no other mask covers."""
LEAST_AREA = 800
"""Crop pixels by which the errors of smaller objects, and of those out of view, are divided: one
crop whose object was misplaced must not outweigh the batch."""
HIDDEN_FROM = 0.05
"""Hidden share from which a hidden part counts (evaluation.md)."""


class Target(NamedTuple):
    """What M crops should become; all (M, S, S) float in {0, 1}.

    Attributes:
        answer: the object before pasting.
        own: the visible mask given.
        open: where the answer is known and no visible mask of the object lies: the hidden part
            and the background.
        covered: the part of ``open`` under other visible masks.
    """

    answer: Float[Tensor, "M S S"]
    own: Float[Tensor, "M S S"]
    open: Float[Tensor, "M S S"]
    covered: Float[Tensor, "M S S"]


def make_target(
    crop: Float[Tensor, "M 3 S S"],
    answer: Float[Tensor, "M S S"],
    unknown: Float[Tensor, "M S S"],
) -> Target:
    """Return the target of crops with their answers, from coverage in [0, 1]."""
    own = (crop[:, 0] > 0.5).float()
    is_open = (1 - own) * (unknown < 0.5).float()
    covered = is_open * (crop[:, 1] > 0.5).float()
    return Target((answer > 0.5).float(), own, is_open, covered)


def silhouette_loss(logits: Float[Tensor, "M S S"], target: Target) -> Float[Tensor, ""]:
    """Return binary cross-entropy over known pixels, a mean over objects.

    Pixels under other objects weigh 1, those that nothing covers `OPEN_WEIGHT` whatever their
    answer: masks that a segmenter drew too small, or dropped, must not teach growth. A rim near
    the object's contour weighs double.
    """
    weight = target.covered + OPEN_WEIGHT * (target.open - target.covered)
    weight = weight * (1 + _rim(target.answer))
    errors = functional.binary_cross_entropy_with_logits(logits, target.answer, reduction="none")
    area = target.answer.sum((1, 2)).clamp(min=LEAST_AREA)
    return ((errors * weight).sum((1, 2)) / area).mean()


def _rim(answer: Float[Tensor, "M S S"]) -> Float[Tensor, "M S S"]:
    """Mark pixels within about four of a contour."""
    smooth = functional.avg_pool2d(answer[:, None], 9, stride=1, padding=4)[:, 0]
    return ((smooth > 0.02) & (smooth < 0.98)).float()


def hidden_iou_loss(logits: Float[Tensor, "M S S"], target: Target) -> Float[Tensor, ""]:
    """Return 1 - soft IoU of the part hidden under other masks, over objects that have one.

    Source: soft Jaccard, Rahman and Wang 2016, equation 3.
    """
    probability = logits.sigmoid() * target.covered
    hidden = target.answer * target.covered
    both = (probability * hidden).sum((1, 2))
    either = (probability + hidden - probability * hidden).sum((1, 2))
    counts = has_hidden_part(target).float()
    return ((1 - both / either.clamp(min=1)) * counts).sum() / counts.sum().clamp(min=1)


def whole_iou_loss(logits: Float[Tensor, "M S S"], target: Target) -> Float[Tensor, ""]:
    """Return 1 - soft IoU of the whole silhouette where masks tell, a mean over all objects.

    Where nothing is hidden, this is what growing costs.
    """
    known = target.covered + target.own
    predicted = target.own + logits.sigmoid() * target.covered
    answer = target.answer * known
    both = (predicted * answer).sum((1, 2))
    either = (predicted + answer - predicted * answer).sum((1, 2))
    return (1 - both / either.clamp(min=1)).mean()


def has_hidden_part(target: Target) -> Tensor:
    """Return which objects have a known hidden part that evaluation would count, (M,) bool."""
    hidden = (target.answer * target.covered).sum((1, 2))
    return (hidden >= HIDDEN_FROM * target.answer.sum((1, 2))) & (hidden >= 12)


def measured_iou(
    logits: Float[Tensor, "M S S"], target: Target
) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """Return the IoU of the silhouette and of its hidden part, over what is known."""
    known = target.open + target.own
    predicted = torch.maximum((logits > 0).float(), target.own) * known
    answer = target.answer * known
    whole = _iou(predicted, answer)
    return whole, _iou(predicted * target.open, answer * target.open)


def _iou(a: Float[Tensor, "M S S"], b: Float[Tensor, "M S S"]) -> Float[Tensor, " M"]:
    both, either = (a * b).sum((1, 2)), torch.maximum(a, b).sum((1, 2))
    return torch.where(either > 0, both / either.clamp(min=1), torch.ones_like(both))


def confidence_loss(
    confidence_logits: Float[Tensor, "M 2"],
    logits: Float[Tensor, "M S S"],
    target: Target,
) -> Float[Tensor, ""]:
    """Return cross-entropy of the two expected IoUs against those that were reached."""
    whole, hidden = measured_iou(logits.detach(), target)
    reached = torch.stack([whole, hidden], 1)
    errors = functional.binary_cross_entropy_with_logits(
        confidence_logits, reached, reduction="none"
    )
    counts = torch.stack([torch.ones_like(whole), has_hidden_part(target).float()], 1)
    return (errors * counts).sum() / counts.sum().clamp(min=1)
