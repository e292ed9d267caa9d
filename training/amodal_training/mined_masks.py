"""Visible masks to train on, mined where a data set comes without them, and kept in the run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from amodal_model.errors import InputError
from amodal_model.mining import MineConfig
from amodal_model.raw_videos import find_raw_videos, fingerprint, mine_videos
from amodal_model.youtube_vis import mask_file_json, read_mask_file

MINED_FOLDER = "mined"

Notify = Callable[[str], None]


def has_masks(dataset: Path) -> bool:
    """Return whether a data set has visible masks of its own."""
    return (dataset / "visible.json").is_file()


def given_masks(dataset: Path) -> Path:
    """Return the mask file of a data set that must have one.

    Raises:
        InputError: it has none.
    """
    if not has_masks(dataset):
        raise InputError(f"{dataset}: no visible.json; 'amodal mine' makes one from raw video")
    return dataset / "visible.json"


def mined_masks(raw: Path, run: Path, notify: Notify, *, until_s: float = float("inf")) -> Path:
    """Return a mask file of what moves in raw video, mined now or by an earlier session of the run.

    Args:
        raw: a video, a folder of frames or of videos, or a data set without masks.
        run: folder of the run; the file is kept in it.
        notify: told how many tracklets there are, and what is left out.
        until_s: value of ``time.monotonic`` at which to stop with what there is.

    Raises:
        InputError: no video, or nothing in it that moves.
    """
    videos = find_raw_videos([raw], notify)
    config = MineConfig()
    folder = run / MINED_FOLDER / f"{raw.resolve().stem}-{fingerprint(videos, config)[:12]}"
    path = folder / "visible.json"
    verb = "found again"
    if not path.is_file():
        verb = "mined"
        _, masks = mine_videos(videos, config, notify, until_s=until_s)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / "visible.json.partial"
        partial.write_text(json.dumps(mask_file_json(masks)), encoding="utf-8")
        partial.replace(path)
    kept = read_mask_file(path)
    frames = sum(video.length for video in kept.videos)
    notify(
        f"{raw}: no visible.json: {len(kept.tracklets)} tracklets {verb} in {frames} frames of "
        f"{len(kept.videos)} videos ({path})"
    )
    return path
