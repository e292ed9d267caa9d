"""Recorded results: per-track figures of one method on the benchmarks, as small JSON files.

Per-track means, not only means over the set, so that two records can be compared track by track
with intervals that resample source sequences.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from amodal_model.errors import DatasetError
from amodal_training.baselines import BASELINES
from amodal_training.evaluation import Evaluation, Row
from amodal_training.evaluation_report import Calibration, calibration_of
from amodal_training.metrics import FIGURES

FORMAT = 1
RECORDED = (
    "miou_full",
    "miou_occ",
    "seen_05_50",
    "seen_50_100",
    "permanence",
    "false_growth",
    "jitter",
)
"""Figures of a method that are kept, of `metrics.FIGURES`."""
OF_BASELINES = ("miou_occ", "miou_full", "permanence")
MAX_JSON_BYTES = 16 << 20

TrackFigures = Mapping[str, Float[np.ndarray, " T"]]
"""By figure one value a track, NaN where the track has no pair that counts."""


@dataclass(frozen=True, eq=False)
class DatasetRecord:
    """One method on one dataset of T tracks.

    Attributes:
        clips: how many videos were evaluated.
        sources: the source sequence of each track, in the order of evaluation.
        figures: of the method.
        calibration: of its confidence.
        baselines: figures of the baselines by name; empty where they were not run.
    """

    clips: int
    sources: tuple[str, ...]
    figures: TrackFigures
    calibration: Calibration
    baselines: Mapping[str, TrackFigures]


@dataclass(frozen=True, eq=False)
class Record:
    """What one JSON file holds.

    Attributes:
        name: of the run, or ``shipped``.
        variant: the seed of a run; of the shipped model ``causal``, ``offline``, ``noise``, or
            the prompts that its visible masks were followed from.
        settings: how it was made, for the reader.
        datasets: by name.
    """

    name: str
    variant: str
    settings: Mapping[str, Any]
    datasets: Mapping[str, DatasetRecord]


def dataset_record(evaluation: Evaluation, method: str) -> DatasetRecord:
    """Return the record of one method of an evaluation, with the baselines that were run."""
    rows = {row.name: row for row in evaluation.rows}
    row = rows[method]
    baselines = {n: _figures(r, OF_BASELINES) for n, r in rows.items() if r.is_baseline}
    return DatasetRecord(
        evaluation.clips,
        row.pairs.sources,
        _figures(row, RECORDED),
        calibration_of(row.pairs),
        baselines,
    )


def _figures(row: Row, names: Iterable[str]) -> dict[str, np.ndarray]:
    return {name: FIGURES[name](row.pairs) for name in names}


def record_path(folder: Path, name: str, variant: str) -> Path:
    """Return the file of a record."""
    return folder / f"{name}-{variant}.json"


def write_record(folder: Path, record: Record) -> Path:
    """Write a record, whole or not at all, and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = record_path(folder, record.name, record.variant)
    content = {
        "format": FORMAT,
        "name": record.name,
        "variant": record.variant,
        "settings": dict(record.settings),
        "datasets": {name: _dataset_json(one) for name, one in record.datasets.items()},
    }
    text = json.dumps(content, indent=1)
    # a list of numbers is one line: a record is read in diffs, too
    text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)
    return path


def _dataset_json(record: DatasetRecord) -> dict[str, Any]:
    return {
        "clips": record.clips,
        "sources": list(record.sources),
        "figures": _figures_json(record.figures, 4),
        "calibration": _figures_json(
            {name: np.array([value]) for name, value in record.calibration._asdict().items()}, 4
        ),
        "baselines": {name: _figures_json(one, 3) for name, one in record.baselines.items()},
    }


def _figures_json(figures: TrackFigures, digits: int) -> dict[str, list[float | None]]:
    return {
        name: [None if np.isnan(value) else round(float(value), digits) for value in values]
        for name, values in figures.items()
    }


def read_records(folder: Path) -> dict[tuple[str, str], Record]:
    """Return all records of a folder by (name, variant).

    Raises:
        DatasetError: a file there is no record.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        found[record.name, record.variant] = record
    return found


def read_record(path: Path) -> Record:
    """Return the record of a file.

    Raises:
        DatasetError: it is not a record of this version, or its lists do not fit.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise DatasetError(f"{path}: {path.stat().st_size} bytes, limit {MAX_JSON_BYTES}")
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise DatasetError(f"{path}: format {content['format']!r}, must be {FORMAT}")
        datasets = {name: _dataset(one) for name, one in content["datasets"].items()}
        return Record(content["name"], str(content["variant"]), content["settings"], datasets)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not a record of results: {error!r}") from None


def _dataset(content: Mapping[str, Any]) -> DatasetRecord:
    sources = tuple(map(str, content["sources"]))
    calibration = _figures_of(content["calibration"], 1)
    baselines = content["baselines"]
    unknown = sorted(set(baselines) - set(BASELINES))
    if unknown:
        raise KeyError(f"baseline {unknown[0]}")
    return DatasetRecord(
        int(content["clips"]),
        sources,
        _figures_of(content["figures"], len(sources)),
        Calibration(**{name: float(values[0]) for name, values in calibration.items()}),
        {name: _figures_of(one, len(sources)) for name, one in baselines.items()},
    )


def _figures_of(content: Mapping[str, Any], tracks: int) -> dict[str, np.ndarray]:
    figures = {
        name: np.array([np.nan if value is None else value for value in values], float)
        for name, values in content.items()
    }
    for name, values in figures.items():
        if values.shape != (tracks,):
            raise TypeError(f"{name} has {values.shape} values, {tracks} tracks")
    return figures
