"""Sequences: what is drawn from a dataset to learn from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, box_mask, encode_rle
from amodal_training.sequences import (
    DatasetSource,
    MaskSequence,
    centers_and_size,
    flip,
    held_out,
)

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop" / "visible.json"
SIZE = (40, 60)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def write_visible(path: Path, videos: int = 2, length: int = 24, side: int = 12) -> Path:
    """Write videos in which a box moves, a column a frame; that of video ``n`` in row ``n``."""
    size = {"width": SIZE[1], "height": SIZE[0], "length": length, "fps": 10}
    entries = [{"id": n, "file_name": f"v{n}", **size} for n in range(videos)]
    tracks: list[dict[str, Any]] = []
    for n in range(videos):
        moving = [rectangle(i % 40, n, i % 40 + side, n + side) for i in range(length)]
        tracks.append({"id": 1, "video_id": n, "segmentations": [encode_rle(m) for m in moving]})
        still = [encode_rle(rectangle(50, 30, 52, 32))] * length  # too small to learn from
        tracks.append({"id": 2, "video_id": n, "segmentations": still})
    path.write_text(json.dumps({"videos": entries, "annotations": tracks}))
    return path


def test_sample_is_a_tracklet_with_the_others_around_it(tmp_path: Path) -> None:
    source = DatasetSource(write_visible(tmp_path / "visible.json"))
    assert len(source) == 2, "one tracklet of each video is large enough"
    sequence = source.sample(np.random.default_rng(0), 6)
    assert sequence.frame_size == SIZE
    assert len(sequence.target) == len(sequence.others) == 6
    for mask, others in zip(sequence.target, sequence.others, strict=True):
        assert mask is not None
        assert mask.area == 144
        assert others[30:32, 50:52].all()
        assert others.sum() == 4


def seen_by(source: DatasetSource) -> set[tuple[int, int]]:
    """Return (video, frame) of the targets in many samples."""
    rng, found = np.random.default_rng(0), set()
    for _ in range(80):
        for mask in source.sample(rng, 4).target:
            assert mask is not None
            found.add((mask.bbox_xyxy[1], mask.bbox_xyxy[0]))
    return found


def test_held_out_videos_are_never_trained_on(tmp_path: Path) -> None:
    path = write_visible(tmp_path / "visible.json", videos=12)
    trained = {video for video, _ in seen_by(DatasetSource(path))}
    held = {video for video, _ in seen_by(DatasetSource(path, is_selection=True))}
    assert held == {1, 11}
    assert trained == set(range(12)) - held


def test_held_out_frames_of_a_few_videos_are_never_trained_on(tmp_path: Path) -> None:
    path = write_visible(tmp_path / "visible.json", videos=2)
    trained = {frame for _, frame in seen_by(DatasetSource(path))}
    held = {frame for _, frame in seen_by(DatasetSource(path, is_selection=True))}
    assert trained == set(range(12))
    assert held == set(range(12, 24))


@pytest.mark.parametrize(("videos", "length"), [(1, 1), (1, 30), (3, 500), (10, 7), (25, 100)])
def test_every_frame_is_held_out_or_trained_on(videos: int, length: int) -> None:
    for index in range(videos):
        trained = held_out(index, videos, length, is_selection=False)
        held = held_out(index, videos, length, is_selection=True)
        assert sorted([*trained, *held]) == list(range(length))


def test_target_that_shows_rarely_is_still_seen(tmp_path: Path) -> None:
    """Visible in 8 of 400 frames: no sample may come without it."""
    path = write_visible(tmp_path / "visible.json", videos=1, length=400, side=8)
    content = json.loads(path.read_text())
    for track in content["annotations"]:
        track["segmentations"][8:] = [None] * 392
    path.write_text(json.dumps(content))
    source = DatasetSource(path)
    for seed in range(10):
        sequence = source.sample(np.random.default_rng(seed), 6)
        assert any(mask is not None for mask in sequence.target)
        assert len(sequence.others) == 6


def test_same_seed_gives_the_same_sequence(tmp_path: Path) -> None:
    source = DatasetSource(write_visible(tmp_path / "visible.json"))
    first, second = (source.sample(np.random.default_rng(3), 8) for _ in range(2))
    for a, b in zip(first.target, second.target, strict=True):
        assert a is not None
        assert b is not None
        assert a.bbox_xyxy == b.bbox_xyxy


def test_clip_shorter_than_the_sequence_swings_back(tmp_path: Path) -> None:
    source = DatasetSource(write_visible(tmp_path / "visible.json"))
    for seed in range(5):
        sequence = source.sample(np.random.default_rng(seed), 40)
        lefts = [mask.bbox_xyxy[0] for mask in sequence.target if mask is not None]
        steps = np.abs(np.diff(lefts))
        assert len(lefts) == 40
        assert steps.max() <= 3, "it plays back, it does not jump"
        assert len(set(lefts)) > 3


def test_real_dataset_is_drawn_from() -> None:
    source = DatasetSource(DEMO)
    sequence = source.sample(np.random.default_rng(0), 12)
    shown = [mask for mask in sequence.target if mask is not None]
    assert len(shown) >= 5
    for mask, others in zip(sequence.target, sequence.others, strict=True):
        if mask is not None:
            assert not (mask.full() & (others > 0)).any()


@pytest.mark.parametrize("given", [{"length": 14}, {"side": 6}, {"videos": 0}])
def test_dataset_without_a_tracklet_to_learn_from_is_refused(
    tmp_path: Path, given: dict[str, int]
) -> None:
    path = write_visible(tmp_path / "visible.json", **given)
    with pytest.raises(DatasetError, match="no tracklet of 8 frames and 40 pixels in"):
        DatasetSource(path)


def sequence_of(*target: BoxedMask | None) -> MaskSequence:
    others = np.zeros(SIZE, np.uint8)
    others[5, 7] = 1
    return MaskSequence(SIZE, list(target), [others] * len(target))


def test_flip_mirrors_everything() -> None:
    flipped = flip(sequence_of(rectangle(3, 4, 9, 20), None))
    mask = flipped.target[0]
    assert mask is not None
    np.testing.assert_array_equal(mask.full(), rectangle(51, 4, 57, 20).full())
    assert flipped.target[1] is None
    assert np.argwhere(flipped.others[0]).tolist() == [[5, 52]]


def test_flip_mirrors_the_answers() -> None:
    sequence = sequence_of(rectangle(3, 4, 9, 20), None)
    assert flip(sequence).answers is None
    flipped = flip(sequence._replace(answers=[None, rectangle(0, 0, 5, 6)])).answers
    assert flipped is not None
    assert flipped[0] is None
    assert flipped[1] is not None
    np.testing.assert_array_equal(flipped[1].full(), rectangle(55, 0, 60, 6).full())


def test_flip_twice_is_the_sequence() -> None:
    sequence = sequence_of(box_mask(np.random.default_rng(0).random(SIZE) < 0.3))
    again = flip(flip(sequence))
    first, second = sequence.target[0], again.target[0]
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.full(), second.full())
    np.testing.assert_array_equal(sequence.others[0], again.others[0])


def test_centers_are_interpolated_where_it_is_absent() -> None:
    sequence = sequence_of(rectangle(0, 0, 10, 4), None, rectangle(20, 10, 26, 16), None)
    center, size = centers_and_size(sequence)
    np.testing.assert_allclose(center, [[5.0, 2.0], [14.0, 7.5], [23.0, 13.0], [23.0, 13.0]])
    assert size == 8
