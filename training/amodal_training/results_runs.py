"""The recorded runs behind docs/results.md, as data: what is trained, how long, and what differs.

All runs have the same budget in steps, the same data, batches of the same draws and the same
tuning; only what their entry says is different. Self-supervised runs read ``visible.json`` alone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from amodal_model.placement import PlacementConfig
from amodal_model.track_state import MotionConfig
from amodal_training.occluders import PasteConfig
from amodal_training.rollout import Following
from amodal_training.trainer import TrainConfig

BUDGET = TrainConfig(steps=256, sequences=8, frames=16, workers=0, save_every_s=60.0)
"""Of every run: about five minutes of one core; enough to compare, not to ship."""
SEEDS = (0, 1, 2)
UNREGISTERED = PlacementConfig(mask_noise=1e9, doubt_from=1e9)
"""Masks that are not believed at all: registration finds no motion whatever it sees."""
ORACLE = Following(UNREGISTERED, MotionConfig(middle=math.inf, forget_from=math.inf))
"""Windows that nothing moves but the truth."""


class Run(NamedTuple):
    """One row of the ablation.

    Attributes:
        name: of its files, ``NAME-SEED.json``.
        about: what differs from ``memory``, for the table.
        seeds: one training each.
        size: of the network, a key of ``train_command.SIZES``.
        uses_memory: whether the network sees what is remembered.
        is_labeled: learn from amodal truth where the dataset has it: the supervised bound.
        paste: how occluders are pasted.
        following: how targets are followed, in training and in evaluation; the default if ``None``.
        weights_of: the run whose weights are evaluated instead of own ones.
        is_oracle: windows are moved by the true motion; evaluation only.
    """

    name: str
    about: str
    seeds: tuple[int, ...] = (0,)
    size: str = "small"
    uses_memory: bool = True
    is_labeled: bool = False
    paste: PasteConfig = PasteConfig()
    following: Following | None = None
    weights_of: str | None = None
    is_oracle: bool = False

    @property
    def shows_others(self) -> bool:
        """Whether the network is told where other visible masks are."""
        return self.following is None or self.following.shows_others


RUNS = (
    Run("memory", "the method, self-supervised", SEEDS),
    Run("no_memory", "the network sees the present frame alone", SEEDS, uses_memory=False),
    Run(
        "supervised",
        "the same draws, answers are the true silhouettes; a measuring stick, never shipped",
        SEEDS,
        is_labeled=True,
    ),
    Run(
        "no_alignment",
        "no registration: what is remembered stays where it was in the frame",
        following=Following(UNREGISTERED, MotionConfig(forget_from=math.inf)),
    ),
    Run(
        "oracle_alignment",
        "the weights of `memory`, windows moved by the true translation and scale",
        following=ORACLE,
        weights_of="memory",
        is_oracle=True,
    ),
    Run(
        "no_occluder_channel",
        "network and memory are not told where other masks are; placement is",
        following=Following(shows_others=False),
    ),
    Run("no_behind", "no occluder passes behind", paste=PasteConfig(behind_share=0.0)),
    Run(
        "no_noise",
        "no disturbed and no missing masks in training",
        paste=PasteConfig(noise_share=0.0, drop_rate=0.0),
    ),
    Run("base", "the larger network, the same number of steps", size="base"),
)


class Job(NamedTuple):
    """One training with its evaluation."""

    run: Run
    seed: int

    @property
    def name(self) -> str:
        """Name of its record and of its folder."""
        return f"{self.run.name}-{self.seed}"


def find_run(name: str) -> Run:
    """Return the run of a name.

    Raises:
        KeyError: there is none.
    """
    return {run.name: run for run in RUNS}[name]


def list_jobs() -> list[Job]:
    """Return all jobs in the order of work: the first seed of everything, then the others."""
    jobs = [Job(run, seed) for run in RUNS for seed in run.seeds]
    return sorted(jobs, key=lambda job: job.seed)
