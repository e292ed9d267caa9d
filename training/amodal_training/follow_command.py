"""Commands that teach the following of prompted objects: draw scenes, then train on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from amodal_model.errors import InputError
from amodal_model.follow_export import export_follower
from amodal_model.model_files import find_helper
from amodal_training.follow_scenes import (
    HELD_OUT_EVERY,
    balanced,
    scene_files,
    write_drawn,
    write_labeled,
)
from amodal_training.follow_start import begun_from_served
from amodal_training.follow_trainer import (
    FollowConfig,
    Progress,
    measure_following,
    train_follower,
)
from amodal_training.scene_cutouts import read_cutouts
from amodal_training.scene_footage import read_footage
from amodal_training.scenes import SceneParts
from amodal_training.silhouette_shapes import read_library
from amodal_training.veil_scenes import write_crossed_veils, write_drawn_veils

_VIDEOS = {".mp4", ".avi", ".mov", ".mkv", ".webm"}


def scenes(  # noqa: PLR0913  (every option is an argument)
    footage: Annotated[list[Path], typer.Argument(help="Videos, or folders of them.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the scenes.")],
    shapes: Annotated[Path, typer.Option(help="A library that `shapes` wrote (npz).")],
    labeled: Annotated[
        list[Path] | None, typer.Option(help="Datasets with visible masks: clips and cut-outs.")
    ] = None,
    cutouts: Annotated[
        list[Path] | None, typer.Option(help="Datasets with rough masks: cut-outs alone.")
    ] = None,
    drawn: Annotated[int, typer.Option(min=0, help="Drawn scenes.")] = 1000,
    from_labeled: Annotated[int, typer.Option(min=0, help="Scenes of each labeled dataset.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the first scene.")] = 0,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="From the videos that training leaves out.")
    ] = False,
    veils: Annotated[
        bool, typer.Option("--veils", help="For `veil-train`: drawn things cross the clips.")
    ] = False,
) -> None:
    """Draw scenes with exact masks for `follow-train`; those that are there already stay."""
    cv2.setNumThreads(1)
    videos = _videos(footage)
    own = [v for i, v in enumerate(videos) if (i % HELD_OUT_EVERY == 2) == held_out]
    sources = [*(labeled or ()), *(cutouts or ())]
    groups = tuple(read_cutouts(each, held_out=held_out) for each in sources)
    parts = SceneParts(read_library(shapes), read_footage(own), tuple(g for g in groups if g))
    seeds, of_clips = range(seed, seed + drawn), range(seed, seed + from_labeled)
    if veils:
        for dataset in labeled or ():
            write_crossed_veils(output, parts, dataset, of_clips, held_out=held_out)
        write_drawn_veils(output, parts, seeds)
    else:
        for dataset in labeled or ():
            write_labeled(output, dataset, of_clips, held_out=held_out)
        write_drawn(output, parts, seeds)
    typer.echo(
        f"{drawn} drawn scenes from {len(own)} videos, {sum(map(len, groups))} cut-outs: {output}"
    )


def _videos(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += (
            sorted(p for p in path.iterdir() if p.suffix in {".mp4", ".avi"})
            if path.is_dir()
            else [path]
        )
    if not found:
        raise InputError("no video in the folders given")
    return found


def follow_train(  # noqa: PLR0913  (every option is an argument)
    folder: Annotated[Path, typer.Argument(help="Scenes that `follow-scenes` drew.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    minutes: Annotated[float, typer.Option(min=0.01)] = FollowConfig().minutes,
    streams: Annotated[int, typer.Option(min=2, max=256)] = FollowConfig().streams,
    held_out: Annotated[
        Path | None, typer.Option(help="Scenes of `follow-scenes --held-out`, to measure on.")
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to begin with: shipped, or a folder.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=0.1)] = FollowConfig().learning_rate,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the network that follows prompted objects; run again to go on.

    Leaves a network to serve in OUTPUT/model.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = FollowConfig(minutes, streams, learning_rate=learning_rate, seed=seed)
    start = None
    if init is not None:
        start = begun_from_served(find_helper("follower", init))
        config = config._replace(keeps_norms=True)
    network = train_follower(
        lambda: balanced(scene_files(folder)), output, config, _say, start=start
    )
    training = {"scenes": len(scene_files(folder)), "init": init, "settings": config._asdict()}
    if held_out is not None:
        measured = measure_following(network, scene_files(held_out))
        training["held_out"] = measured._asdict()
        typer.echo(f"held out: first mask {measured.first_iou:.3f}, followed {measured.iou:.3f}")
    written = export_follower(network, output / "model", output.resolve().name, "1", training)
    typer.echo(f"wrote {written.path}")


def _say(progress: Progress) -> None:
    typer.echo(
        f"step {progress.step} ({progress.share:.0%}): loss {progress.loss:.3f}, first mask "
        f"{progress.first_iou:.3f}, followed {progress.iou:.3f}"
    )
