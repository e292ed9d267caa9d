"""``amodal veil-train``: teach the judge of what hides objects without having a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from amodal_model.errors import InputError
from amodal_model.model_files import find_helper
from amodal_model.veil_export import export_judge
from amodal_training.batches import MixedSource, SilhouetteSource
from amodal_training.follow_scenes import scene_files
from amodal_training.sequences import DatasetSource, SequenceSource
from amodal_training.silhouette_shapes import read_library
from amodal_training.veil_trainer import (
    Round,
    SequenceDraw,
    VeilConfig,
    drawn_over,
    from_scenes,
    train_judge,
)


def veil_train(  # noqa: PLR0913  (every option is an argument)
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    datasets: Annotated[
        list[Path] | None, typer.Argument(help="Folders with visible.json; no labels.")
    ] = None,
    shapes: Annotated[
        Path | None, typer.Option(help="A library that `shapes` wrote (npz): half of the draws.")
    ] = None,
    scenes: Annotated[
        Path | None, typer.Option(help="Of `follow-scenes --veils`: learn from pictures instead.")
    ] = None,
    beside: Annotated[
        str, typer.Option(help="Of --scenes: the judge whose network for masks alone is kept.")
    ] = "shipped",
    rounds: Annotated[int, typer.Option(min=1, max=1000)] = VeilConfig().rounds,
    sequences: Annotated[
        int, typer.Option(min=16, max=100_000, help="Followed in a round.")
    ] = VeilConfig().sequences,
    steps: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Of learning in a round.")
    ] = VeilConfig().steps,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the judge of veils on drawn occluders that have no mask; run again to go on.

    A judge has a network that knows masks alone, and with --scenes one that sees pictures beside
    it. Leaves a judge to serve in OUTPUT/model.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = VeilConfig(rounds=rounds, sequences=sequences, steps=steps, seed=seed)
    folders = datasets or []
    if scenes is not None:
        if folders or shapes is not None:
            raise InputError("--scenes is learned from alone: no datasets and no --shapes with it")
        source, masks = from_scenes(scenes), find_helper("veils", beside)
    else:
        source, masks = _masks_source(folders, shapes, config), None
    network = train_judge(source, output, config, _say)
    training = {
        "datasets": [each.resolve().name for each in folders],
        "shapes": None if shapes is None else shapes.name,
        "scenes": None if scenes is None else len(scene_files(scenes)),
        "settings": config._asdict(),
    }
    name = output.resolve().name
    written = export_judge(network, output / "model", (name, "1"), training, masks)
    typer.echo(f"wrote {written.path}")


def _masks_source(folders: list[Path], shapes: Path | None, config: VeilConfig) -> SequenceDraw:
    """Return sequences of masks, half of them of drawn shapes.

    Raises:
        InputError: neither is given.
    """
    if not folders and shapes is None:
        raise InputError(
            "nothing to draw from: give a folder with visible.json, or --shapes, or --scenes"
        )
    sources: list[SequenceSource] = [DatasetSource(each / "visible.json") for each in folders]
    shares = [1.0] * len(sources)
    if shapes is not None:
        sources.append(SilhouetteSource(read_library(shapes)))
        shares.append(float(max(len(folders), 1)))
    return drawn_over(MixedSource(sources, shares), config)


def _say(done: Round) -> None:
    typer.echo(
        f"round {done.number}: {done.examples} examples, loss {done.loss:.3f}, precision "
        f"{done.precision:.2f}, recall {done.recall:.2f}"
    )
