"""The network that follows an object: from what is seen of it to its map, in torch.

picture --encoder--> features, keys                    the same for every frame
keys, remembered keys --match--> where it looks like the object, like what was beside it
picture, cues, features, matches --U-Net--> correction of the carried map
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from amodal_model.learned_object import CUES, KEY_CHANNELS, KEY_SIDE, SLOTS

MATCHES = 3 * SLOTS
SHARP = 7
"""Inputs that edges are found in at full size: picture, the cut, carried map, colours."""
_EMPTY = 1e-4
"""Likelihood that no remembered key explains: an empty memory says nothing."""


class FollowWidths(NamedTuple):
    """Channels by level: at a half, a quarter, an eighth and a sixteenth of the side."""

    half: int = 24
    quarter: int = 48
    eighth: int = 96
    sixteenth: int = 128
    picture_half: int = 16
    picture_quarter: int = 32


class Remembered(NamedTuple):
    """Frames remembered: features, and how far each lies on the object and beside it."""

    keys: Float[Tensor, "B M C L"]
    weights: Float[Tensor, "B M 2 L"]


class FollowNetwork(nn.Module):
    """See the module's docstring."""

    def __init__(self, widths: FollowWidths | None = None) -> None:
        super().__init__()
        self.widths = w = widths or FollowWidths()
        self.picture_half = nn.Sequential(_block(3, w.picture_half, 2))
        self.picture_quarter = nn.Sequential(
            _block(w.picture_half, w.picture_quarter, 2),
            _block(w.picture_quarter, w.picture_quarter),
            _block(w.picture_quarter, w.picture_quarter),
        )
        self.key = nn.Conv2d(w.picture_quarter, KEY_CHANNELS, 1)
        self.sharpness = nn.Parameter(torch.tensor(10.0))
        inputs = 3 + CUES
        self.at_half = nn.Sequential(_block(inputs, w.half, 2), _block(w.half, w.half))
        self.at_quarter = _block(w.half, w.quarter, 2)
        self.join = nn.Conv2d(w.picture_quarter + MATCHES, w.quarter, 1)
        self.quarter_more = _block(w.quarter, w.quarter)
        self.at_eighth = nn.Sequential(
            _block(w.quarter, w.eighth, 2), _block(w.eighth, w.eighth), _block(w.eighth, w.eighth)
        )
        self.at_sixteenth = nn.Sequential(
            _block(w.eighth, w.sixteenth, 2), _block(w.sixteenth, w.sixteenth)
        )
        self.to_eighth = nn.Conv2d(w.sixteenth, w.eighth, 1)
        self.eighth_up = _block(w.eighth, w.eighth)
        self.to_quarter = nn.Conv2d(w.eighth, w.quarter, 1)
        self.quarter_up = _block(w.quarter, w.quarter)
        self.to_half = nn.Conv2d(w.quarter, w.half, 1)
        self.half_up = _block(w.half, w.half)
        self.to_full = nn.Conv2d(w.half, 8, 1)
        self.at_full = nn.Sequential(_block(8 + SHARP, 8), nn.Conv2d(8, 1, 3, 1, 1))
        self.trust = nn.Parameter(torch.full((1, 2, 1, 1), 0.5))

    def features(
        self, picture: Float[Tensor, "B 3 S S"]
    ) -> tuple[Float[Tensor, "B F Q Q"], Float[Tensor, "B C Q Q"]]:
        """Return the features of a picture at a quarter of its side, and its fine keys."""
        found = self.picture_quarter(self.picture_half(picture))
        return found, self.key(found)

    def forward(
        self,
        picture: Float[Tensor, "B 3 S S"],
        cues: Float[Tensor, "B C S S"],
        remembered: Remembered,
    ) -> tuple[Float[Tensor, "B S S"], Float[Tensor, "B K L"]]:
        """Return the logits of the map, and the keys to remember of this frame."""
        found, fine = self.features(picture)
        with torch.autocast(picture.device.type, enabled=False):
            matches = self.match(fine, remembered)
        inputs = torch.cat([picture, cues[:, -1:], cues[:, :-1]], 1)
        half = self.at_half(inputs)
        joined = self.join(torch.cat([found, matches], 1))
        quarter = self.quarter_more(self.at_quarter(half) + joined)
        eighth = self.at_eighth(quarter)
        sixteenth = self.at_sixteenth(eighth)
        eighth = self.eighth_up(eighth + _doubled(self.to_eighth(sixteenth)))
        quarter = self.quarter_up(quarter + _doubled(self.to_quarter(eighth)))
        half = self.half_up(half + _doubled(self.to_half(quarter)))
        full = self.at_full(torch.cat([_doubled(self.to_full(half)), inputs[:, :SHARP]], 1))
        known = torch.cat([cues[:, :1], cues[:, -1:]], 1).clamp(0.03, 0.97)
        trusted = (self.trust * torch.log(known / (1 - known))).sum(1, keepdim=True)
        logits = full + trusted
        return logits[:, 0], coarse_keys(fine)

    def match(
        self, fine: Float[Tensor, "B C Q Q"], remembered: Remembered
    ) -> Float[Tensor, "B R Q Q"]:
        """Return how likely each place is on the object, and beside it, by each memory."""
        fine = fine.float()
        batch, channels, side, _ = fine.shape
        queries = functional.normalize(fine, dim=1).reshape(batch, 1, channels, side * side)
        alike = torch.matmul(queries.transpose(2, 3), remembered.keys)
        near = torch.exp(self.sharpness * (alike - 1))
        found = torch.matmul(near, remembered.weights.transpose(2, 3))
        levels = torch.log(found + _EMPTY).transpose(2, 3) / 4
        ratio = levels[:, :, :1] - levels[:, :, 1:]
        told = torch.cat([levels + 1, ratio], 2)
        return told.reshape(batch, MATCHES, side, side)


def coarse_keys(fine: Float[Tensor, "B C Q Q"]) -> Float[Tensor, "B C L"]:
    """Return keys of length 1 at an eighth of the side, one row a picture."""
    coarse = functional.avg_pool2d(fine.float(), fine.shape[-1] // KEY_SIDE)
    return functional.normalize(coarse, dim=1).flatten(2)


def scaled(picture: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """Return a picture of 0 to 255 as the network takes it."""
    return picture / 64 - 2


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _doubled(values: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h2 w2"]:
    return functional.interpolate(values, scale_factor=2.0, mode="bilinear", align_corners=False)
