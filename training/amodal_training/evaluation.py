"""Evaluation: every method and every baseline on one dataset, under the same rules for all.

Clips are read, completed and measured one at a time; of each prediction only the numbers of
``metrics`` stay. P contains V for every method, and a missing prediction is V.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import track

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, empty_mask, subtract, union
from amodal_training.baseline_flow import shifts_by_flow
from amodal_training.baselines import (
    BASELINES,
    BaselineTraits,
    ObjectClip,
    complete_by_baselines,
)
from amodal_training.evaluation_clip import ClipSet, EvaluationClip, open_evaluation_set
from amodal_training.evaluation_method import Method, TrackPrediction
from amodal_training.evaluation_noise import disturb
from amodal_training.evaluation_order import (
    LOWER_EDGE,
    OrderCounts,
    count_order,
    order_of_lower_edges,
    true_fronts,
)
from amodal_training.metrics import (
    MIN_AREA_PX,
    SEEN_FROM,
    PairMeasures,
    Pairs,
    hidden_share,
    measure_pair,
    pair_jitter,
)


class EvaluationOptions(NamedTuple):
    """What to run beside the methods.

    Attributes:
        baselines: the baselines, all of them.
        flow: those that need optical flow too; they decode the videos.
        limit_clips: only the first so many videos.
        progress: show a progress bar on standard error.
        noise: disturb the visible masks that methods and baselines get; see ``evaluation_noise``.
        follow: gives a clip the visible masks that methods and baselines get in place of the true
            ones; see ``evaluation_following``.
    """

    baselines: bool = True
    flow: bool = True
    limit_clips: int | None = None
    progress: bool = False
    noise: bool = False
    follow: Callable[[EvaluationClip], EvaluationClip] | None = None


DEFAULT_OPTIONS = EvaluationOptions()


class Row(NamedTuple):
    """One row of the tables: the measures of one method over the whole dataset."""

    name: str
    traits: BaselineTraits
    is_baseline: bool
    pairs: Pairs


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The measures of all methods on one dataset.

    Attributes:
        dataset: name of its folder.
        clips: how many videos were evaluated.
        rows: the methods given, then the baselines.
        orders: by name what each stated order is worth, one entry a track: the methods that state
            one, then the heuristic.
        noise: whether the visible masks were disturbed.
        is_followed: whether they were followed from prompts.
    """

    dataset: str
    clips: int
    rows: tuple[Row, ...]
    orders: Mapping[str, Sequence[OrderCounts]] = field(default_factory=dict)
    noise: bool = False
    is_followed: bool = False


class PairKey(NamedTuple):
    """A pair of one object: which frame counts, and as what.

    Attributes:
        frame_index: the frame.
        hidden: hidden share of the object.
        seen_before: an earlier frame showed at least 90 % of it.
        follows: the frame before is a pair too.
    """

    frame_index: int
    hidden: float
    seen_before: bool
    follows: bool


class TrackMeasures(NamedTuple):
    """The measures of one prediction of one object, K pairs."""

    source: str
    keys: Sequence[PairKey]
    measures: Float[np.ndarray, "K 5"]
    jitter: Float[np.ndarray, " K"]
    confidence_occluded: Float[np.ndarray, " K"]


def evaluate_dataset(
    dataset: Path, methods: Sequence[Method], options: EvaluationOptions = DEFAULT_OPTIONS
) -> Evaluation:
    """Measure methods and baselines on a dataset folder.

    Args:
        dataset: holds ``videos/``, ``visible.json`` and ``amodal.json``.
        methods: what to measure; may be empty.
        options: what to run beside them.

    Raises:
        DatasetError: the folder does not hold such a dataset.
        InputError: two methods share a name, or a prediction does not fit the clip.
    """
    return evaluate_clips(open_evaluation_set(dataset, options.limit_clips), methods, options)


def evaluate_clips(
    clip_set: ClipSet, methods: Sequence[Method], options: EvaluationOptions = DEFAULT_OPTIONS
) -> Evaluation:
    """Measure methods and baselines on clips.

    Args:
        clip_set: the clips.
        methods: what to measure; may be empty.
        options: what to run beside them.

    Raises:
        InputError: two methods share a name, or a prediction does not fit the clip.
    """
    names = [method.name for method in methods]
    taken = sorted({name for name in names if name in BASELINES or names.count(name) > 1})
    if taken:
        raise InputError(f"method names must be new and different, got {', '.join(taken)} again")
    measured: dict[str, list[TrackMeasures]] = {}
    orders: dict[str, list[OrderCounts]] = {}
    for clip in _with_progress(clip_set, options.progress):
        shown = clip if options.follow is None else options.follow(clip)
        shown = disturb(shown) if options.noise else shown
        predictions = {method.name: method.predict(shown) for method in methods}
        for name, measures in measure_clip(clip, shown, predictions, options):
            measured.setdefault(name, []).append(measures)
        if clip.unknown is None:  # an order between what is known in part would be another figure
            for name, counts in measure_order(clip, shown, predictions):
                orders.setdefault(name, []).append(counts)
    traits = {method.name: BaselineTraits(method.sees_future) for method in methods}
    rows = tuple(
        Row(name, {**BASELINES, **traits}[name], name not in traits, gather_pairs(measured[name]))
        for name in [*names, *BASELINES]
        if name in measured
    )
    followed = options.follow is not None
    return Evaluation(clip_set.name, len(clip_set), rows, orders, options.noise, followed)


def _with_progress(clip_set: ClipSet, show: bool) -> Iterable[EvaluationClip]:
    return track(
        clip_set.clips(),
        description=clip_set.name,
        total=len(clip_set),
        console=Console(stderr=True),
        disable=not show,
    )


Predictions = Mapping[str, Mapping[int, TrackPrediction]]
"""By method and track id."""


def measure_clip(
    clip: EvaluationClip,
    shown: EvaluationClip,
    predictions: Predictions,
    options: EvaluationOptions,
) -> Iterator[tuple[str, TrackMeasures]]:
    """Yield the measures of every method and baseline on each object of one clip.

    Args:
        clip: what is measured against.
        shown: the same clip with the visible masks that methods and baselines get.
        predictions: of the methods.
        options: what to run beside them.
    """
    flow = None
    if options.baselines and options.flow:
        flow = shifts_by_flow(shown.visible_frames, clip.frames())
    still = np.zeros((clip.video.length, 2))
    for (track_id, one), (_, given) in zip(clip.objects(), shown.objects(), strict=True):
        found = {name: by_track.get(track_id) for name, by_track in predictions.items()}
        if options.baselines:
            shifts = None if flow is None else flow.get(track_id, still)
            completed = complete_by_baselines(given, shifts)
            found |= {name: TrackPrediction(masks) for name, masks in completed.items()}
        keys = pair_keys(one)
        for name, prediction in found.items():
            yield name, measure_track(one, given.visible, keys, prediction, clip)


def measure_order(
    clip: EvaluationClip, shown: EvaluationClip, predictions: Predictions
) -> Iterator[tuple[str, OrderCounts]]:
    """Yield what each stated order, and the heuristic's, is worth for each object of a clip."""
    objects = dict(clip.objects())
    frames = clip.visible_frames
    fronts = {
        index: {back: true_fronts(one, back, frames, index) for back, one in objects.items()}
        for index in range(clip.video.length)
    }
    for track_id, one in objects.items():
        indices = [key.frame_index for key in pair_keys(one)]
        counted = {index: fronts[index] for index in indices}
        for name, by_track in predictions.items():
            prediction = by_track.get(track_id)
            if prediction is not None and prediction.order is not None:
                stated = {index: prediction.order[index] for index in indices}
                yield name, count_order(clip.source, track_id, counted, stated)
        masks = shown.visible_frames
        lower = {index: order_of_lower_edges(masks[index], track_id) for index in indices}
        yield LOWER_EDGE, count_order(clip.source, track_id, counted, lower)


def pair_keys(one: ObjectClip) -> list[PairKey]:
    """Return the pairs of an object: |A| of at least 50 pixels, visible then or before."""
    keys: list[PairKey] = []
    visible_yet = seen_before = False
    for index, (seen, amodal) in enumerate(zip(one.visible, one.amodal, strict=True)):
        visible_yet |= seen is not None
        if amodal is None or amodal.area == 0:
            continue
        hidden = hidden_share(empty_mask(amodal.frame_size) if seen is None else seen, amodal)
        if visible_yet and amodal.area >= MIN_AREA_PX:
            follows = bool(keys) and keys[-1].frame_index == index - 1
            keys.append(PairKey(index, hidden, seen_before, follows))
        seen_before |= 1 - hidden >= SEEN_FROM
    return keys


def measure_track(
    one: ObjectClip,
    shown: Sequence[BoxedMask | None],
    keys: Sequence[PairKey],
    prediction: TrackPrediction | None,
    clip: EvaluationClip,
) -> TrackMeasures:
    """Return the measures of one prediction; ``None`` counts as the mask shown, everywhere.

    Args:
        one: the object, with its clean V.
        shown: the visible masks that the method was given; P contains them.
        keys: its pairs.
        prediction: to be measured.
        clip: its clip.

    Raises:
        InputError: the prediction has more or fewer entries than the clip has frames.
    """
    nothing = empty_mask(clip.video.frame_size)
    length = clip.video.length
    given, confidence, _ = prediction or TrackPrediction([None] * length)
    if len(given) != length or (confidence is not None and len(confidence) != length):
        raise InputError(f"a prediction has {len(given)} frames, the clip {length}")
    measures = np.empty((len(keys), len(PairMeasures._fields)))
    jitter = np.full(len(keys), np.nan)
    predicted = before = nothing
    for row, key in enumerate(keys):
        index, before = key.frame_index, predicted
        seen, amodal = one.visible[index] or nothing, one.amodal[index] or nothing
        predicted = union(shown[index] or nothing, given[index] or nothing)
        if clip.unknown is not None:
            predicted = subtract(predicted, clip.unknown[index])
        measures[row] = measure_pair(predicted, seen, amodal, one.others[index])
        if key.follows:
            jitter[row] = pair_jitter(before, predicted, one.amodal[index - 1] or nothing, amodal)
    stated = np.full(length, np.nan) if confidence is None else np.asarray(confidence, float)
    chosen = stated[[key.frame_index for key in keys]] if keys else np.empty(0)
    return TrackMeasures(clip.source, keys, measures, jitter, chosen)


def gather_pairs(tracks: Sequence[TrackMeasures]) -> Pairs:
    """Return the pairs of all tracks as one table."""
    keys = [key for one in tracks for key in one.keys]
    return Pairs(
        sources=tuple(one.source for one in tracks),
        track=np.repeat(np.arange(len(tracks)), [len(one.keys) for one in tracks]),
        hidden=np.array([key.hidden for key in keys], float),
        seen_before=np.array([key.seen_before for key in keys], bool),
        measures=np.concatenate([one.measures for one in tracks]),
        jitter=np.concatenate([one.jitter for one in tracks]),
        confidence_occluded=np.concatenate([one.confidence_occluded for one in tracks]),
    )
