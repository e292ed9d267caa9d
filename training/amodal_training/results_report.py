"""docs/results.md: the recorded results as Markdown tables."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from amodal_training.baselines import BASELINES
from amodal_training.intervals import Interval, mean_over_tracks
from amodal_training.results_figures import (
    Records,
    best_baseline,
    common_variants,
    dataset_names,
    level,
    mean_tracks,
    run_difference,
    variants_of,
)
from amodal_training.results_reach import SHIPPED, Reached, reached_goals
from amodal_training.results_records import DatasetRecord
from amodal_training.results_runs import BUDGET, RUNS

CASES = ("best", "median", "worst")
COMPARED = ("miou_occ", "seen_05_50", "seen_50_100", "permanence")
SHOWN = ("miou_occ", "miou_full", "permanence", "false_growth")

_INTRO = """# Results

Written by `make results` from the records in `docs/results/`; do not edit. Figures are those of
`amodal evaluate`: means over tracks, [95 % interval] by a bootstrap over source sequences;
differences are paired by track. Visible masks are given, but for the rows that say otherwise. Rows
of the first table on memory and on supervision are of the runs below, the others of the shipped
model.
"""
_RUNS = """All runs have one budget: {steps} steps of {sequences} sequences x {frames} frames,
about five minutes of one core; one set of clips (20 rendered tabletop scenes, and moving
silhouettes), the same draws and the same tuning. They are there to be compared: far from trained
out, and not the shipped weights. A network without memory starts from nothing, one with memory from
what it remembers: longer training may narrow their difference. Of the benchmarks, tabletop is made
by the same generator (from other seeds), davis-composite is not.
"""
_RGB = """With and without RGB is no row: the network takes masks alone. Images are seen by what
judges whether something without a mask hides an object (docs/decisions/0018-pictures.md).
"""
_SAID = """Of tabletop, by `miou_occ` of a track, causal; green: the truth, magenta: predicted,
tinted: visible. The renderings show HOPE groceries (CC BY-SA 4.0), Google scanned objects (CC BY
4.0) and parts of robosuite and LIBERO (MIT). Frames of davis-composite may not be passed on.
"""
_REPRODUCE = """## To reproduce

`make results` writes this page from the records. With `DATASETS="davis-composite tabletop"`
(folders that `amodal benchmark` wrote) it evaluates the shipped model where its records are
missing. `make results-train DATASETS=... LABELED=tabletop-labelled SHAPES=library.npz` trains and
evaluates the runs without a record, and goes on where it stopped; `amodal benchmark tabletop
--seeds 200-219` makes the first, `amodal shapes` the second. Whoever deletes a record has it made
anew.
"""


_FOLLOWED = """Masks from the first mask, or box: of each object the first true visible mask, or
its box, is the only prompt; from there on it is followed as `amodal annotate --prompts` does it,
without a correction (`amodal evaluate DATASET --masks first_mask`, `first_box`). What is measured
stays as with given masks; P is united with the mask that was found.
"""
_ALONE = """One object's masks alone: whatever hides it has no mask, as where one object is named
and a hand passes before it (`--masks alone`); the images are there.
"""
_OTHER_MASKS = {
    "noise": "disturbed masks",
    "alone": "one object's masks alone",
    "first_mask": "masks from the first mask",
    "first_box": "masks from the first box",
}
"""What the visible masks of a variant are, where they are not the true ones."""


def write_report(
    output: Path, records: Records, elsewhere: Mapping[str, Reached], notes: str, images: Path
) -> None:
    """Write the page.

    Args:
        output: the Markdown file.
        records: of all runs and of the shipped model.
        elsewhere: goals that other commands measured.
        notes: what a person has to add: failures, as Markdown.
        images: folder of the pictures; those that are not there are not shown.
    """
    rows = reached_goals(records, elsewhere)
    runs = _RUNS.format(
        **{name: getattr(BUDGET, name) for name in ("steps", "sequences", "frames")}
    )
    parts = [
        _INTRO,
        "## Reach\n",
        reach_table(rows),
        "## Runs\n",
        runs,
        seed_table(records),
        "## Ablations\n",
        *(ablation_table(records, dataset) for dataset in dataset_names(records)),
        _RGB,
        "## The shipped model\n",
        *(shipped_table(records, dataset) for dataset in dataset_names(records)),
        _FOLLOWED if {(SHIPPED, "first_mask"), (SHIPPED, "first_box")} & set(records) else "",
        _ALONE if (SHIPPED, "alone") in records else "",
        "## Best, median and worst\n",
        pictures(images, output.parent),
        "## What fails\n",
        failures(rows),
        notes.strip() + "\n" if notes.strip() else "",
        _REPRODUCE,
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(part for part in parts if part)
    partial = output.with_name(f".{output.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(output)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a cell with a bar in it would break it, so none may have one."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value: float, *, signed: bool = False) -> str:
    """Return a figure with three digits, ``-`` where there is none.

    >>> number(0.5), number(-0.25, signed=True), number(float("nan"))
    ('0.500', '-0.250', '-')
    """
    return "-" if math.isnan(value) else f"{value:{'+' if signed else ''}.3f}"


def with_interval(interval: Interval | None, *, signed: bool = False) -> str:
    """Return a mean with its interval.

    >>> with_interval(Interval(0.5, 0.4, 0.6, 3), signed=True)
    '+0.500 [+0.400, +0.600]'
    """
    if interval is None:
        return "-"
    mean, low, high = (number(value, signed=signed) for value in interval[:3])
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


def reach_table(rows: Sequence[Reached]) -> str:
    """Return the goals with what was measured."""
    words = {"aim": "yes, the aim", "yes": "yes", "no": "**no**", "not recorded": "not recorded"}
    header = ("figure", "benchmark", "required", "aim", "measured", "reached")
    cells = []
    for row in rows:
        most = "at most " if row.goal.is_cost else ""
        limits = (f"{most}{row.goal.required:g}", f"{row.goal.aim:g}")
        measured = with_interval(row.measured) + (f" ({row.how})" if row.how else "")
        cells.append((row.goal.figure, row.dataset or "-", *limits, measured, words[row.verdict]))
    return table(header, cells)


def seed_table(records: Records) -> str:
    """Return the paired differences of the runs with several seeds."""
    rows = []
    for theirs in ("no_memory", "supervised"):
        for dataset in dataset_names(records):
            seeds = common_variants(records, "memory", theirs, dataset)
            for figure in COMPARED if seeds else ():
                difference = run_difference(records, "memory", theirs, dataset, figure)
                each = [_seed_difference(records, theirs, seed, dataset, figure) for seed in seeds]
                rows.append(
                    (
                        f"memory - {theirs}",
                        dataset,
                        f"`{figure}`",
                        with_interval(difference, signed=True),
                        " ".join(number(value, signed=True) for value in each),
                    )
                )
    return table(("difference", "benchmark", "figure", "mean of the seeds", "each seed"), rows)


def _seed_difference(records: Records, theirs: str, seed: str, dataset: str, figure: str) -> float:
    ours, other = (
        mean_tracks(records, name, [seed], dataset, figure) for name in ("memory", theirs)
    )
    values = ours - other
    return float(np.nanmean(values)) if not np.isnan(values).all() else math.nan


def ablation_table(records: Records, dataset: str) -> str:
    """Return every run on one dataset, and what it loses or gains against ``memory``."""
    rows = []
    for run in RUNS:
        seeds = variants_of(records, run.name, dataset)
        found = [level(records, run.name, dataset, figure) for figure in COMPARED]
        growth = level(records, run.name, dataset, "false_growth")
        lead = run_difference(records, run.name, "memory", dataset, "miou_occ")
        against = "" if run.name == "memory" else with_interval(lead, signed=True)
        means = ["-" if one is None else number(one.mean) for one in (*found, growth)]
        rows.append((f"`{run.name}`", run.about, str(len(seeds)), means[0], against, *means[1:]))
    header = (
        *(
            dataset,
            "what differs from `memory`",
            "seeds",
            "`miou_occ`",
            "less `memory`, same seeds",
        ),
        *("seen, 5-50 %", "seen, over 50 %", "permanence", "false growth"),
    )
    return table(header, rows)


def shipped_table(records: Records, dataset: str) -> str:
    """Return the shipped model beside the best heuristics and the oracles on one dataset."""
    rows = []
    for variant in ("causal", "offline", *_OTHER_MASKS):
        record = records.get((SHIPPED, variant))
        one = None if record is None else record.datasets.get(dataset)
        if one is None:
            continue
        means = [with_interval(mean_over_tracks(one.figures[f], one.sources)) for f in SHOWN]
        ece, rank = (number(value) for value in one.calibration)
        how = f"causal, {_OTHER_MASKS[variant]}" if variant in _OTHER_MASKS else variant
        rows.append((f"**amodal, {how}**", *means, f"{ece} / {rank}"))
        rows += _baseline_rows(one, variant)
    header = (dataset, *(f"`{figure}`" for figure in SHOWN), "ECE / rank correlation")
    return table(header, rows)


def _baseline_rows(record: DatasetRecord, variant: str) -> list[tuple[str, ...]]:
    named = {best_baseline(record, sees_future=variant == "offline"), "coasting", "filled_box"}
    oracle = "union_truly_placed_both" if variant == "offline" else "union_truly_placed"
    rows = []
    for name in sorted(({name for name in named if name} | {oracle}) & set(record.baselines)):
        figures = record.baselines[name]
        cells = [
            with_interval(mean_over_tracks(figures[f], record.sources)) if f in figures else "-"
            for f in SHOWN
        ]
        truth = ", reads the truth" if BASELINES[name].reads_truth else ""
        masks = f", {_OTHER_MASKS[variant]}" if variant in _OTHER_MASKS else ""
        rows.append((f"`{name}`{truth}{masks}", *cells, "-"))
    return rows


def pictures(images: Path, folder: Path) -> str:
    """Return the pictures that are there, as links from a page in ``folder``."""
    lines = []
    for case in CASES:
        path = images / f"results-{case}.png"
        if path.exists():
            lines.append(f"![{case} case]({os.path.relpath(path, folder)})")
    if not lines:
        return "Not drawn yet.\n"
    return _SAID + "\n" + "\n\n".join(lines) + "\n"


def failures(rows: Sequence[Reached]) -> str:
    """Return the list of goals that were not reached, or not measured."""
    lines = []
    for row in rows:
        where = f" on {row.dataset}" if row.dataset else ""
        if row.verdict == "no":
            most = "at most " if row.goal.is_cost else ""
            proof = ", interval above 0" if row.goal.needs_proof else ""
            measured = with_interval(row.measured)
            lines.append(
                f"- Not reached{where}: {row.goal.figure}, {measured}, "
                f"required {most}{row.goal.required:g}{proof}."
            )
        elif row.verdict == "not recorded":
            lines.append(f"- Not recorded{where}: {row.goal.figure}.")
    return "\n".join(lines) + "\n" if lines else "Every goal was reached.\n"
