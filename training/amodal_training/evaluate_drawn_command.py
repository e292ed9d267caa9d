"""``amodal evaluate-drawn``: the figures of a model on video that nobody has labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import amodal_model
from amodal_training.evaluate_command import (
    ALSO,
    JSON_PATH,
    MODE,
    NO_BASELINES,
    NOISE,
    check_json_path,
    parse_also,
    show_evaluation,
)
from amodal_training.evaluation import EvaluationOptions, evaluate_clips
from amodal_training.evaluation_clip import ClipSet
from amodal_training.evaluation_drawn import DrawnConfig, open_drawn_set
from amodal_training.evaluation_method import segmenter_method
from amodal_training.evaluation_scenes import open_scene_set


def evaluate_drawn(  # noqa: PLR0913  (every option is an argument)
    dataset: Annotated[
        Path, typer.Argument(help="Folder with visible.json, or scenes with pictures.")
    ],
    model: Annotated[str, typer.Option(help="shipped, small, or a folder.")] = "shipped",
    mode: MODE = "causal",
    json_path: JSON_PATH = None,
    also: ALSO = None,
    sequences: Annotated[int, typer.Option(help="How many are drawn.")] = 72,
    frames: Annotated[int, typer.Option(help="Length of each.")] = 36,
    seed: Annotated[int, typer.Option(help="The same seed draws the same occlusions.")] = 0,
    full_share: Annotated[
        float, typer.Option(help="Share of the occluders in front that hide all for some frames.")
    ] = DrawnConfig().full_share,
    carried_share: Annotated[
        float, typer.Option(help="Share of those hidden entirely that come out elsewhere.")
    ] = DrawnConfig().carried_share,
    unseen_share: Annotated[
        float, typer.Option(help="Share of the occluders in front that have no mask.")
    ] = DrawnConfig().unseen_share,
    judge: Annotated[
        str, typer.Option(help="Of what has no mask: shipped, none, or a folder of veil-train.")
    ] = "shipped",
    noise: NOISE = False,
    no_baselines: NO_BASELINES = False,
) -> None:
    """Print the figures of a model where occlusions are drawn over the visible masks of a dataset.

    What is drawn over is known, so no label is read: what a model is worth on your own video. Of a
    model that was trained on the same dataset the figures say less. Scenes with pictures are those
    of `follow-scenes --veils`; of the options only --unseen-share and --seed change them.
    """
    check_json_path(json_path)
    config = DrawnConfig(sequences, frames, seed, full_share, carried_share, unseen_share)
    drawn: ClipSet = (
        open_scene_set(dataset, unseen_share, seed)
        if any(dataset.glob("*.npz"))
        else open_drawn_set(dataset, config)
    )
    named = [(f"{model} ({mode})", model)] + [parse_also(entry, mode) for entry in also or []]
    chosen = None if judge == "none" else judge
    segmenters = [(name, amodal_model.load(source, judge=chosen)) for name, source in named]
    methods = [segmenter_method(name, segmenter, mode) for name, segmenter in segmenters]
    options = EvaluationOptions(not no_baselines, flow=False, progress=True, noise=noise)
    show_evaluation(evaluate_clips(drawn, methods, options), segmenters, mode, json_path)
