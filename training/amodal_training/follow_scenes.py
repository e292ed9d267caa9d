"""Scenes on disk to learn following from: drawn ones, and clips with visible masks.

They are drawn once and used many times; a scene is a file of its own, written whole or not at all,
so that several processes may draw into a folder that is being read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError
from amodal_model.geometry import Window
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.prompt_masks import Said, first_mask
from amodal_model.video import open_clip
from amodal_model.youtube_vis import MaskFile, VideoEntry, read_mask_file
from amodal_training.scene_cutouts import chosen_videos
from amodal_training.scene_footage import recoloured
from amodal_training.scenes import SCENE_FRAMES, SCENE_SIZE, Scene, SceneParts, draw_scene, flows_of

LEAST_AREA = 120
"""Pixels that an object shows where it is prompted."""
_PROMPTS = 6
HELD_OUT_EVERY = 6
"""Of the footage, one video in so many is held out; of labeled clips, one in ten."""


class BoxPrompt(NamedTuple):
    """An object's box in a frame of a scene, and what the classical method makes of it.

    Attributes:
        frame_index: of the frame.
        label: of the object.
        box: half-open, tight or drawn by a loose hand, pixels.
        window: around it.
        guess: (S, S) 0 to 255.
    """

    frame_index: int
    label: int
    box: tuple[float, float, float, float]
    window: Window
    guess: UInt8[np.ndarray, "S S"]


class StoredScene(NamedTuple):
    """A scene and boxes to begin from."""

    scene: Scene
    prompts: tuple[BoxPrompt, ...]


def write_drawn(folder: Path, parts: SceneParts, seeds: Sequence[int]) -> None:
    """Draw one scene a seed; those that are there already stay."""
    for seed in seeds:
        path = folder / f"drawn-{seed:06d}.npz"
        if not path.exists():
            rng = np.random.default_rng(seed)
            _write(path, draw_scene(parts, rng), rng)


def write_labeled(
    folder: Path, dataset: Path, seeds: Sequence[int], *, held_out: bool = False
) -> None:
    """Write one scene a seed from the clips of a dataset with visible masks."""
    masks = read_mask_file(dataset / "visible.json")
    videos = chosen_videos(masks, held_out=held_out)
    for seed in seeds:
        path = folder / f"{dataset.name}-{seed:06d}.npz"
        rng = np.random.default_rng(seed)
        video = videos[rng.integers(len(videos))]
        if not path.exists() and video.length >= 4:
            _write(path, _labeled_scene(dataset, masks, video, rng), rng)


def scene_files(folder: Path, prefixes: tuple[str, ...] = ("",)) -> list[Path]:
    """Return the scenes of a folder, those whose names begin in some way.

    Raises:
        DatasetError: there is none.
    """
    found = [path for path in sorted(folder.glob("*.npz")) if path.name.startswith(prefixes)]
    if not found:
        raise DatasetError(f"{folder}: no scene")
    return found


def balanced(files: Sequence[Path]) -> list[Path]:
    """Return scenes, the drawn ones so often that they are about three in four."""
    drawn = [path for path in files if path.name.startswith("drawn")]
    labeled = len(files) - len(drawn)
    times = max(round(3 * labeled / max(len(drawn), 1)), 1)
    return [*files, *drawn * (times - 1)]


def read_scene(path: Path) -> StoredScene:
    """Return a scene.

    Raises:
        DatasetError: not a scene.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            scene = Scene(stored["images"], stored["labels"], stored["flows"])
            rows = zip(
                stored["places"].tolist(),
                stored["boxes"].tolist(),
                stored["windows"].tolist(),
                stored["guesses"],
                strict=True,
            )
            prompts = tuple(
                BoxPrompt(index, label, (box[0], box[1], box[2], box[3]), Window(*window), guess)
                for (index, label), box, window, guess in rows
            )
            return StoredScene(scene, prompts)
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{path}: not a scene: {error}") from None


def _write(path: Path, scene: Scene, rng: np.random.Generator) -> None:
    """Write a scene with boxes to begin from; one without an object to follow is left out."""
    prompts = [each for _ in range(_PROMPTS) if (each := _prompt(scene, rng)) is not None]
    if not prompts:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            images=scene.images,
            labels=scene.labels,
            flows=scene.flows,
            places=np.array([(each.frame_index, each.label) for each in prompts], np.int64),
            boxes=np.array([each.box for each in prompts], np.float64),
            windows=np.array([each.window[:3] for each in prompts], np.float64),
            guesses=np.stack([each.guess for each in prompts]),
        )
    partial.replace(path)


def _prompt(scene: Scene, rng: np.random.Generator) -> BoxPrompt | None:
    """Return the box of some object in the first half, and the classical guess of its mask."""
    index = int(rng.integers(max(len(scene.images) // 2, 1)))
    areas = np.bincount(scene.labels[index].ravel(), minlength=2)
    choices = 1 + np.flatnonzero(areas[1:] >= LEAST_AREA)
    if not choices.size:
        return None
    label = int(rng.choice(choices))
    box = _hand_drawn(box_mask(scene.labels[index] == label), rng)
    window, guess = first_mask(scene.images[index], Said(box, None, (), remove=False))
    return BoxPrompt(index, label, box, window, np.rint(guess * 255).astype(np.uint8))


def _hand_drawn(mask: BoxedMask, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Return the box of a mask, tight or as a loose hand draws it."""
    x0, y0, x1, y1 = (float(side) for side in mask.bbox_xyxy)
    if rng.random() < 0.5:
        return x0, y0, x1, y1
    size = np.array([x1 - x0, y1 - y0] * 2)
    margin = rng.uniform(0, 0.06) * size * (-1, -1, 1, 1)
    box = np.array([x0, y0, x1, y1]) + rng.normal(0, 0.04, 4) * size + margin
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _labeled_scene(
    dataset: Path, masks: MaskFile, video: VideoEntry, rng: np.random.Generator
) -> Scene:
    images, labels = labeled_frames(dataset, masks, video, rng)
    return Scene(images, labels, flows_of(images))


def labeled_frames(
    dataset: Path, masks: MaskFile, video: VideoEntry, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "T H W 3"], UInt8[np.ndarray, "T H W"]]:
    """Return a part of a clip in a window that moves, mirrored and recoloured at random.

    Images, and labels of its tracklets from 1 on.
    """
    tracks = masks.tracklets_of(video.video_id)
    step = int(rng.choice([1, 2])) if video.length >= 2 * SCENE_FRAMES else 1
    last = max(video.length - step * SCENE_FRAMES, 0)
    start = int(rng.integers(last + 1))
    wanted = range(start, min(start + step * SCENE_FRAMES, video.length), step)
    windows = _windows(video.frame_size, len(wanted), rng)
    mirrored, seed = rng.random() < 0.5, int(rng.integers(2**31))
    images, labels = [], []
    for frame in open_clip(dataset / "videos" / video.file_name).frames(first=wanted.start):
        if frame.index >= wanted.stop:
            break
        if frame.index not in wanted:
            continue
        matrix = next(windows)
        label = np.zeros(video.frame_size, np.uint8)
        for number, each in enumerate(tracks):
            mask = each.mask(frame.index)
            if mask is not None:
                label[mask.full()] = number + 1
        image = recoloured(frame.image, np.random.default_rng(seed)) if seed % 2 else frame.image
        images.append(_warped(image, matrix, mirrored, cv2.INTER_AREA))
        labels.append(_warped(label, matrix, mirrored, cv2.INTER_NEAREST))
    return np.stack(images), np.stack(labels)


def _windows(
    frame_size: tuple[int, int], frames: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield scene_from_frame of each frame: a window of 0.55 to 1 of the frame, slowly moving."""
    height, width = frame_size
    largest = min(height / SCENE_SIZE[0], width / SCENE_SIZE[1])
    scale = largest * rng.uniform(0.55, 1.0)
    room = np.array([width, height]) - scale * np.array(SCENE_SIZE[::-1])
    ends = rng.random((2, 2)) * room
    if rng.random() < 0.5:
        ends[1] = ends[0]
    for share in np.linspace(0, 1, frames):
        corner = (1 - share) * ends[0] + share * ends[1]
        yield np.array([[1 / scale, 0, -corner[0] / scale], [0, 1 / scale, -corner[1] / scale]])


def _warped(values: np.ndarray, matrix: np.ndarray, mirrored: bool, flags: int) -> np.ndarray:
    warped = cv2.warpAffine(values, matrix, SCENE_SIZE[::-1], flags=flags)
    return np.ascontiguousarray(warped[:, ::-1] if mirrored else warped)
