"""The network: explicit memory of what was seen, and its completion to a whole silhouette.

`remember` has no weights: it moves the memory into the present window and writes what is visible
into it. `AmodalNetwork.complete` reads the present and that memory, and adds a learned residual to
what the memory says. The next frame's memory is never a network's output, so no gradient runs
through time, and training replays whole clips through `remember` and then learns from all their
frames at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from amodal_model.memory import MemoryState, StepInputs, StepOutputs

KNOWN_FADE = 0.97
"""What a frame's age leaves of ``known``."""
KNOWN_LEAST = 0.35
"""What is left of ``known`` in the end, after 35 frames: the clips to learn from are as long."""
HIDDEN_MOST = 35.0
"""Frames beyond which ``frames_hidden`` does not count, for the same reason."""
AVERAGE_RATE = 0.15
KEYFRAME_FADE = 0.995
EVIDENCE_LOGIT = 3.0
BACKGROUND_LOGIT = 6.0


class NetworkConfig(NamedTuple):
    """Size of the network.

    Attributes:
        channels: at 1/4, 1/8 and 1/16 resolution.
        blocks: at each.
        uses_memory: whether the memory is looked at.
    """

    channels: tuple[int, int, int] = (32, 64, 128)
    blocks: tuple[int, int, int] = (1, 1, 2)
    uses_memory: bool = True


class Remembered(NamedTuple):
    """Memory before and after the present frame was written, and the next placement's template."""

    moved: MemoryState[Tensor]
    memory: MemoryState[Tensor]
    template: Float[Tensor, "N 2 S2 S2"]


class Completion(NamedTuple):
    """What the network makes of one frame.

    Attributes:
        logits: (N, S, S) silhouette logits.
        confidence: (N, 2) logits of the expected IoU of the silhouette and of its hidden part.
    """

    logits: Float[Tensor, "N S S"]
    confidence: Float[Tensor, "N 2"]


def dilate(maps: Float[Tensor, "N C H W"], radius: int = 1) -> Float[Tensor, "N C H W"]:
    """Return the maximum over a square of ``2 * radius + 1`` pixels."""
    return functional.max_pool2d(maps, 2 * radius + 1, stride=1, padding=radius)


def resample(
    maps: Float[Tensor, "N C S S"], theta: Float[Tensor, "N 2 3"]
) -> Float[Tensor, "N C S S"]:
    """Return maps of the old window in the new one; zero where the old one did not reach."""
    axis = _axis(maps)
    grid_x = theta[:, 0, 0, None, None] * axis[None, None, :] + theta[:, 0, 2, None, None]
    grid_y = theta[:, 1, 1, None, None] * axis[None, :, None] + theta[:, 1, 2, None, None]
    shape = (maps.shape[0], maps.shape[-1], maps.shape[-1])
    grid = torch.stack([grid_x.expand(shape), grid_y.expand(shape)], -1)
    return functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)


def _axis(maps: Float[Tensor, "N C S S"]) -> Float[Tensor, " S"]:
    """Return pixel centres in grid coordinates, -1 to 1 over the window."""
    side = maps.shape[-1]
    return (torch.arange(side, dtype=maps.dtype, device=maps.device) * 2 + 1) / side - 1


def remember(inputs: StepInputs[Tensor], memory: MemoryState[Tensor]) -> Remembered:
    """Move the memory into the present windows and write what is visible into it."""
    moved = MemoryState(resample(memory.maps, inputs.theta), memory.scalars)
    written = write(inputs.crop, inputs.context[:, 1], moved)
    return Remembered(moved, written, _halved(written.maps[:, :2]))


def _halved(maps: Float[Tensor, "N C S S"]) -> Float[Tensor, "N C S2 S2"]:
    """Return the mean of two by two pixels, which ONNX Runtime is faster to resize than to pool."""
    return functional.interpolate(maps, scale_factor=0.5, mode="bilinear")


def write(
    crop: Float[Tensor, "N 3 S S"], gap: Float[Tensor, " N"], moved: MemoryState[Tensor]
) -> MemoryState[Tensor]:
    """Return the memory after what is visible was written into it."""
    own, blocked = crop[:, :1], crop[:, 1:2] + crop[:, 2:3]
    latest, known, average, keyframe = torch.split(moved.maps, 1, 1)
    seen = torch.maximum(1 - dilate(blocked).clamp(max=1), own)
    rate = torch.where(known > 0, AVERAGE_RATE, 1.0) * seen
    average = average + rate * (own - average)
    latest = latest + seen * (own - latest)
    faded = torch.maximum(
        known * KNOWN_FADE ** gap[:, None, None, None], known.clamp(max=KNOWN_LEAST)
    )
    known = torch.maximum(seen, faded)
    quality, is_visible = view_quality(own, blocked)
    best = moved.scalars[:, 0] * KEYFRAME_FADE**gap
    is_better = (quality >= best) & is_visible
    keyframe = torch.where(is_better[:, None, None, None], own, keyframe)
    frames = (moved.scalars[:, 1] + gap).clamp(max=HIDDEN_MOST)
    hidden = torch.where(is_visible, torch.zeros_like(gap), frames)
    maps = torch.cat([latest, known, average, keyframe], 1)
    return MemoryState(maps, torch.stack([torch.where(is_better, quality, best), hidden], 1))


def view_quality(
    own: Float[Tensor, "N 1 S S"], blocked: Float[Tensor, "N 1 S S"]
) -> tuple[Float[Tensor, " N"], Tensor]:
    """Return the share of the contour that touches nothing, and whether anything is visible."""
    ring = dilate(own) - own
    touching = (ring * dilate(blocked, 2).clamp(max=1)).sum((1, 2, 3))
    area = own.sum((1, 2, 3))
    return 1 - touching / ring.sum((1, 2, 3)).clamp(min=1), area > 0.5


class Block(nn.Module):
    """Two 3x3 convolutions around a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return functional.relu(features + self.body(features))


def _stage(before: int, channels: int, blocks: int) -> nn.Sequential:
    """Halve the resolution, then refine."""
    return nn.Sequential(
        nn.Conv2d(before, channels, 2, stride=2, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        *(Block(channels) for _ in range(blocks)),
    )


def _upward(before: int, channels: int) -> nn.Sequential:
    """Double the resolution; what is repeated costs half of what is shuffled."""
    return nn.Sequential(nn.Conv2d(before, channels, 1), nn.Upsample(scale_factor=2.0))


class AmodalNetwork(nn.Module):
    """Completes visible masks to whole silhouettes, from the present and the memory."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or NetworkConfig()
        fine, middle, coarse = config.channels
        self.stem = nn.Conv2d(7, fine, 8, stride=4, padding=2)
        self.condition = nn.Linear(CONDITIONS, fine)
        self.down_fine = nn.Sequential(*(Block(fine) for _ in range(config.blocks[0])))
        self.down_middle = _stage(fine, middle, config.blocks[1])
        self.down_coarse = _stage(middle, coarse, config.blocks[2])
        self.up_middle, self.refine_middle = _upward(coarse, middle), Block(middle)
        self.up_fine, self.refine_fine = _upward(middle, fine), Block(fine)
        self.residual = nn.Conv2d(fine, 16, 3, padding=1)
        for parameter in self.residual.parameters():
            nn.init.zeros_(parameter)
        self.confidence = nn.Sequential(nn.Linear(coarse, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(
        self, inputs: StepInputs[Tensor], memory: MemoryState[Tensor]
    ) -> tuple[StepOutputs[Tensor], MemoryState[Tensor]]:
        """Return the silhouettes of one frame and the memory for the next."""
        remembered = remember(inputs, memory)
        made = self.complete(inputs.crop, inputs.context, remembered.memory)
        outputs = StepOutputs(made.logits, made.confidence.sigmoid(), remembered.template)
        return outputs, remembered.memory

    def complete(
        self,
        crop: Float[Tensor, "N 3 S S"],
        context: Float[Tensor, "N 6"],
        memory: MemoryState[Tensor],
    ) -> Completion:
        """Return what is made of a frame, from the memory that it was written into.

        The convolutions run in the precision of their weights, everything else in the inputs'.
        """
        maps, conditions = memory.maps, condition_scalars(context, memory.scalars)
        if not self.config.uses_memory:
            maps, conditions = maps * 0, conditions * 0
        kind = self.stem.weight.dtype
        features = self.stem(torch.cat([crop, maps], 1).to(kind))
        features = features + self.condition(conditions.to(kind))[:, :, None, None]
        fine = self.down_fine(functional.relu(features))
        middle = self.down_middle(fine)
        coarse = self.down_coarse(middle)
        middle = self.refine_middle(functional.relu(middle + self.up_middle(coarse)))
        fine = self.refine_fine(functional.relu(fine + self.up_fine(middle)))
        residual = functional.pixel_shuffle(self.residual(fine), 4)[:, 0].to(crop.dtype)
        confidence = self.confidence(coarse.mean((2, 3))).to(crop.dtype)
        return Completion(residual + evidence_logits(crop, maps), confidence)


CONDITIONS = 8
"""Scalars that condition the stems."""


def condition_scalars(
    context: Float[Tensor, "N 6"], scalars: Float[Tensor, "N 2"]
) -> Float[Tensor, "N 8"]:
    """Return the scalars that condition the stems, each of order 1."""
    gap_and_hidden = torch.log1p(torch.stack([context[:, 1], scalars[:, 1]], 1))
    scale = gap_and_hidden.new_tensor([1, 1 / 3])
    misfit = 2 * context[:, 5:]
    motion = context[:, 2:5] * 20
    return torch.cat(
        [context[:, :1] * 10, motion, scalars[:, :1], gap_and_hidden * scale, misfit], 1
    )


def evidence_logits(
    crop: Float[Tensor, "N 3 S S"], maps: Float[Tensor, "N 4 S S"]
) -> Float[Tensor, "N S S"]:
    """Return what is known without learning: the remembered label of what cannot be seen.

    Only pixels under other objects or outside the image can hold a hidden part. The visible part
    is left at 0: it is united with the silhouette at full resolution, and a contour resampled
    from the crop would spill over it.
    """
    covered = (crop[:, 1] + crop[:, 2]).clamp(max=1)
    background = (1 - covered - crop[:, 0]).clamp(min=0)
    guess = EVIDENCE_LOGIT * (2 * maps[:, 0] - 1) * maps[:, 1].clamp(min=0.3)
    return covered * guess - background * BACKGROUND_LOGIT
