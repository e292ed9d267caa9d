"""Streams go on from the answers they are given, and are told what serving tells the network."""

from pathlib import Path

import numpy as np
import pytest
from small_scenes import write_small_scenes

from amodal_model.learned_object import CUES, KEY_CHANNELS, KEYS, SIDE, SLOTS
from amodal_training.follow_rollout import Stream, batch_of
from amodal_training.follow_scenes import scene_files

NO_KEYS = np.zeros((KEY_CHANNELS, KEYS), np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return scene_files(write_small_scenes(tmp_path_factory.mktemp("scenes")))


def test_a_stream_that_is_told_the_truth_stays_with_its_object(files: list[Path]) -> None:
    stream = Stream(files, np.random.default_rng(0))
    overlaps = []
    for _ in range(20):
        is_first = stream.sight.cues[9].any()
        carried = stream.sight.cues[0] > 0.5
        true = stream.truth > 0.5
        if not is_first and true.any():
            overlaps.append((carried & true).sum() / (carried | true).sum())
        score = stream.take(stream.truth.copy(), NO_KEYS)
        assert score is None or score.iou > 0.95
    assert np.mean(overlaps) > 0.7


def test_a_stream_that_has_lost_its_object_begins_anew(files: list[Path]) -> None:
    stream = Stream(files, np.random.default_rng(1))
    nothing = np.zeros((SIDE, SIDE), np.float32)
    begun = 0
    for _ in range(16):
        stream.take(nothing, NO_KEYS)
        begun += stream.is_over
    assert begun >= 2


def test_a_batch_has_a_row_a_stream(files: list[Path]) -> None:
    streams = [
        Stream(files, np.random.default_rng(seed), only_begins=seed == 0) for seed in range(3)
    ]
    batch = batch_of(streams)
    assert batch.pictures.shape == (3, SIDE, SIDE, 3)
    assert batch.cues.shape == (3, CUES, SIDE, SIDE)
    assert batch.weights.shape == (3, SLOTS, 2, KEYS)
    assert not batch.weights.any()  # before the first answer nothing is remembered
    assert batch.counts[0] == 1


def test_one_that_only_begins_takes_another_object_after_each_first_mask(
    files: list[Path],
) -> None:
    stream = Stream(files, np.random.default_rng(2), only_begins=True)
    for _ in range(8):
        score = stream.take(stream.truth.copy(), NO_KEYS)
        assert score is not None
        assert score.is_first
