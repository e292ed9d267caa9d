"""The work behind docs/results.md: train and evaluate what is not recorded yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch

import amodal_model
from amodal_model.stream import AmodalSegmenter
from amodal_training.evaluation import EvaluationOptions, evaluate_clips
from amodal_training.evaluation_alone import AloneSet
from amodal_training.evaluation_clip import open_evaluation_set
from amodal_training.evaluation_following import FirstPrompt, following
from amodal_training.evaluation_method import Method, segmenter_method
from amodal_training.results_methods import TrainingData, job_method, run_config, train_job
from amodal_training.results_records import (
    DatasetRecord,
    Record,
    dataset_record,
    read_record,
    record_path,
    write_record,
)
from amodal_training.results_runs import Job
from amodal_training.rollout import Following

SHIPPED = "shipped"
FOLLOWED: tuple[FirstPrompt, ...] = get_args(FirstPrompt)
ALONE = "alone"
VARIANTS = ("causal", "offline", "noise", ALONE, *FOLLOWED)

Say = Callable[[str], None]


class Places(NamedTuple):
    """Folders of the work.

    Attributes:
        records: the JSON files.
        benchmarks: dataset folders with ``visible.json`` and ``amodal.json``.
        checkpoints: a folder for each training, to go on from.
        limit_clips: only the first so many clips of each benchmark.
    """

    records: Path
    benchmarks: Sequence[Path]
    checkpoints: Path
    limit_clips: int | None = None


def record_jobs(jobs: Sequence[Job], data: TrainingData, places: Places, say: Say) -> None:
    """Train, evaluate and record every job that has no record; an interrupted one goes on.

    A record of other settings stays, and is told of: whoever wants it made anew deletes it.

    Raises:
        InputError: a checkpoint there is of other settings.
        DatasetError: data or benchmarks do not hold what they should.
    """
    for job in jobs:
        path = record_path(places.records, job.run.name, str(job.seed))
        if path.exists():
            is_same = read_record(path).settings == _as_json(job_settings(job, data))
            say(f"{job.name}: recorded already" + ("" if is_same else ", with other settings"))
            continue
        say(f"{job.name}: training")
        method = job_method(job, train_job(job, data, places.checkpoints))
        say(f"{job.name}: evaluating")
        options = EvaluationOptions(baselines=False, flow=False, limit_clips=places.limit_clips)
        datasets = {
            name: found[job.name] for name, found in _measure([method], places, options).items()
        }
        record = Record(job.run.name, str(job.seed), job_settings(job, data), datasets)
        say(f"{job.name}: wrote {write_record(places.records, record)}")


def job_settings(job: Job, data: TrainingData) -> dict[str, Any]:
    """Return how a job was trained and evaluated, as its record keeps it."""
    config = run_config(job)
    budget = {
        name: value
        for name, value in config._asdict().items()
        if name in {"steps", "sequences", "frames", "learning_rate", "seed", "precision"}
    }
    return {
        "about": job.run.about,
        "size": job.run.size,
        "uses_memory": job.run.uses_memory,
        "is_labeled": job.run.is_labeled,
        "weights_of": job.run.weights_of,
        "training": budget,
        "paste": job.run.paste._asdict(),
        "following": repr(job.run.following or Following()),
        "data": [data.labeled.resolve().name, "silhouettes of the shape library"],
        "torch": torch.__version__,
    }


def _as_json(settings: Mapping[str, Any]) -> Any:
    """Return settings as a record gives them back: tuples become lists."""
    return json.loads(json.dumps(settings))


def record_shipped(places: Places, say: Say, model: str = SHIPPED) -> bool:
    """Evaluate the shipped model where a record of it is missing.

    Causal, offline, with disturbed masks, with the mask of one object alone, and with masks
    followed from prompts; each is written when it is done.

    A record of another model than the one that is shipped now, or of other datasets, counts as
    missing.

    Returns:
        Whether anything was evaluated.

    Raises:
        DatasetError: a benchmark does not hold what it should.
    """
    segmenter = amodal_model.load(model)
    info = segmenter.engine.info
    settings = {"model": info.model_name, "version": info.model_version, "sha256": info.sha256}
    missing = [v for v in VARIANTS if not _is_recorded(places, v, settings)]
    if not missing:
        return False

    def write(variant: str, datasets: Mapping[str, DatasetRecord]) -> None:
        if variant in missing:
            written = write_record(places.records, Record(SHIPPED, variant, settings, datasets))
            say(f"shipped: wrote {written}")

    if {"causal", "offline"} & set(missing):
        say("shipped: evaluating causal and offline, with the baselines")
        both = [_shipped(segmenter, "causal"), _shipped(segmenter, "offline")]
        options = EvaluationOptions(limit_clips=places.limit_clips)
        measured = _measure(both, places, options)
        for mode in ("causal", "offline"):
            write(mode, {name: methods[mode] for name, methods in measured.items()})
    others = EvaluationOptions(flow=False, limit_clips=places.limit_clips)
    other_masks = {"noise": others._replace(noise=True), ALONE: others}
    for first in FOLLOWED:
        other_masks[first] = others._replace(follow=following(segmenter, first))
    for variant in (v for v in missing if v in other_masks):
        say(f"shipped: evaluating with other masks, {variant}")
        options = other_masks[variant]
        causal = [_shipped(segmenter, "causal")]
        measured = _measure(causal, places, options, is_alone=variant == ALONE)
        write(variant, {name: methods["causal"] for name, methods in measured.items()})
    return True


def _is_recorded(places: Places, variant: str, settings: Mapping[str, Any]) -> bool:
    path = record_path(places.records, SHIPPED, variant)
    if not path.exists():
        return False
    record = read_record(path)
    wanted = {benchmark.resolve().name for benchmark in places.benchmarks}
    return record.settings == settings and wanted <= set(record.datasets)


def _shipped(segmenter: AmodalSegmenter, mode: str) -> Method:
    return segmenter_method(mode, segmenter, "offline" if mode == "offline" else "causal")


def _measure(
    methods: Sequence[Method],
    places: Places,
    options: EvaluationOptions,
    *,
    is_alone: bool = False,
) -> dict[str, dict[str, DatasetRecord]]:
    """Return by dataset and method what is recorded."""
    found = {}
    for benchmark in places.benchmarks:
        clips = open_evaluation_set(benchmark, options.limit_clips)
        evaluation = evaluate_clips(AloneSet(clips) if is_alone else clips, methods, options)
        found[clips.name] = {
            method.name: dataset_record(evaluation, method.name) for method in methods
        }
    return found
