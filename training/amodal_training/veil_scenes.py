"""Scenes with pictures to learn veils from: drawn ones, and real clips that drawn things cross.

Of every thing the whole silhouette is known wherever it was drawn or showed. Some of what hides
the target is then given no mask: to whoever follows the target it is open background.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from amodal_model.errors import DatasetError
from amodal_model.masks import box_mask
from amodal_model.youtube_vis import read_mask_file
from amodal_training.follow_scenes import labeled_frames
from amodal_training.occluders import PastedSequence, disturb, plan_path, stand_beside
from amodal_training.scene_cutouts import chosen_videos
from amodal_training.scene_layers import Thing, over
from amodal_training.scenes import (
    SCENE_SIZE,
    SceneParts,
    draw_layers,
    sample_look,
    sample_thing,
    seen_through,
)
from amodal_training.silhouette_motion import PoseTrack

OTHERS = 8
"""Label of all that is nobody's target."""
_MOST_REAL = 4
"""Tracklets of a real clip that keep a label of their own; drawn things take the next ones."""
LEAST_AREA = 120
"""Pixels that a target shows."""
_LEAST_SHOWN = 0.3
"""Share of the frames in which it does."""


class VeilScene(NamedTuple):
    """A clip, what shows in it, and what is there.

    Attributes:
        images: (T, H, W, 3) RGB.
        labels: (T, H, W) the thing that shows, 1 to 8; 0 for the background.
        wholes: (T, H, W) bit n - 1 is set where thing n is, whether it shows or not.
        drawn: (8,) whether thing n was drawn: then its silhouette is known everywhere. Of others it
            is not known where another of them shows.
    """

    images: UInt8[np.ndarray, "T H W 3"]
    labels: UInt8[np.ndarray, "T H W"]
    wholes: UInt8[np.ndarray, "T H W"]
    drawn: Bool[np.ndarray, " 8"]


class VeilShares(NamedTuple):
    """How often what happens.

    Attributes:
        unseen_drawn: drawn things that have no mask.
        unseen_real: real ones.
        noise: sequences whose masks are disturbed.
        reversed: played backwards.
    """

    unseen_drawn: float = 0.7
    unseen_real: float = 0.3
    noise: float = 0.3
    reversed: float = 0.5


SHARES = VeilShares()


def write_drawn_veils(folder: Path, parts: SceneParts, seeds: Sequence[int]) -> None:
    """Draw one scene a seed; those that are there already stay."""
    for seed in seeds:
        path = folder / f"drawn-{seed:06d}.npz"
        if not path.exists():
            layers = draw_layers(parts, np.random.default_rng(seed))
            drawn = np.ones(OTHERS, bool)
            _write(path, VeilScene(layers.images, layers.labels, layers.wholes, drawn))


def write_crossed_veils(
    folder: Path, parts: SceneParts, dataset: Path, seeds: Sequence[int], *, held_out: bool = False
) -> None:
    """Let drawn things cross a clip of a dataset with visible masks, one scene a seed."""
    masks = read_mask_file(dataset / "visible.json")
    videos = chosen_videos(masks, held_out=held_out)
    for seed in seeds:
        path = folder / f"{dataset.name}-{seed:06d}.npz"
        rng = np.random.default_rng(seed)
        video = videos[rng.integers(len(videos))]
        if path.exists() or video.length < 8:
            continue
        images, labels = labeled_frames(dataset, masks, video, rng)
        scene = _crossed(parts, images, _kept_labels(labels, rng), rng)
        if scene is not None:
            _write(path, scene)


def _kept_labels(
    labels: UInt8[np.ndarray, "T H W"], rng: np.random.Generator
) -> UInt8[np.ndarray, "T H W"]:
    """Return the labels of some tracklets from 1 on, of all others ``OTHERS``."""
    areas = np.bincount(labels.ravel(), minlength=256)[1:]
    weights = np.sqrt(areas) * rng.uniform(0.5, 1.5, len(areas))
    table = np.full(256, OTHERS, np.uint8)
    table[0] = 0
    for number, label in enumerate(np.argsort(-weights)[:_MOST_REAL].tolist()):
        table[label + 1] = number + 1
    return np.asarray(table[labels], np.uint8)


def _crossed(
    parts: SceneParts,
    images: UInt8[np.ndarray, "T H W 3"],
    labels: UInt8[np.ndarray, "T H W"],
    rng: np.random.Generator,
) -> VeilScene | None:
    """Return a clip that one to three drawn things cross; ``None`` where it has no target."""
    frames = len(images)
    wholes = np.where(labels > 0, 1 << (labels.astype(np.int16) - 1).clip(0), 0).astype(np.uint8)
    drawn = np.zeros(OTHERS, bool)
    images, labels = images.copy(), labels.copy()
    look = sample_look(rng, frames)
    paths = [_path_of(wholes & (1 << index)) for index in range(_MOST_REAL)]
    targets = [path for path in paths if path is not None]
    if not targets:
        return None
    for number in range(_MOST_REAL + 1, _MOST_REAL + 1 + int(rng.integers(1, 4))):
        thing = _crossing(parts, targets[rng.integers(len(targets))], frames, rng)
        drawn[number - 1] = True
        for index in range(frames):
            layer = thing.draw(index, SCENE_SIZE)
            images[index] = over(layer, images[index])
            covered = layer[..., 3] >= 128
            labels[index][covered] = number
            wholes[index][covered] |= 1 << (number - 1)
    seen = [seen_through(image, index, look, rng) for index, image in enumerate(images)]
    return VeilScene(np.stack(seen), labels, wholes, drawn)


def _path_of(
    shown: UInt8[np.ndarray, "T H W"],
) -> tuple[Float64[np.ndarray, "T 2"], float] | None:
    """Return the centre of a thing in each frame and its size; ``None`` where it hardly shows."""
    boxes = [box_mask(each > 0).bbox_xyxy for each in shown]
    areas = np.array([np.count_nonzero(each) for each in shown])
    seen = np.flatnonzero(areas >= LEAST_AREA)
    if len(seen) < _LEAST_SHOWN * len(shown):
        return None
    corners = np.array([boxes[index] for index in seen.tolist()], np.float64)
    middle = (corners[:, :2] + corners[:, 2:]) / 2
    every = np.arange(len(shown))
    center = np.stack([np.interp(every, seen, middle[:, axis]) for axis in range(2)], 1)
    return center, float(np.median((corners[:, 2:] - corners[:, :2]).max(1)))


def _crossing(
    parts: SceneParts,
    target: tuple[Float64[np.ndarray, "T 2"], float],
    frames: int,
    rng: np.random.Generator,
) -> Thing:
    """Return a thing that comes before a target, lingers and leaves, or stands in its way."""
    center, size = target
    ratio = float(np.exp(rng.uniform(np.log(0.4), np.log(2.5))))
    if rng.random() < 0.25:
        path = stand_beside(rng, center, size)
    else:
        path = plan_path(rng, center, size, bool(rng.random() < 0.2))

    def place(pose: PoseTrack) -> PoseTrack:
        grown = pose.size * (ratio * size / float(pose.size.mean()))
        return replace(pose, centre_x=path[:, 0], centre_y=path[:, 1], size=np.clip(grown, 6, 300))

    return sample_thing(parts, rng, frames, place)


def pasted_of(
    scene: VeilScene, rng: np.random.Generator, shares: VeilShares = SHARES
) -> PastedSequence | None:
    """Return a scene as it is seen by who follows one of its things; ``None`` without a target."""
    shown = np.array(
        [(np.bincount(each.ravel(), minlength=OTHERS + 1)[1:]) for each in scene.labels]
    )
    is_shown = (shown[:, : OTHERS - 1] >= LEAST_AREA).mean(0) >= _LEAST_SHOWN
    choices = np.flatnonzero(is_shown)
    if not len(choices):
        return None
    target = int(rng.choice(choices)) + 1
    chances = np.where(scene.drawn, shares.unseen_drawn, shares.unseen_real)
    is_unseen = rng.random(OTHERS) < chances
    is_unseen[target - 1] = False
    is_seen = np.concatenate([[False], ~is_unseen])
    is_seen[target] = False
    rest = 0 if scene.drawn[target - 1] else _bits(~scene.drawn) & ~(1 << (target - 1))
    order = range(len(scene.images))
    if rng.random() < shares.reversed:
        order = order[::-1]
    is_noisy = rng.random() < shares.noise
    own, coverage, answers, unknowns = [], [], [], []
    for index in order:
        label = scene.labels[index]
        visible = shows = (label == target).astype(np.uint8)
        covered = is_seen[label].astype(np.uint8)
        if is_noisy:
            visible, covered = disturb(rng, visible, covered)
        own.append(box_mask(visible.astype(bool)))
        coverage.append(visible + covered)
        whole = scene.wholes[index]
        answers.append(box_mask((whole & (1 << (target - 1))) > 0))
        # what shows and its mask leaves out is not hidden
        unknowns.append((((whole & rest) > 0) | (shows > visible)).astype(np.uint8))
    images = [scene.images[index] for index in order]
    return PastedSequence(own, coverage, answers, unknowns, images=images)


def _bits(chosen: Bool[np.ndarray, " 8"]) -> int:
    return sum(1 << index for index in np.flatnonzero(chosen).tolist())


def read_veil_scene(path: Path) -> VeilScene:
    """Return a scene.

    Raises:
        DatasetError: not a scene.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            return VeilScene(*(stored[name] for name in VeilScene._fields))
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: not a scene of veils: {error}") from None


def _write(path: Path, scene: VeilScene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **scene._asdict())
    partial.replace(path)
