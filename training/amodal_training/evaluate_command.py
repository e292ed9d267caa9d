"""``amodal evaluate``: the figures of a model next to the baselines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console

import amodal_model
from amodal_model.clip import Mode
from amodal_model.errors import InputError
from amodal_model.source_prompted import PromptedSource
from amodal_model.stream import AmodalSegmenter
from amodal_training.evaluation import Evaluation, EvaluationOptions, evaluate_clips
from amodal_training.evaluation_alone import AloneSet
from amodal_training.evaluation_clip import ClipSet, open_evaluation_set
from amodal_training.evaluation_following import FirstPrompt, following, prompted_source
from amodal_training.evaluation_identity import evaluate_identity, identity_methods
from amodal_training.evaluation_method import segmenter_method
from amodal_training.evaluation_propagation import (
    evaluate_propagation,
    print_propagation,
    propagation_json,
)
from amodal_training.evaluation_report import print_report, report_json, report_on
from amodal_training.identity_report import identity_json, print_identity

_WIDE = 150
ALONE = "alone"

MODE = Annotated[Mode, typer.Option(help="causal, or offline: future frames too.")]
JSON_PATH = Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")]
ALSO = Annotated[list[str] | None, typer.Option(help="NAME=MODEL, one more row; may be repeated.")]
NOISE = Annotated[
    bool, typer.Option("--noise", help="Disturb the visible masks: contours by 2 px, 5 % missing.")
]
NO_BASELINES = Annotated[bool, typer.Option("--no-baselines", help="Only the models.")]


def evaluate(  # noqa: PLR0913  (every option is an argument)
    dataset: Annotated[
        Path, typer.Argument(help="Folder with videos/, visible.json and amodal.json.")
    ],
    model: Annotated[str, typer.Option(help="shipped, small, none, or a folder.")] = "shipped",
    mode: MODE = "causal",
    json_path: JSON_PATH = None,
    also: ALSO = None,
    no_baselines: NO_BASELINES = False,
    flow: Annotated[
        bool, typer.Option(help="Baselines by optical flow too; decodes the videos.")
    ] = True,
    limit_clips: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many clips.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, fp16 or int8; by default what is served.")
    ] = None,
    noise: NOISE = False,
    masks: Annotated[
        str,
        typer.Option(
            help="given; alone: of one object at a time; or followed by --model: first_mask, "
            "first_box of each."
        ),
    ] = "given",
    prompted: Annotated[
        bool,
        typer.Option("--prompted", help="Instead: J and F of objects followed from their boxes."),
    ] = False,
    follower: Annotated[
        str, typer.Option(help="Of --prompted and --masks: shipped, classical, or a folder.")
    ] = "shipped",
    identity: Annotated[
        bool,
        typer.Option("--identity", help="Instead: hold the ids back; how often do they change?"),
    ] = False,
) -> None:
    """Print the figures of a model on a dataset with amodal ground truth, next to the baselines."""
    check_json_path(json_path)
    first = _first_prompt(masks, is_completed=not (model == "none" or identity or prompted))
    if (prompted or identity) and masks == ALONE:
        raise InputError(f"--masks {ALONE} goes with neither --prompted nor --identity")
    if prompted:
        segmenter = None if model == "none" else amodal_model.load(model)
        source = prompted_source(follower)
        _evaluate_prompted(dataset, (source, segmenter), limit_clips, json_path)
        return
    if identity and (mode != "causal" or noise):
        raise InputError("--identity is measured causally and on the masks as they are")
    if model == "none" and no_baselines and not also:
        raise InputError("--model none with --no-baselines leaves nothing to evaluate")
    named = ([] if model == "none" else [(f"{model} ({mode})", model)]) + [
        parse_also(entry, mode) for entry in also or []
    ]
    segmenters = [(name, amodal_model.load(source, precision=precision)) for name, source in named]
    if identity:
        evaluate_ids(dataset, segmenters, limit_clips, json_path)
        return
    methods = [segmenter_method(name, segmenter, mode) for name, segmenter in segmenters]
    follow = (
        None if first is None else following(segmenters[0][1], first, prompted_source(follower))
    )
    options = EvaluationOptions(not no_baselines, flow, limit_clips, True, noise, follow)
    clips: ClipSet = open_evaluation_set(dataset, limit_clips)
    if masks == ALONE:
        clips = AloneSet(clips)
    evaluation = evaluate_clips(clips, methods, options)
    show_evaluation(evaluation, segmenters, mode, json_path)


def _first_prompt(masks: str, *, is_completed: bool) -> FirstPrompt | None:
    """Return the prompts that visible masks are followed from; ``None`` for given ones.

    Raises:
        InputError: no such choice, or no model that completes what is followed.
    """
    if masks in {"given", ALONE}:
        return None
    choices: tuple[FirstPrompt, ...] = get_args(FirstPrompt)
    for first in choices:
        if masks == first and is_completed:
            return first
    if masks in choices:
        raise InputError(f"--masks {masks} needs a --model, and measures what it completes")
    raise InputError(f"--masks {masks!r} is not one of given, {ALONE}, {', '.join(choices)}")


def _evaluate_prompted(
    dataset: Path,
    with_what: tuple[PromptedSource, AmodalSegmenter | None],
    limit_clips: int | None,
    target: Path | None,
) -> None:
    found = evaluate_propagation(dataset, *with_what, limit_clips=limit_clips, progress=True)
    print_propagation(Console(), found)
    if target is not None:
        write_json(target, propagation_json(found))


def show_evaluation(
    evaluation: Evaluation,
    segmenters: Sequence[tuple[str, AmodalSegmenter]],
    mode: Mode,
    json_path: Path | None,
) -> None:
    """Print the tables of an evaluation, and write its JSON where that is wanted."""
    reports = report_on(evaluation)
    console = Console()
    for name, segmenter in segmenters:
        info = segmenter.engine.info
        console.print(
            f"{name}: {info.model_name} {info.model_version}, {info.precision}, {info.actual}"
        )
    print_report(console if console.is_terminal else Console(width=_WIDE), evaluation, reports)
    if json_path is not None:
        write_json(json_path, {"mode": mode, **report_json(evaluation, reports)})


def evaluate_ids(
    dataset: Path,
    segmenters: Sequence[tuple[str, AmodalSegmenter]],
    limit_clips: int | None,
    json_path: Path | None,
) -> None:
    """Print how ids are kept with the amodal state of some models, and without."""
    named = [(f"with {name}", segmenter) for name, segmenter in segmenters]
    evaluation = evaluate_identity(dataset, identity_methods(named), limit_clips)
    print_identity(Console(), evaluation)
    if json_path is not None:
        write_json(json_path, identity_json(evaluation))


def check_json_path(path: Path | None) -> None:
    """Refuse a file that could not be written after all the work.

    Raises:
        InputError: it is a folder, or in none that exists.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise InputError(f"--json {path}: must be a file in a folder that exists")


def parse_also(entry: str, mode: Mode) -> tuple[str, str]:
    """Return the row name and the model of one ``NAME=MODEL``.

    Raises:
        InputError: it is not of that form.
    """
    name, equals, source = entry.partition("=")
    if not (name and equals and source):
        raise InputError(f"--also must be NAME=MODEL, got {entry!r}")
    return f"{name} ({mode})", source


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
