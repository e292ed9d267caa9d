"""Figures of recorded results: levels and paired differences, with intervals over sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from amodal_model.errors import DatasetError
from amodal_training.baselines import BASELINES
from amodal_training.intervals import Interval, mean_over_tracks, paired_difference
from amodal_training.results_records import DatasetRecord, Record

Records = Mapping[tuple[str, str], Record]
"""By (name, variant)."""


def dataset_names(records: Records) -> list[str]:
    """Return the names of all datasets that something was measured on."""
    return sorted({name for record in records.values() for name in record.datasets})


def variants_of(records: Records, name: str, dataset: str) -> list[str]:
    """Return the variants (seeds) of a name that were measured on a dataset."""
    found = [v for (n, v), record in records.items() if n == name and dataset in record.datasets]
    return sorted(found)


def common_variants(records: Records, ours: str, theirs: str, dataset: str) -> list[str]:
    """Return the seeds that two runs share."""
    other = set(variants_of(records, theirs, dataset))
    return [variant for variant in variants_of(records, ours, dataset) if variant in other]


def mean_tracks(
    records: Records, name: str, variants: Sequence[str], dataset: str, figure: str
) -> Float[np.ndarray, " T"]:
    """Return a figure of each track, a mean over variants (at least one)."""
    rows = [records[name, variant].datasets[dataset].figures[figure] for variant in variants]
    return np.asarray(np.mean(rows, axis=0))


def level(records: Records, name: str, dataset: str, figure: str) -> Interval | None:
    """Return a figure of a run, a mean over its seeds; ``None`` where it is not recorded."""
    variants = variants_of(records, name, dataset)
    if not variants:
        return None
    sources = sources_of(records, [(name, variant) for variant in variants], dataset)
    return mean_over_tracks(mean_tracks(records, name, variants, dataset, figure), sources)


def variant_level(
    records: Records, name: str, variant: str, dataset: str, figure: str
) -> Interval | None:
    """Return a figure of one variant; ``None`` where it is not recorded."""
    record = records.get((name, variant))
    if record is None or dataset not in record.datasets:
        return None
    one = record.datasets[dataset]
    return mean_over_tracks(one.figures[figure], one.sources)


def run_difference(
    records: Records, ours: str, theirs: str, dataset: str, figure: str
) -> Interval | None:
    """Return ours less theirs, paired by track, a mean over the seeds that both have.

    Raises:
        DatasetError: the two were measured on other tracks.
    """
    variants = common_variants(records, ours, theirs, dataset)
    if not variants:
        return None
    keys = [(name, variant) for name in (ours, theirs) for variant in variants]
    sources = sources_of(records, keys, dataset)
    first, second = (
        mean_tracks(records, name, variants, dataset, figure) for name in (ours, theirs)
    )
    return paired_difference(first, second, sources)


def run_ratio(
    records: Records, ours: str, theirs: str, dataset: str, figure: str
) -> Interval | None:
    """Return the ratio of the means, ours over theirs, over the seeds that both have.

    Its interval is that of the paired difference over the mean of theirs, plus 1.
    """
    difference = run_difference(records, ours, theirs, dataset, figure)
    if difference is None:
        return None
    variants = common_variants(records, ours, theirs, dataset)
    below = float(np.nanmean(mean_tracks(records, theirs, variants, dataset, figure)))
    if below <= 0:
        return None
    mean, low, high = (1 + value / below for value in difference[:3])
    return Interval(mean, low, high, difference.tracks)


def variant_difference(
    records: Records, name: str, ours: str, theirs: str, dataset: str, figure: str
) -> Interval | None:
    """Return the difference of two variants of one name, paired by track.

    Raises:
        DatasetError: the two were measured on other tracks.
    """
    keys = [(name, ours), (name, theirs)]
    if any(key not in records or dataset not in records[key].datasets for key in keys):
        return None
    sources = sources_of(records, keys, dataset)
    first, second = (records[key].datasets[dataset].figures[figure] for key in keys)
    return paired_difference(first, second, sources)


def sources_of(records: Records, keys: Sequence[tuple[str, str]], dataset: str) -> tuple[str, ...]:
    """Return the sources of the tracks of a dataset, the same for all records named.

    Raises:
        DatasetError: they differ.
    """
    found = {records[key].datasets[dataset].sources for key in keys}
    if len(found) != 1:
        names = ", ".join(sorted("-".join(key) for key in keys))
        raise DatasetError(f"{names} were measured on different tracks of {dataset}; record anew")
    return found.pop()


def best_baseline(record: DatasetRecord, *, sees_future: bool = False) -> str | None:
    """Return the baseline of the highest ``miou_occ`` that reads no truth.

    Args:
        record: with baselines, or without: then there is none.
        sees_future: whether baselines that see the future compete.
    """
    means = {
        name: float(np.nanmean(figures["miou_occ"]))
        for name, figures in record.baselines.items()
        if not BASELINES[name].reads_truth and (sees_future or not BASELINES[name].sees_future)
    }
    return max(means, key=lambda name: means[name], default=None)


def lead_over_baseline(record: DatasetRecord, baseline: str, figure: str) -> Interval:
    """Return a figure less that of a baseline of the same record, paired by track."""
    theirs = record.baselines[baseline][figure]
    return paired_difference(record.figures[figure], theirs, record.sources)
