"""``amodal veil-train``: teach the judge of what hides objects without having a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from amodal_model.errors import InputError
from amodal_model.veil_export import export_judge
from amodal_training.batches import MixedSource, SilhouetteSource
from amodal_training.sequences import DatasetSource, SequenceSource
from amodal_training.silhouette_shapes import read_library
from amodal_training.veil_trainer import Round, VeilConfig, train_judge


def veil_train(  # noqa: PLR0913  (every option is an argument)
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    datasets: Annotated[
        list[Path] | None, typer.Argument(help="Folders with visible.json; no labels.")
    ] = None,
    shapes: Annotated[
        Path | None, typer.Option(help="A library that `shapes` wrote (npz): half of the draws.")
    ] = None,
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

    Leaves a network to serve in OUTPUT/model.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = VeilConfig(rounds=rounds, sequences=sequences, steps=steps, seed=seed)
    folders = datasets or []
    if not folders and shapes is None:
        raise InputError("nothing to draw from: give a folder with visible.json, or --shapes")
    sources: list[SequenceSource] = [DatasetSource(each / "visible.json") for each in folders]
    shares = [1.0] * len(sources)
    if shapes is not None:
        sources.append(SilhouetteSource(read_library(shapes)))
        shares.append(float(max(len(folders), 1)))
    network = train_judge(MixedSource(sources, shares), output, config, _say)
    training = {
        "datasets": [each.resolve().name for each in folders],
        "shapes": None if shapes is None else shapes.name,
        "settings": config._asdict(),
    }
    written = export_judge(network, output / "model", output.resolve().name, "1", training)
    typer.echo(f"wrote {written.path}")


def _say(done: Round) -> None:
    typer.echo(
        f"round {done.number}: {done.examples} examples, loss {done.loss:.3f}, precision "
        f"{done.precision:.2f}, recall {done.recall:.2f}"
    )
