"""Raw videos on disk, to be mined: which clips there are, and a mask file of what moves in them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from amodal_model.errors import DatasetError, InputError, LimitError
from amodal_model.mining import MineConfig, MinedClip, Watch, mask_file, mine_clip
from amodal_model.video import Clip, image_files, open_clip
from amodal_model.youtube_vis import MaskFile

MAX_VIDEOS = 10_000
_NO_VIDEOS = {".json", ".md", ".txt", ".csv", ".npz", ".toml", ".yaml"}
"""Endings of what lies beside videos and is none."""

Notify = Callable[[str], None]


class RawVideo(NamedTuple):
    """One clip, and the name it has in a dataset."""

    name: str
    clip: Clip


def find_raw_videos(paths: Sequence[Path], notify: Notify) -> list[RawVideo]:
    """Return the clips of files, folders of frames, folders of videos and datasets.

    Args:
        paths: any of these.
        notify: told, in one line, what of a folder of videos is left out.

    Raises:
        InputError: a path holds no video, or two videos have one name.
        LimitError: more than 10000 videos.
    """
    found = [video for path in paths for video in _videos_at(path, notify)]
    if len(found) > MAX_VIDEOS:
        raise LimitError(f"{len(found)} videos, limit {MAX_VIDEOS} (MAX_VIDEOS)")
    names = [video.name for video in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"two videos are named {twice!r}; a dataset needs different names")
    return found


def _videos_at(path: Path, notify: Notify) -> list[RawVideo]:
    folder = path / "videos" if (path / "videos").is_dir() else path
    if not folder.is_dir() or (folder == path and image_files(path)):
        return [RawVideo(path.resolve().name, open_clip(path))]
    entries = sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.suffix.lower() not in _NO_VIDEOS
    )
    if len(entries) > MAX_VIDEOS:
        raise LimitError(f"{folder}: {len(entries)} entries, limit {MAX_VIDEOS} (MAX_VIDEOS)")
    videos, refused = [], []
    for entry in entries:
        try:
            videos.append(RawVideo(entry.name, open_clip(entry)))
        except (DatasetError, LimitError) as error:
            refused.append(str(error))
    if not videos:
        reason = refused[0] if refused else "nothing in it"
        raise DatasetError(f"{folder}: no video that can be read ({reason})")
    if refused:
        notify(f"{folder}: {len(refused)} entries left out, first {refused[0]}")
    return videos


def mine_videos(
    videos: Iterable[RawVideo],
    config: MineConfig,
    notify: Notify,
    *,
    watch: Watch = lambda count: None,
    until_s: float = float("inf"),
) -> tuple[list[RawVideo], MaskFile]:
    """Return what moves in videos as a mask file, and the videos that it holds.

    Args:
        videos: to mine, in this order.
        config: what is mined.
        notify: told, in one line each, which videos turn out to be damaged and are left out.
        watch: called with the number of frames done since the last call.
        until_s: value of ``time.monotonic`` at which to stop with what there is.

    Raises:
        InputError: no video held a tracklet that is good enough.
    """
    kept: list[RawVideo] = []
    mined: list[MinedClip] = []
    looked_at = 0
    for video in videos:
        if looked_at and time.monotonic() >= until_s:
            break
        looked_at += 1
        try:
            found = mine_clip(video.clip, config, watch=watch, until_s=until_s)
        except (DatasetError, LimitError) as error:
            notify(f"left out: {error}")
            continue
        kept.append(video)
        mined.append(found)
    if not any(clip.tracklets for clip in mined):
        raise InputError(
            f"nothing that moves was found in {looked_at} videos at a quality of "
            f"{config.least_quality} or more"
        )
    names, clips = [video.name for video in kept], [video.clip for video in kept]
    return kept, mask_file(names, clips, mined)


def fingerprint(videos: Iterable[RawVideo], config: MineConfig) -> str:
    """Return a digest of everything that mined masks depend on, but the version of this code."""
    digest = hashlib.sha256(repr(config).encode())
    for video in videos:
        path = video.clip.path
        files = image_files(path) if path.is_dir() else [path]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        digest.update(json.dumps([video.name, stats]).encode())
    return digest.hexdigest()
