"""``amodal results``: what ``make results`` and ``make results-train`` call."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

import amodal_model
from amodal_model.errors import InputError
from amodal_training.evaluation_method import segmenter_method
from amodal_training.results_jobs import SHIPPED, Places, record_jobs, record_shipped
from amodal_training.results_methods import TrainingData
from amodal_training.results_pictures import draw_cases
from amodal_training.results_reach import read_elsewhere
from amodal_training.results_records import read_records
from amodal_training.results_report import CASES, write_report
from amodal_training.results_runs import Job, list_jobs

ELSEWHERE, NOTES = "elsewhere.toml", "notes.md"
"""Files beside the records: goals that other commands measured, and what a person has to add."""


def results(  # noqa: PLR0913  (every option is an argument)
    dataset: Annotated[
        list[Path] | None, typer.Option(help="Benchmark folder; may be repeated.")
    ] = None,
    train: Annotated[bool, typer.Option("--train", help="Train runs without a record.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="With --train: NAME-SEED; may be repeated.")
    ] = None,
    labeled: Annotated[
        Path | None, typer.Option(help="With --train: dataset with visible.json and amodal.json.")
    ] = None,
    shapes: Annotated[Path | None, typer.Option(help="With --train: shape library.")] = None,
    checkpoints: Annotated[
        Path, typer.Option(help="With --train: where trainings are kept.")
    ] = Path("runs/results"),
    docs: Annotated[Path, typer.Option(help="Where results.md, results/ and images/ are.")] = Path(
        "docs"
    ),
    pictures_of: Annotated[
        str, typer.Option(help="Name of the benchmark whose frames may be shown.")
    ] = "tabletop",
    limit_clips: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many clips of each benchmark.")
    ] = None,
) -> None:
    """Record what is missing, and write the page of results from the records."""
    if not docs.is_dir():
        raise InputError(f"--docs {docs}: no such folder")
    places = Places(docs / "results", dataset or [], checkpoints, limit_clips)
    if train:
        torch.set_num_threads(1)
        record_jobs(choose_jobs(only or []), _training_data(labeled, shapes, places), places, _say)
    if places.benchmarks:
        is_new = record_shipped(places, _say)
        if is_new or len(list((docs / "images").glob("results-*.png"))) < len(CASES):
            _draw(places, docs / "images", pictures_of)
    notes = places.records / NOTES
    write_report(
        docs / "results.md",
        read_records(places.records),
        read_elsewhere(places.records / ELSEWHERE),
        notes.read_text(encoding="utf-8") if notes.exists() else "",
        docs / "images",
    )
    _say(f"wrote {docs / 'results.md'}")


def choose_jobs(names: list[str]) -> list[Job]:
    """Return the jobs of some names, in the order given; all of them without any.

    Raises:
        InputError: a name that no job has.
    """
    jobs = {job.name: job for job in list_jobs()}
    for name in names:
        if name not in jobs:
            raise InputError(f"--only {name}: not one of {', '.join(jobs)}")
    return [jobs[name] for name in names] if names else list(jobs.values())


def _training_data(labeled: Path | None, shapes: Path | None, places: Places) -> TrainingData:
    if labeled is None or shapes is None or not places.benchmarks:
        raise InputError("--train needs --labeled, --shapes and at least one --dataset")
    return TrainingData(labeled, shapes)


def _draw(places: Places, images: Path, name: str) -> None:
    """Draw the cases of the shipped model on one benchmark, if it is among those given.

    Not on any: frames of davis-composite must not be passed on with the project.
    """
    benchmarks = {benchmark.resolve().name: benchmark for benchmark in places.benchmarks}
    if name not in benchmarks:
        _say(f"no pictures: {name} is not among the benchmarks")
        return
    record = read_records(places.records)[SHIPPED, "causal"].datasets[name]
    method = segmenter_method("causal", amodal_model.load(SHIPPED), "causal")
    for path in draw_cases(benchmarks[name], record, method, images):
        _say(f"wrote {path}")


def _say(line: str) -> None:
    typer.echo(line)
