"""Mined tracklets written as a dataset folder: all of it at once, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from amodal_model.errors import InputError
from amodal_model.raw_videos import RawVideo
from amodal_model.youtube_vis import MaskFile, mask_file_json

_LICENSE = """# Mined clips

The masks in visible.json were mined from the videos by `amodal mine`: objects that move, found
without labels. They are estimates, not annotations.

The videos are copies (or hard links) of the files below. Their licences are those of their origin,
which this file does not know: add them before you pass the dataset on.

{sources}
"""


def check_output(output: Path) -> None:
    """Raise where the folder to be written is there already.

    Raises:
        InputError: it holds something.
    """
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(f"{output}: is there already and not empty; name a new folder")


def write_mined_dataset(output: Path, videos: Sequence[RawVideo], masks: MaskFile) -> None:
    """Write a dataset of videos, hard-linked where that is possible, and their mined masks.

    Args:
        output: the folder; it is moved to this name when all of it is written.
        videos: those of the mask file.
        masks: their tracklets.

    Raises:
        InputError: ``output`` holds something.
    """
    check_output(output)
    partial = output.absolute().parent / f".{output.absolute().name}.mining"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        (partial / "videos").mkdir(parents=True)
        for video in videos:
            _link(video.clip.path, partial / "videos" / video.name)
        sources = "\n".join(f"- {video.name}" for video in videos)
        (partial / "LICENSE.md").write_text(_LICENSE.format(sources=sources), encoding="utf-8")
        (partial / "visible.json").write_text(json.dumps(mask_file_json(masks)), encoding="utf-8")
        partial.replace(output.absolute())
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """Link a file, or every file of a folder, and copy where a link cannot be made."""
    if source.is_dir():
        target.mkdir()
        for file in sorted(source.iterdir()):
            if file.is_file():
                _link(file, target / file.name)
        return
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
