"""What the project set out to reach, and how far the recorded results got."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.errors import DatasetError
from amodal_training.intervals import Interval
from amodal_training.results_figures import (
    Records,
    best_baseline,
    dataset_names,
    lead_over_baseline,
    run_difference,
    run_ratio,
    variant_difference,
    variant_level,
)

SHIPPED = "shipped"
Measure = Callable[[Records, str], Interval | None]
"""From records and the name of a dataset; ``None`` where it is not recorded."""


class Goal(NamedTuple):
    """One figure to be reached.

    Attributes:
        key: its name in ``elsewhere.toml``.
        figure: what it is, Markdown.
        required: the least that is asked for; the most, of a cost.
        aim: what is hoped for.
        measure: from the records; ``None`` where another command measures it.
        is_cost: lower is better.
        needs_proof: the interval must be above 0, too.
    """

    key: str
    figure: str
    required: float
    aim: float
    measure: Measure | None
    is_cost: bool = False
    needs_proof: bool = False


class Reached(NamedTuple):
    """A goal on one dataset: what was measured, if anything was, and by what."""

    goal: Goal
    dataset: str
    measured: Interval | None
    how: str = ""

    @property
    def verdict(self) -> str:
        """Whether it is reached: ``aim``, ``yes``, ``no``, or ``not recorded``."""
        if self.measured is None or math.isnan(self.measured.mean):
            return "not recorded"
        sign = -1 if self.goal.is_cost else 1
        mean = sign * self.measured.mean
        is_proven = not self.goal.needs_proof or self.measured.low > 0
        if not is_proven or mean < sign * self.goal.required:
            return "no"
        return "aim" if mean >= sign * self.goal.aim else "yes"


def _lead(records: Records, dataset: str) -> Interval | None:
    record = _shipped(records, dataset)
    baseline = None if record is None else best_baseline(record)
    if record is None or baseline is None:
        return None
    return lead_over_baseline(record, baseline, "miou_occ")


def _over_coasting(records: Records, dataset: str) -> Interval | None:
    record = _shipped(records, dataset)
    if record is None or "coasting" not in record.baselines:
        return None
    return lead_over_baseline(record, "coasting", "permanence")


def _shipped(records: Records, dataset: str) -> Any:
    record = records.get((SHIPPED, "causal"))
    return None if record is None else record.datasets.get(dataset)


def _causal(figure: str) -> Measure:
    return lambda records, dataset: variant_level(records, SHIPPED, "causal", dataset, figure)


def _between(ours: str, theirs: str) -> Measure:
    return lambda records, dataset: variant_difference(
        records, SHIPPED, ours, theirs, dataset, "miou_occ"
    )


def _memory_pays(figure: str) -> Measure:
    return lambda records, dataset: run_difference(records, "memory", "no_memory", dataset, figure)


def _of_bound(records: Records, dataset: str) -> Interval | None:
    return run_ratio(records, "memory", "supervised", dataset, "miou_occ")


GOALS = (
    Goal("lead", "`miou_occ` over the best causal heuristic", 0.10, 0.18, _lead),
    Goal("miou_full", "`miou_full`, causal", 0.94, 0.97, _causal("miou_full")),
    Goal("bound", "self-supervised / same net supervised, `miou_occ`", 0.97, 1.0, _of_bound),
    Goal(
        "seen_05_50",
        "memory minus no memory, seen before, 5-50 % hidden",
        0.10,
        0.15,
        _memory_pays("seen_05_50"),
        needs_proof=True,
    ),
    Goal(
        "seen_50_100",
        "memory minus no memory, seen before, over 50 % hidden",
        0.08,
        0.15,
        _memory_pays("seen_50_100"),
        needs_proof=True,
    ),
    Goal("permanence", "`permanence`", 0.50, 0.75, _causal("permanence")),
    Goal("coasting", "`permanence` over coasting", 0.10, 0.10, _over_coasting),
    Goal("growth", "`false_growth`", 0.02, 0.005, _causal("false_growth"), is_cost=True),
    Goal("offline", "offline minus causal, `miou_occ`", 0.03, 0.06, _between("offline", "causal")),
    Goal(
        "noise",
        "cost of noisy masks, `miou_occ`",
        0.05,
        0.02,
        _between("causal", "noise"),
        is_cost=True,
    ),
    Goal("adaptation", "adaptation, 15 minutes on two cores, `miou_occ`", 0.03, 0.08, None),
    Goal("object_step", "object-step, base int8, one core, CPU-ms", 0.8, 0.5, None, is_cost=True),
)


def reached_goals(records: Records, elsewhere: Mapping[str, Reached]) -> list[Reached]:
    """Return every goal on every dataset; those of other commands once."""
    rows = []
    for goal in GOALS:
        if goal.measure is None:
            rows.append(elsewhere.get(goal.key, Reached(goal, "", None)))
            continue
        for dataset in dataset_names(records):
            rows.append(Reached(goal, dataset, goal.measure(records, dataset)))
    return rows


def read_elsewhere(path: Path) -> dict[str, Reached]:
    """Return goals that other commands measured, from a TOML file; none if there is no file.

    A table a goal, ``value``, ``how`` and, where there is an interval, ``low`` and ``high``.

    Raises:
        DatasetError: not such a file.
    """
    if not path.exists():
        return {}
    goals = {goal.key: goal for goal in GOALS if goal.measure is None}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        found = {}
        for key, table in content.items():
            low, high = (float(table.get(name, math.nan)) for name in ("low", "high"))
            interval = Interval(float(table["value"]), low, high, 0)
            found[key] = Reached(goals[key], str(table.get("dataset", "")), interval, table["how"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: not figures of {', '.join(goals)}: {error!r}") from None
    return found
