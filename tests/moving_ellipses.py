"""Ellipses that move: a source of sequences that a tiny network learns from in seconds."""

from __future__ import annotations

import numpy as np

from amodal_model.masks import BoxedMask, box_mask
from amodal_training.sequences import MaskSequence

SIZE = (64, 96)
"""Height and width of the frames, pixels."""


class Ellipses:
    """A source of ellipses that move, one a sequence."""

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        x, y = rng.uniform(30, 66), rng.uniform(24, 40)
        speed, radii = rng.uniform(-1.5, 1.5, 2), rng.uniform(9, 18, 2)
        target: list[BoxedMask | None] = []
        for index in range(frames):
            across = (columns - x - speed[0] * index) / radii[0]
            down = (rows - y - speed[1] * index) / radii[1]
            target.append(box_mask(across**2 + down**2 < 1))
        return MaskSequence(SIZE, target, [np.zeros(SIZE, np.uint8)] * frames)
