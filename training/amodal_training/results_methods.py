"""How a recorded run is trained and evaluated: its network, its source, its method."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amodal_model.engine_torch import TorchEngine
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.network import AmodalNetwork, Completion, NetworkConfig
from amodal_model.stream import AmodalSegmenter, StreamConfig
from amodal_model.stream_state import StreamState
from amodal_training.baseline_union import true_motions
from amodal_training.batches import MixedSource, SilhouetteSource
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_method import (
    Method,
    TrackPrediction,
    collect_results,
    segmenter_method,
)
from amodal_training.labeled_source import LabeledSource
from amodal_training.mask_motion import MaskMotion
from amodal_training.results_runs import BUDGET, Job, Run, find_run
from amodal_training.rollout import Following, without_others
from amodal_training.sequences import DatasetSource, SequenceSource
from amodal_training.silhouette_shapes import read_library
from amodal_training.train_command import SIZES
from amodal_training.trainer import TrainConfig, train_network


class TrainingData(NamedTuple):
    """What all runs learn from.

    Attributes:
        labeled: dataset folder with ``visible.json``, and ``amodal.json`` for the supervised runs.
        shapes: shape library whose silhouettes are moved, weighing as much as the dataset.
    """

    labeled: Path
    shapes: Path


class BlindNetwork(AmodalNetwork):
    """The network without the channel of other visible masks."""

    def forward(
        self, inputs: StepInputs[Tensor], memory: MemoryState[Tensor]
    ) -> tuple[StepOutputs[Tensor], MemoryState[Tensor]]:
        """Return what the network makes of a frame, its memory too not told of others."""
        return super().forward(inputs._replace(crop=without_others(inputs.crop)), memory)

    def complete(self, crop: Tensor, context: Tensor, memory: MemoryState[Tensor]) -> Completion:
        """Return what is made of a frame, from a memory that was not told of others."""
        return super().complete(without_others(crop), context, memory)


def run_source(run: Run, data: TrainingData) -> SequenceSource:
    """Return what a run learns from; the draws are the same with and without labels.

    A moving silhouette is alone in its frame, so its truth is known to every run.
    """
    dataset: SequenceSource = (
        LabeledSource(data.labeled)
        if run.is_labeled
        else DatasetSource(data.labeled / "visible.json")
    )
    return MixedSource([dataset, SilhouetteSource(read_library(data.shapes))], [1.0, 1.0])


def new_network(run: Run, seed: int, size: NetworkConfig | None = None) -> AmodalNetwork:
    """Return the untrained network of a run; runs of one seed begin alike."""
    torch.manual_seed(seed)
    config = (size or SIZES[run.size])._replace(uses_memory=run.uses_memory)
    return AmodalNetwork(config) if run.shows_others else BlindNetwork(config)


def run_config(job: Job) -> TrainConfig:
    """Return the settings of a job's training."""
    following = None if job.run.is_oracle else job.run.following
    return BUDGET._replace(seed=job.seed, paste=job.run.paste, following=following)


def train_job(job: Job, data: TrainingData, folder: Path) -> AmodalNetwork:
    """Return the network of a job, going on from a checkpoint under ``folder``.

    Raises:
        InputError: a checkpoint there is of other settings.
        DatasetError: the data does not hold what the run needs.
    """
    run = job.run
    if run.weights_of is not None:
        return train_job(Job(find_run(run.weights_of), job.seed), data, folder)
    source, network = run_source(run, data), new_network(run, job.seed)
    return train_network(folder / job.name, source, network, run_config(job))


def job_method(job: Job, network: AmodalNetwork) -> Method:
    """Return a trained job as a causal method of evaluation."""
    following = job.run.following or Following()
    config = StreamConfig(placement=following.placement, motion=following.motion)
    segmenter = AmodalSegmenter(TorchEngine(network), config)
    if job.run.is_oracle:
        return oracle_method(job.name, segmenter)
    return segmenter_method(job.name, segmenter, "causal")


def oracle_method(name: str, segmenter: AmodalSegmenter) -> Method:
    """Return a segmenter whose windows the true motion moves: it reads ``clip.amodal``.

    Args:
        name: as the tables show it.
        segmenter: of a configuration that does not move windows itself, `results_runs.ORACLE`.
    """

    def predict(clip: EvaluationClip) -> dict[int, TrackPrediction]:
        motions = {key: true_motions(masks) for key, masks in clip.amodal.items()}
        state, results = segmenter.start(clip.video.frame_size), []
        for index, visible in enumerate(clip.visible_frames):
            steps = {key: (m[index - 1], m[index]) for key, m in motions.items()} if index else {}
            state = move_truly(state, steps, segmenter.config.motion.least_surprise)
            result, state = segmenter.step(None, visible, state)
            results.append(result)
        return collect_results(results, clip.amodal)

    return Method(name, predict)


def move_truly(
    state: StreamState,
    steps: Mapping[int, tuple[MaskMotion, MaskMotion]],
    surprise: tuple[float, float],
) -> StreamState:
    """Return the state with its windows where the true motion leads, and sure of it.

    Args:
        state: as the last frame left it.
        steps: by track id the true motions from one frame of reference into the last frame and
            into the next; others stay.
        surprise: what the motion is expected to miss.
    """
    tracks = state.tracks
    window = tracks.window.copy()
    for row, track_id in enumerate(state.track_ids):
        if track_id not in steps:
            continue
        before, after = steps[track_id]
        ratio = after.scale / before.scale
        for axis, (old, new) in enumerate(
            ((before.shift_x, after.shift_x), (before.shift_y, after.shift_y))
        ):
            window[row, axis] = (window[row, axis] - old) * ratio + new
        window[row, 2] *= ratio
    moved = tracks._replace(
        window=window,
        velocity=np.zeros_like(tracks.velocity),
        variance=np.zeros_like(tracks.variance),
        surprise=np.tile(np.array(surprise, np.float32), (len(window), 1)),
    )
    return state._replace(tracks=moved)
