"""Commands that make silhouettes: a library of shapes, and clips of them moving."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amodal_training.silhouette_dataset import write_silhouettes
from amodal_training.silhouette_shapes import build_library

SETS = Annotated[
    list[Path], typer.Argument(help="Unpacked Iconify packages, or their icons.json files.")
]
OUTPUT = Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")]
LIBRARY = Annotated[Path, typer.Option("--shapes", help="A library that `shapes` wrote (npz).")]
CLIPS = Annotated[int, typer.Option(help="How many clips.")]
FRAMES = Annotated[int, typer.Option(help="Length of each clip.")]
SEED = Annotated[int, typer.Option(help="The same seed gives the same masks.")]


def shapes(
    sets: SETS, output: Annotated[Path, typer.Option("--output", "-o", help="The npz to write.")]
) -> None:
    """Draw icon sets into a library of silhouettes (needs the extra [sim])."""
    library = build_library(sets, output)
    typer.echo(f"{len(library)} shapes: {output}")


def silhouettes(
    output: OUTPUT,
    shapes: LIBRARY,
    clips: CLIPS = 200,
    frames: FRAMES = 48,
    seed: SEED = 0,
) -> None:
    """Write clips of moving silhouettes with visible masks, to train on."""
    write_silhouettes(output, shapes=shapes, clips=clips, frames=frames, seed=seed)
    typer.echo(f"{clips} clips: {output}")
