"""``amodal mine``: raw video in, a dataset with the visible masks of what moves out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amodal_model.errors import InputError
from amodal_model.mining import MineConfig
from amodal_model.raw_videos import find_raw_videos, mine_videos
from amodal_model.video import Clip
from amodal_service.mined_dataset import check_output, write_mined_dataset
from amodal_service.progress import Reporter


def mine(
    videos: Annotated[
        list[Path], typer.Argument(help="Videos, folders of frames, or folders of these.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")],
    quality: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Least quality of a tracklet, 0 to 1.")
    ] = MineConfig().least_quality,
) -> None:
    """Mine visible masks from raw video: what moves, tracked, where it is clear enough."""
    check_output(output)
    reporter = Reporter()
    found = find_raw_videos(videos, reporter.line)
    total = sum(_length(video.clip) for video in found)
    with reporter.bar("mining", total) as advance:
        kept, masks = mine_videos(found, MineConfig(quality), reporter.line, watch=advance)
    write_mined_dataset(output, kept, masks)
    typer.echo(f"{len(masks.tracklets)} tracklets in {len(kept)} videos: {output}")


def _length(clip: Clip) -> int:
    """Return how many frames a clip has; of a damaged one, which will be left out, none."""
    try:
        return clip.count()
    except InputError:
        return 0
