"""Writing a benchmark as a dataset folder, one clip at a time, so that an interrupted run resumes.

Every finished clip leaves its video under ``videos/`` and a JSON fragment under ``.clips/``; when
all are there, the fragments become ``visible.json`` and ``amodal.json``. The recipe (what was asked
for) is kept with them: a folder begun with another recipe is refused rather than mixed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from amodal_model.errors import InputError, MissingExtraError
from amodal_model.video_writer import VideoWriter
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, mask_file_json
from amodal_training.composite import (
    LICENSE,
    composite_name,
    cutout_of,
    make_composite,
    read_sequences,
)
from amodal_training.labeled_clip import LabeledClip, MaskTracks, tracklets_of
from amodal_training.tabletop_assets import LICENSE as TABLETOP_LICENSE
from amodal_training.tabletop_assets import TabletopAssets

VIDEO_CRF = 18
"""Quality of the encoded clips: compression as real footage has it, contours still sharp."""

_FRAGMENTS = ".clips"
_RECIPE = "recipe.json"


@dataclass(frozen=True)
class Recipe:
    """What a dataset is made of.

    Attributes:
        parameters: everything that the clips depend on, as JSON values.
        clip_names: names of all clips, in the order of the dataset.
        license_text: content of ``LICENSE.md``.
        with_amodal: whether ``amodal.json`` is written; training data must not have it.
    """

    parameters: dict[str, Any]
    clip_names: tuple[str, ...]
    license_text: str
    with_amodal: bool


def write_davis_composite(davis: Path, output: Path, *, seed: int = 0, per_target: int = 4) -> None:
    """Write the davis-composite benchmark.

    Args:
        davis: folder with ``videos/``, ``visible.json`` and ``tags.json``.
        output: the dataset folder to write; one that was interrupted is finished.
        seed: the same seed gives the same JSON, byte for byte.
        per_target: composites for each whole-silhouette sequence, at least 1.

    Raises:
        DatasetError: ``davis`` does not hold such a dataset.
        InputError: ``per_target`` or ``seed`` out of range, or ``output`` holds something else.
    """
    if not 1 <= per_target <= 100 or seed < 0:
        raise InputError(f"per target {per_target}, limit 1 to 100; seed {seed}, limit 0 or more")
    sequences = read_sequences(davis)
    cutouts = [cutout_of(sequences, name) for name in sequences.names]
    wanted = {
        composite_name(target, copy): (target, copy)
        for target in sequences.whole
        for copy in range(per_target)
    }
    parameters = {"kind": "davis-composite", "seed": seed, "per_target": per_target}
    write_clips(
        Recipe(parameters, tuple(wanted), LICENSE, with_amodal=True),
        output,
        lambda name: make_composite(sequences, cutouts, *wanted[name], seed),
    )


def write_tabletop(
    output: Path,
    *,
    seeds: range,
    assets: TabletopAssets,
    frames: int = 72,
    with_amodal: bool = True,
    frame_size: tuple[int, int] = (240, 320),
) -> None:
    """Write rendered tabletop clips, one a seed.

    Args:
        output: the dataset folder to write; one that was interrupted is finished.
        seeds: of the clips, within 0 to 999.
        assets: meshes and textures, from ``find_assets``.
        frames: length of each clip, at 12 frames a second; 2 to 2000.
        with_amodal: write ``amodal.json`` too, for evaluation; training data goes without.
        frame_size: ``(height, width)`` in pixels, even numbers up to 1080 x 1920.

    Raises:
        InputError: an argument out of range, or ``output`` holds something else.
        LimitError: a seed that is not ours to use.
        MissingExtraError: mujoco is not installed.
    """
    _check_tabletop(seeds, frames, frame_size)
    tabletop = _import_tabletop()
    wanted = {tabletop.tabletop_name(seed): seed for seed in seeds}
    parameters = {
        "kind": "tabletop",
        "seeds": [seeds.start, seeds.stop, seeds.step],
        "frames": frames,
        "frame_size": list(frame_size),
    }
    write_clips(
        Recipe(parameters, tuple(wanted), TABLETOP_LICENSE, with_amodal),
        output,
        lambda name: tabletop.make_tabletop(
            wanted[name], frames, assets, with_amodal=with_amodal, frame_size=frame_size
        ),
    )


def _check_tabletop(seeds: range, frames: int, frame_size: tuple[int, int]) -> None:
    height, width = frame_size
    if not seeds or not 2 <= frames <= 2000:
        raise InputError(f"{len(seeds)} seeds, limit 1 or more; {frames} frames, limit 2 to 2000")
    if height % 2 or width % 2 or not (16 <= height <= 1080 and 16 <= width <= 1920):
        raise InputError(f"frame of {width}x{height}, limit 16x16 to 1920x1080, even")


def _import_tabletop() -> ModuleType:
    """Import the renderer, which needs mujoco and, without a screen, EGL chosen before that."""
    if find_spec("mujoco") is None:
        raise MissingExtraError("the tabletop generator needs mujoco: pip install 'amodal[sim]'")
    if sys.platform == "linux":
        os.environ.setdefault("MUJOCO_GL", "egl")
    return import_module("amodal_training.tabletop")


def write_clips(recipe: Recipe, output: Path, make_clip: Callable[[str], LabeledClip]) -> None:
    """Make the clips that are not there yet, then assemble the dataset; does nothing when done.

    Args:
        recipe: what the dataset is made of.
        output: the dataset folder.
        make_clip: returns the clip of a name.

    Raises:
        InputError: ``output`` holds a dataset of another recipe, or other files.
    """
    if not _begin(recipe, output):
        return
    fragments = output / _FRAGMENTS
    with _progress() as progress:
        for name in progress.track(recipe.clip_names, description=str(recipe.parameters["kind"])):
            if not (fragments / f"{name}.json").is_file():
                _write_clip(make_clip(name), output)
    _assemble(recipe, output)
    shutil.rmtree(fragments)


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn())


def _begin(recipe: Recipe, output: Path) -> bool:
    """Return whether there is something left to do; refuse a folder that holds something else."""
    asked = {**recipe.parameters, "with_amodal": recipe.with_amodal}
    recipe_file, done = output / _FRAGMENTS / _RECIPE, output / "visible.json"
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: not a folder")
    if recipe_file.is_file() or done.is_file():
        found = _recorded(recipe_file, done)
        if found != asked:
            raise InputError(f"{output}: holds {found}, asked for {asked}; give another folder")
    elif output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output}: the folder is not empty and holds no benchmark; give another")
    if done.is_file() and not recipe_file.is_file():
        return False
    (output / "videos").mkdir(parents=True, exist_ok=True)
    recipe_file.parent.mkdir(exist_ok=True)
    _write_json(recipe_file, asked)
    return True


def _recorded(recipe_file: Path, done: Path) -> object:
    """Return the parameters of the dataset that a folder holds, ``None`` where it does not say."""
    try:
        if recipe_file.is_file():
            return json.loads(recipe_file.read_bytes())
        return json.loads(done.read_bytes())["info"]["recipe"]
    except (ValueError, TypeError, KeyError):
        return None


def _write_clip(clip: LabeledClip, output: Path) -> None:
    """Write the video, then its fragment: a fragment means that the clip is complete."""
    path = output / "videos" / f"{clip.name}.mp4"
    with VideoWriter(path, fps=clip.fps, crf=VIDEO_CRF) as writer:
        for index, frame in enumerate(clip.frames):
            writer.write(frame, index / clip.fps)
    fragment = {
        "source": clip.source,
        "shape": list(clip.frames.shape[:3]),
        "fps": clip.fps,
        "visible": _masks_json(clip.visible),
        "amodal": _masks_json(clip.amodal),
    }
    _write_json(output / _FRAGMENTS / f"{clip.name}.json", fragment)


def _masks_json(tracks: MaskTracks) -> dict[str, Any]:
    return {str(t.track_id): list(t.segmentations) for t in tracklets_of(tracks, 0)}


def _assemble(recipe: Recipe, output: Path) -> None:
    """Write the mask files; ``visible.json`` last, because it says that the dataset is done."""
    (output / "LICENSE.md").write_text(recipe.license_text, encoding="utf-8")
    for part in ("amodal", "visible") if recipe.with_amodal else ("visible",):
        _write_json(output / f"{part}.json", mask_file_json(_mask_file(recipe, output, part)))


def _mask_file(recipe: Recipe, output: Path, part: str) -> MaskFile:
    videos, tracklets = [], []
    for video_id, name in enumerate(recipe.clip_names, start=1):
        fragment = json.loads((output / _FRAGMENTS / f"{name}.json").read_bytes())
        videos.append(_video_entry(video_id, name, fragment))
        tracklets += [
            Tracklet(int(track_id), video_id, tuple(segmentations))
            for track_id, segmentations in fragment[part].items()
        ]
    asked = {**recipe.parameters, "with_amodal": recipe.with_amodal}
    return MaskFile(tuple(videos), tuple(tracklets), (), {"info": {"recipe": asked}})


def _video_entry(video_id: int, name: str, fragment: dict[str, Any]) -> VideoEntry:
    length, height, width = fragment["shape"]
    other = {"source": fragment["source"]}
    return VideoEntry(video_id, f"{name}.mp4", width, height, length, fragment["fps"], other)


def _write_json(path: Path, content: Any) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(path)
