"""The figures of an evaluation: computed once, then as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from amodal_training.baselines import BaselineTraits
from amodal_training.calibration import expected_calibration_error, rank_correlation
from amodal_training.evaluation import Evaluation, Row
from amodal_training.evaluation_order import MIN_OVERLAP_PX, ORDER_FIGURES
from amodal_training.intervals import RESAMPLES, Interval, mean_over_tracks, paired_difference
from amodal_training.metrics import FIGURES, MIN_AREA_PX, OCCLUDED_FROM, Pairs, miou_occ


class Calibration(NamedTuple):
    """How far ``confidence_occluded`` can be believed; NaN where none was stated.

    Attributes:
        error: expected calibration error in 10 bins.
        rank_correlation: Spearman's, with the true IoU of the hidden part.
    """

    error: float
    rank_correlation: float


@dataclass(frozen=True, eq=False)
class Report:
    """The figures of one method.

    Attributes:
        name: of the method.
        traits: what it may look at.
        is_baseline: whether it is one of ours to be beaten.
        figures: every figure of ``metrics.FIGURES``, with its interval.
        calibration: of its confidence.
        differences: miou_occ of this method less that of each other one, paired by track.
    """

    name: str
    traits: BaselineTraits
    is_baseline: bool
    figures: Mapping[str, Interval]
    calibration: Calibration
    differences: Mapping[str, Interval]


def report_on(evaluation: Evaluation) -> list[Report]:
    """Return the figures of every row of an evaluation."""
    occluded = {row.name: miou_occ(row.pairs) for row in evaluation.rows}
    return [
        Report(
            row.name,
            row.traits,
            row.is_baseline,
            {
                name: mean_over_tracks(figure(row.pairs), row.pairs.sources)
                for name, figure in FIGURES.items()
            },
            calibration_of(row.pairs),
            _differences(row, occluded),
        )
        for row in evaluation.rows
    ]


def _differences(row: Row, occluded: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    return {
        other: paired_difference(occluded[row.name], values, row.pairs.sources)
        for other, values in occluded.items()
        if other != row.name
    }


def calibration_of(pairs: Pairs) -> Calibration:
    """Return the calibration of ``confidence_occluded`` over pairs with hidden of at least 5 %."""
    stated = pairs.confidence_occluded
    chosen = (pairs.hidden >= OCCLUDED_FROM) & ~np.isnan(stated)
    confidence, truth = stated[chosen], pairs.column("iou_occ")[chosen]
    return Calibration(
        expected_calibration_error(confidence, truth), rank_correlation(confidence, truth)
    )


def best_heuristic(reports: Sequence[Report], sees_future: bool) -> Report | None:
    """Return the baseline of the highest miou_occ that reads no truth.

    Args:
        reports: of one evaluation.
        sees_future: whether baselines that see the future compete.
    """
    competing = [
        report
        for report in reports
        if report.is_baseline
        and not report.traits.reads_truth
        and (sees_future or not report.traits.sees_future)
        and report.figures["miou_occ"].tracks
    ]
    return max(competing, key=lambda report: report.figures["miou_occ"].mean, default=None)


def report_json(evaluation: Evaluation, reports: Sequence[Report]) -> dict[str, Any]:
    """Return the JSON value of an evaluation; NaN is written as null."""
    pairs = evaluation.rows[0].pairs if evaluation.rows else None
    return {
        "dataset": evaluation.dataset,
        "clips": evaluation.clips,
        "noise": evaluation.noise,
        "followed": evaluation.is_followed,
        "tracks": len(pairs.sources) if pairs else 0,
        "sources": len(set(pairs.sources)) if pairs else 0,
        "pairs": len(pairs.hidden) if pairs else 0,
        "occluded_pairs": int((pairs.hidden >= OCCLUDED_FROM).sum()) if pairs else 0,
        "min_area_px": MIN_AREA_PX,
        "bootstrap_resamples": RESAMPLES,
        "methods": {report.name: _method_json(report) for report in reports},
        "order": {
            name: {figure: _interval_json(value) for figure, value in figures.items()}
            for name, figures in order_figures(evaluation).items()
        },
    }


def order_figures(evaluation: Evaluation) -> dict[str, dict[str, Interval]]:
    """Return the figures of each stated order by name, with their intervals."""
    return {
        name: {
            figure: mean_over_tracks(share(counts), [one.source for one in counts])
            for figure, share in ORDER_FIGURES.items()
        }
        for name, counts in evaluation.orders.items()
    }


def _method_json(report: Report) -> dict[str, Any]:
    return {
        "is_baseline": report.is_baseline,
        **report.traits._asdict(),
        "figures": {name: _interval_json(value) for name, value in report.figures.items()},
        "calibration": {k: _number(v) for k, v in report.calibration._asdict().items()},
        "miou_occ_differences": {k: _interval_json(v) for k, v in report.differences.items()},
    }


def _interval_json(interval: Interval) -> dict[str, float | int | None]:
    return {name: _number(value) for name, value in interval._asdict().items()}


def _number(value: float) -> float | int | None:
    return None if math.isnan(value) else value


_MAIN_COLUMNS = {
    "miou_full": "miou_full",
    "permanence": "permanence",
    "false_growth": "growth",
    "jitter": "jitter",
    "savos_occ": "savos occ",
    "savos_full": "savos full",
}
_BIN_COLUMNS = {
    "occ_05_20": "5-20 %",
    "occ_20_40": "20-40 %",
    "occ_40_60": "40-60 %",
    "occ_60_80": "60-80 %",
    "occ_80_100": "80-100 %",
    "seen_05_50": "seen, 5-50 %",
    "seen_50_100": "seen, 50-100 %",
}


def print_report(console: Console, evaluation: Evaluation, reports: Sequence[Report]) -> None:
    """Print the tables of an evaluation and, for each method, its lead over the heuristics."""
    size = report_json(evaluation, [])
    title = "{dataset}: {clips} clips of {sources} sources, {tracks} tracks, {pairs} pairs".format(
        **size
    )
    title += ", visible masks followed from prompts" if evaluation.is_followed else ""
    title += ", visible masks disturbed" if evaluation.noise else ""
    console.print(_main_table(title, reports))
    console.print(_bin_table(reports))
    if evaluation.orders:
        console.print(_order_table(order_figures(evaluation)))
    for line in comparison_lines(reports):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _main_table(title: str, reports: Sequence[Report]) -> Table:
    caption = "[95 % interval] over source sequences; * sees the future, ° reads the truth"
    table = Table(title=title, caption=caption)
    table.add_column("method", no_wrap=True)
    for column in ["miou_occ", "[95 %]", *_MAIN_COLUMNS.values(), "ECE", "rank"]:
        table.add_column(column, justify="right", no_wrap=True)
    for report in reports:
        occluded = report.figures["miou_occ"]
        interval = escape(f"[{_short(occluded.low)}, {_short(occluded.high)}]")
        means = [_short(report.figures[name].mean) for name in _MAIN_COLUMNS]
        calibration = map(_short, report.calibration)
        table.add_row(_label(report), _short(occluded.mean), interval, *means, *calibration)
    return table


def _bin_table(reports: Sequence[Report]) -> Table:
    table = Table(title="miou_occ by hidden share; 'seen': an earlier frame showed at least 90 %")
    table.add_column("method", no_wrap=True)
    for column in _BIN_COLUMNS.values():
        table.add_column(column, justify="right")
    for report in reports:
        table.add_row(_label(report), *(_short(report.figures[name].mean) for name in _BIN_COLUMNS))
    return table


def _order_table(orders: Mapping[str, Mapping[str, Interval]]) -> Table:
    table = Table(title=f"who is in front: at least {MIN_OVERLAP_PX} hidden pixels under its mask")
    table.add_column("method", no_wrap=True)
    for column in ORDER_FIGURES:
        table.add_column(f"{column} [95 %]", justify="right", no_wrap=True)
    for name, figures in orders.items():
        cells = [
            f"{_short(one.mean)} [{_short(one.low)}, {_short(one.high)}]"
            for one in figures.values()
        ]
        table.add_row(escape(name), *map(escape, cells))
    return table


def _label(report: Report) -> str:
    future = "*" if report.traits.sees_future else ""
    truth = "°" if report.traits.reads_truth else ""
    return escape(f"{report.name}{future}{truth}")


def _short(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def comparison_lines(reports: Sequence[Report]) -> list[str]:
    """Return one line a method: its miou_occ less that of the best heuristic it may compete with.

    A causal method is compared with the best causal heuristic, and, for the record, with the best
    one that sees the future.
    """
    lines = []
    for report in reports:
        if report.is_baseline:
            continue
        sights = [True] if report.traits.sees_future else [False, True]
        found = [best_heuristic(reports, sight) for sight in sights]
        for name in dict.fromkeys(rival.name for rival in found if rival is not None):
            lead = report.differences[name]
            lines.append(
                f"{report.name} - {name} (miou_occ): {lead.mean:+.3f} "
                f"[{lead.low:+.3f}, {lead.high:+.3f}] over {lead.tracks} tracks"
            )
    return lines
