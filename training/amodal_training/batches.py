"""Batches to train on: drawn, pasted and followed afresh for every step.

The batch of a step depends on the seed and the step alone, so a resumed run sees what an
uninterrupted one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from amodal_model.masks import BoxedMask
from amodal_training.occluders import PasteConfig, paste_occluders
from amodal_training.rollout import Batch, Following, roll_out
from amodal_training.sequences import MaskSequence, SequenceSource, flip
from amodal_training.silhouette_shapes import ShapeLibrary
from amodal_training.silhouettes import silhouette_tracklet

KEPT_PLAIN = 0.15
"""Share of the frames without an occluder near that is learned from."""


class SilhouetteSource:
    """Procedurally moving silhouettes, each alone in its frame."""

    def __init__(self, library: ShapeLibrary) -> None:
        self._library = library

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        """Return the sequence of one silhouette."""
        target: Sequence[BoxedMask | None] = [None]
        while all(mask is None for mask in target):
            target = silhouette_tracklet(self._library, rng, frames)
        frame_size = next(mask.frame_size for mask in target if mask is not None)
        nothing = np.zeros(frame_size, np.uint8)
        return MaskSequence(frame_size, list(target), [nothing] * frames)


class MixedSource:
    """Several sources, each drawn from with its own share."""

    def __init__(self, sources: Sequence[SequenceSource], shares: Sequence[float]) -> None:
        self._sources = list(sources)
        self._shares = np.asarray(shares, float) / sum(shares)

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        """Return a sequence of one of the sources."""
        source = self._sources[int(rng.choice(len(self._sources), p=self._shares))]
        return source.sample(rng, frames)


class StepBatches(Dataset[Batch]):
    """The batch of each training step.

    Args:
        source: targets and occluders.
        paste: how occluders are pasted.
        shape: (sequences, frames) of a batch.
        seed: the whole run's seed.
        steps: steps of the run.
        following: how targets are followed.
    """

    def __init__(
        self,
        source: SequenceSource,
        paste: PasteConfig,
        shape: tuple[int, int],
        seed: int,
        steps: int,
        following: Following | None = None,
    ) -> None:
        self._source, self._paste, self._following = source, paste, following
        self._sequences, self._frames = shape
        self._seed, self._steps = seed, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        rng = np.random.default_rng([self._seed, step])
        shape = (self._sequences, self._frames)
        batch = draw_batch(rng, self._source, self._paste, shape, self._following)
        return thin_out(rng, batch)


def draw_batch(
    rng: np.random.Generator,
    source: SequenceSource,
    paste: PasteConfig,
    shape: tuple[int, int],
    following: Following | None = None,
) -> Batch:
    """Return a batch of ``shape`` = (sequences, frames), followed as the stream would."""
    sequences, frames = shape
    pasted = []
    for _ in range(sequences):
        sequence = source.sample(rng, frames)
        if rng.random() < 0.5:
            sequence = flip(sequence)
        pasted.append(paste_occluders(rng, sequence, source, paste))
    return roll_out(pasted, following)


def thin_out(rng: np.random.Generator, batch: Batch) -> Batch:
    """Return the batch with fewer of the frames in which nothing lies over or beside the target.

    Frames with an occluder near, but nothing hidden, are all kept: they teach restraint.
    """
    is_known = batch.unknown < 128
    near = (batch.crop[:, 1] > 127) & is_known
    is_open_answer = (batch.answer > 127) & is_known & (batch.crop[:, 0] < 128)
    matters = (near.sum((1, 2)) >= 40) | (is_open_answer.sum((1, 2)) >= 12)
    kept = matters | (rng.random(len(matters)) < KEPT_PLAIN)
    return Batch(*(field[kept] for field in batch))
