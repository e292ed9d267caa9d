"""A network that is taught by another: begun from it where they are alike, and told what it says.

On drawn occlusions the answer is known, so a teacher adds what the answer does not say: how sure
one can be at a contour, and what lies where the answer is unknown.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from amodal_model.network import AmodalNetwork, Completion
from amodal_training.losses import LEAST_AREA, OPEN_WEIGHT, Target

CONFIDENCE_WEIGHT = 0.1


def begin_from(network: AmodalNetwork, teacher: AmodalNetwork) -> int:
    """Copy the teacher's weights where a tensor has the same name and shape; return how many."""
    weights = teacher.state_dict()
    shared = {
        name: weights[name]
        for name, value in network.state_dict().items()
        if name in weights and weights[name].shape == value.shape
    }
    network.load_state_dict(shared, strict=False)
    return len(shared)


def taught_loss(
    made: Completion, said: Completion, covered: Float[Tensor, "M S S"], target: Target
) -> Float[Tensor, ""]:
    """Return how far a network is from what its teacher says, a mean over objects.

    Args:
        made: of the network.
        said: of the teacher; no gradient goes there.
        covered: where other masks or borders lie, [0, 1]; also where the answer is unknown.
        target: of the same crops.
    """
    hidden = (1 - target.own) * (covered > 0.5).float()
    weight = hidden + OPEN_WEIGHT * (1 - target.own) * (1 - hidden)
    errors = functional.binary_cross_entropy_with_logits(
        made.logits.float(), said.logits.float().sigmoid(), reduction="none"
    )
    area = target.answer.sum((1, 2)).clamp(min=LEAST_AREA)
    confidence = functional.binary_cross_entropy_with_logits(
        made.confidence.float(), said.confidence.float().sigmoid()
    )
    silhouettes = ((errors * weight).sum((1, 2)) / area).mean()
    return torch.add(silhouettes, confidence, alpha=CONFIDENCE_WEIGHT)
