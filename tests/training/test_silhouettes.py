"""Silhouette tracklets: reproducible, inside the frame, without teleports, and varied."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.youtube_vis import read_mask_file
from amodal_training.silhouette_dataset import write_silhouettes
from amodal_training.silhouette_limbs import find_limbs
from amodal_training.silhouette_shapes import ShapeLibrary
from amodal_training.silhouettes import silhouette_tracklet

FRAMES = 24


def _library(*shapes: np.ndarray) -> ShapeLibrary:
    limbs = [(index, limb) for index, shape in enumerate(shapes) for limb in find_limbs(shape)]
    return ShapeLibrary(
        names=tuple(f"test:{index}" for index in range(len(shapes))),
        licences=("test: MIT",),
        source_of=np.zeros(len(shapes), np.int32),
        packed=np.packbits(np.stack(shapes), axis=-1),
        limb_shapes=np.array([index for index, _ in limbs], np.int32),
        limb_packed=np.packbits(np.stack([limb.pixels for _, limb in limbs]), axis=-1),
        limb_joints=np.array([limb[1:] for _, limb in limbs], np.float32),
    )


@pytest.fixture(scope="module")
def library() -> ShapeLibrary:
    y, x = np.mgrid[:160, :160]
    disc = (x - 80) ** 2 + (y - 80) ** 2 < 30**2
    armed = disc | ((abs(y - 80) < 7) & (x > 10) & (x < 150))
    egg = ((x - 80) / 50) ** 2 + ((y - 80) / 70) ** 2 < 1
    return _library(armed, egg)


@pytest.fixture(scope="module")
def tracklets(library: ShapeLibrary) -> list[list[BoxedMask | None]]:
    return [silhouette_tracklet(library, np.random.default_rng(i), FRAMES) for i in range(80)]


def test_the_same_seed_gives_the_same_masks(
    library: ShapeLibrary, tracklets: list[list[BoxedMask | None]]
) -> None:
    for index in range(8):
        again = silhouette_tracklet(library, np.random.default_rng(index), FRAMES)
        for first, second in zip(tracklets[index], again, strict=True):
            assert (first is None) == (second is None)
            if first is not None and second is not None:
                assert first.bbox_xyxy == second.bbox_xyxy
                assert np.array_equal(first.pixels, second.pixels)


def test_masks_are_tight_and_inside_the_frame(tracklets: list[list[BoxedMask | None]]) -> None:
    for mask in (mask for track in tracklets for mask in track if mask is not None):
        x0, y0, x1, y1 = mask.bbox_xyxy
        assert 0 <= x0 < x1 <= mask.frame_size[1]
        assert 0 <= y0 < y1 <= mask.frame_size[0]
        assert mask.pixels.shape == (y1 - y0, x1 - x0)
        edges = (mask.pixels[0], mask.pixels[-1], mask.pixels[:, 0], mask.pixels[:, -1])
        assert all(edge.any() for edge in edges)


def _neighbour_overlaps(tracklets: list[list[BoxedMask | None]]) -> list[float]:
    return [
        mask_iou(a, b)
        for track in tracklets
        for a, b in pairwise(track)
        if a is not None and b is not None and min(a.area, b.area) > 60
    ]


def test_objects_do_not_teleport(tracklets: list[list[BoxedMask | None]]) -> None:
    overlaps = _neighbour_overlaps(tracklets)
    assert np.median(overlaps) > 0.7
    assert np.mean(np.array(overlaps) < 0.1) < 0.02


def test_most_objects_are_seen_most_of_the_time(tracklets: list[list[BoxedMask | None]]) -> None:
    seen = [sum(mask is not None for mask in track) / FRAMES for track in tracklets]
    assert np.mean(np.array(seen) >= 0.6) > 0.95


def _without_place(mask: BoxedMask) -> np.ndarray:
    """The outline on a square of fixed size: place and size are gone, shape is left."""
    height, width = mask.pixels.shape
    side = max(height, width)
    square = np.zeros((side, side), bool)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = mask.pixels
    kept = ((np.arange(24) + 0.5) * side / 24).astype(int)
    return np.asarray(square[np.ix_(kept, kept)])


def test_outlines_change_and_not_only_their_place(
    tracklets: list[list[BoxedMask | None]],
) -> None:
    changes = []
    for track in tracklets:
        outlines = [_without_place(mask) for mask in track if mask is not None and mask.area > 60]
        if len(outlines) > 8:
            both, either = outlines[0] & outlines[8], outlines[0] | outlines[8]
            changes.append(1 - both.sum() / either.sum())
    assert np.median(changes) > 0.1
    assert np.percentile(changes, 90) > 0.35
    assert min(changes) < 0.05, "some things are stiff"


def test_sizes_and_speeds_vary(tracklets: list[list[BoxedMask | None]]) -> None:
    sides = [max(mask.pixels.shape) for track in tracklets for mask in track if mask is not None]
    assert np.percentile(sides, 5) < 45
    assert np.percentile(sides, 95) > 110
    overlaps = _neighbour_overlaps(tracklets)
    assert np.percentile(overlaps, 90) > 0.93
    assert np.percentile(overlaps, 10) < 0.65


def test_a_written_dataset_has_visible_masks_a_licence_and_no_amodal_truth(
    library: ShapeLibrary, tmp_path: Path
) -> None:
    shapes, output = tmp_path / "library.npz", tmp_path / "out"
    stored: dict[str, Any] = {name: np.asarray(value) for name, value in vars(library).items()}
    np.savez(shapes, **stored)
    write_silhouettes(output, shapes=shapes, clips=2, frames=5, seed=3)
    masks = read_mask_file(output / "visible.json")
    assert [video.length for video in masks.videos] == [5, 5]
    assert len(masks.tracklets) == 2
    assert all((output / "videos" / video.file_name).is_file() for video in masks.videos)
    assert "test: MIT" in (output / "LICENSE.md").read_text()
    assert not (output / "amodal.json").exists()


@pytest.mark.parametrize(("clips", "frames", "seed"), [(0, 5, 0), (1, 1, 0), (1, 5, -1)])
def test_numbers_out_of_range_are_refused(
    tmp_path: Path, clips: int, frames: int, seed: int
) -> None:
    with pytest.raises(InputError, match="limit"):
        write_silhouettes(tmp_path / "out", shapes=tmp_path, clips=clips, frames=frames, seed=seed)
