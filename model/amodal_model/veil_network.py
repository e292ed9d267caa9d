"""The network that judges veils, in torch: a U-Net on the 48x48 pixels of windows."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from amodal_model.pictures import LOOK_CHANNELS
from amodal_model.veil_judge import MAPS, SCALARS

INPUTS = len(MAPS) + len(SCALARS)
"""Channels of `veil_judge.inputs_of`."""
CHANNELS = 16
"""At a half of the side; twice as many below."""
PICTURE_CHANNELS = 32
"""The same of a network that sees pictures."""


class VeilNetwork(nn.Module):
    """Logits of each pixel's being hidden, from what `veil_judge.inputs_of` gives.

    Args:
        sees_pictures: or from `veil_judge.seen_inputs_of`.
        channels: at a half of the side.
    """

    def __init__(self, *, sees_pictures: bool = False, channels: int = CHANNELS) -> None:
        super().__init__()
        self.sees_pictures = sees_pictures
        fine, coarse = channels, 2 * channels
        inputs = INPUTS + (LOOK_CHANNELS + 2 if sees_pictures else 0)
        self.fine = nn.Sequential(_block(inputs, fine, 2), _block(fine, fine))
        self.middle = nn.Sequential(_block(fine, coarse, 2), _block(coarse, coarse))
        self.coarse = nn.Sequential(
            _block(coarse, coarse, 2), _block(coarse, coarse), _block(coarse, coarse)
        )
        self.up_middle, self.refine_middle = nn.Conv2d(coarse, coarse, 1), _block(coarse, coarse)
        self.up_fine, self.refine_fine = nn.Conv2d(coarse, fine, 1), _block(fine, fine)
        self.logits = nn.Conv2d(fine, 4, 3, padding=1)

    def forward(self, sighting: Float[Tensor, "N C S S"]) -> Float[Tensor, "N S S"]:
        """Return the logits."""
        if self.sees_pictures:
            sighting = torch.cat([sighting, *_differences(sighting[:, INPUTS:])], 1)
        fine = self.fine(sighting)
        middle = self.middle(fine)
        middle = self.refine_middle(middle + _doubled(self.up_middle(self.coarse(middle))))
        fine = self.refine_fine(fine + _doubled(self.up_fine(middle)))
        return functional.pixel_shuffle(self.logits(fine), 2)[:, 0]


def _differences(looks: Float[Tensor, "N C S S"]) -> list[Float[Tensor, "N 1 S S"]]:
    """Return by how much pixels changed, and how unlike the object's own colours they are."""
    now, before, colours = looks[:, :3], looks[:, 3:6], looks[:, 7:10]
    return [(now - other).abs().mean(1, keepdim=True) for other in (before, colours)]


def _block(before: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _doubled(features: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h2 w2"]:
    return torch.as_tensor(functional.interpolate(features, scale_factor=2.0))
