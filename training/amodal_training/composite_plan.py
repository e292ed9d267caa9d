"""Where an occluder goes: its path relative to the target, drawn, measured and accepted.

A path is drawn at random, how much of the target it covers is measured on every frame, and the
draw is repeated until the rates are what the kind of pass wants. Between a few knots that are tied
to the target's own track the occluder moves on its own in the frame: it does not copy the target's
motion, which would give that motion away while the target is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from amodal_training.occluder_pass import (
    Cutout,
    OccluderPass,
    PassKind,
    Target,
    covered_rate,
    covered_rates,
)

CLEAN_FRAMES = 6
"""Frames at the start of a clip on which the target is seen whole, where the kind wants that."""

MAX_SCALE = 3.2
MAX_DRAWS = 40
_PEAK_TOLERANCE = 0.08
_MARGIN_PIXELS = 4

Knot = tuple[int, Float[np.ndarray, " 2"]]


class _Schedule(NamedTuple):
    """Frames on which the occluder starts to come, is there, starts to go and is gone.

    They may lie before or after the clip.
    """

    start: int
    there: int
    going: int
    gone: int


class _Spot(NamedTuple):
    """Where the occluder stays: so many pixels from the target's centre, in a direction."""

    side: Float[np.ndarray, " 2"]
    distance: float


def plan_pass(
    kind: PassKind, target: Target, cutouts: Sequence[Cutout], rng: np.random.Generator
) -> OccluderPass:
    """Return a pass of the wanted kind; the best of a fixed number of draws where none is perfect.

    Args:
        kind: what the pass should do.
        target: the object to be hidden.
        cutouts: the objects that may pass; not the target itself.
        rng: the only source of chance.
    """
    wanted = float(rng.uniform(0.35, 0.97)) if kind != "cover" else 1.0
    best = _draw(kind, target, cutouts, wanted, rng)
    best_miss = _miss(kind, covered_rates(best, target), wanted)
    for _ in range(MAX_DRAWS - 1):
        if best_miss == 0.0:
            break
        passing = _draw(kind, target, cutouts, wanted, rng)
        miss = _miss(kind, covered_rates(passing, target), wanted)
        if miss < best_miss:
            best, best_miss = passing, miss
    return best


def _miss(kind: PassKind, rates: Float[np.ndarray, " T"], wanted: float) -> float:
    """Return how far the rates are from what the kind of pass wants; 0 where they fit."""
    peak = float(rates.max())
    seen_late = float(rates[:CLEAN_FRAMES].max() >= 0.02)
    if kind == "cover":
        full = np.flatnonzero(rates == 1.0)
        missing = max(0, max(5, len(rates) // 12) - len(full))
        gone_for_good = float(rates[full[-1] :].min() > 0.2) if len(full) else 1.0
        return missing + gone_for_good + seen_late
    if kind == "beside":
        return peak if peak >= 0.01 else 0.0
    if kind == "early":
        return float(not 0.2 <= rates[0] <= 0.8) + float(rates.min() > 0.02)
    if kind in ("twice", "parked"):
        return seen_late + float(peak < 0.4) + float(rates[-1] > 0.3)
    off = abs(peak - wanted)
    return seen_late + (off if off > _PEAK_TOLERANCE else 0.0)


def _draw(
    kind: PassKind,
    target: Target,
    cutouts: Sequence[Cutout],
    wanted: float,
    rng: np.random.Generator,
) -> OccluderPass:
    """Return a random pass: who, how large, when, from where, and how near to the centre."""
    cutout = cutouts[int(rng.integers(len(cutouts)))]
    relative_area = rng.uniform(0.5, 1.8) if kind != "cover" else rng.uniform(1.5, 3.0)
    scale = min(float(np.sqrt(relative_area * target.mean_area / cutout.mean_area)), MAX_SCALE)
    phase, flipped = int(rng.integers(2 * len(cutout.masks))), bool(rng.integers(2))
    following = OccluderPass(kind, cutout, phase, flipped, scale, target.centers)
    schedule = _schedule(kind, target.last, rng)
    side = _direction(rng)
    middle = target.clamp((schedule.there + schedule.going) // 2)
    passing, distance = _reach(following, target, middle, side, wanted)
    knots = _knots(passing, target, schedule, _Spot(side, distance), rng)
    return replace(passing, centers=_interpolate(knots, target.last + 1))


def _schedule(kind: PassKind, last: int, rng: np.random.Generator) -> _Schedule:
    approach, leave = rng.uniform(0.06, 0.25, 2)
    full_stay, usual_stay = rng.uniform(0.12, 0.3), rng.uniform(0.2, 0.45)
    stay = {"cover": full_stay, "cross": 0.02, "twice": 0.05}.get(kind, usual_stay)
    start = rng.uniform(0.1, max(0.12, 0.92 - approach - stay - leave))
    if kind == "cross":
        approach, leave = 1.6 * approach, 1.6 * leave
    if kind == "twice":
        start, approach, leave = 0.1, approach / 1.6, leave / 1.6
    marks = np.cumsum([start, approach, stay, leave]) * last
    if kind == "early":
        marks = marks - marks[1]
    start, there, going, gone = (round(float(mark)) for mark in marks)
    return _Schedule(start, there, max(going, there), max(gone, going + 1))


def _direction(rng: np.random.Generator) -> Float[np.ndarray, " 2"]:
    """Return a unit vector, mostly sideways, from the target to where the occluder comes from."""
    angle = rng.uniform(-0.6, 0.6) if rng.random() < 0.8 else rng.uniform(-np.pi / 2, np.pi / 2)
    return np.asarray(rng.choice([-1.0, 1.0]) * np.array([np.cos(angle), np.sin(angle)]))


def _clear_distance(
    passing: OccluderPass, target: Target, frame_index: int, way: Float[np.ndarray, " 2"]
) -> float:
    """Return how far from the target's centre, along a direction, the two boxes are apart."""
    largest = passing.scale * passing.cutout.largest_extent
    apart = (target.extents[target.clamp(frame_index)] + largest) / 2 + _MARGIN_PIXELS
    return float(np.min(apart / np.maximum(np.abs(way), 1e-3)))


def _reach(
    following: OccluderPass,
    target: Target,
    frame_index: int,
    side: Float[np.ndarray, " 2"],
    wanted: float,
) -> tuple[OccluderPass, float]:
    """Return the pass, grown where it must be, and how far along ``side`` covers enough."""
    if following.kind == "beside":
        return following, _clear_distance(following, target, frame_index, side) - _MARGIN_PIXELS
    grown = following
    while grown.scale * 1.1 < MAX_SCALE and covered_rate(grown, target, frame_index) < wanted:
        grown = replace(grown, scale=grown.scale * 1.1)
    if grown.kind == "cover":
        return grown, 0.0
    offsets = np.linspace(0.0, _clear_distance(grown, target, frame_index, side), 25)
    moved = (replace(grown, centers=target.centers + side * offset) for offset in offsets)
    rates = np.array([covered_rate(passing, target, frame_index) for passing in moved])
    return grown, float(offsets[int(np.argmin(np.abs(rates - wanted)))])


def _knots(
    passing: OccluderPass,
    target: Target,
    schedule: _Schedule,
    spot: _Spot,
    rng: np.random.Generator,
) -> list[Knot]:
    """Return (frame, centre) pairs to interpolate; between them the target's track is not used."""
    start, there, going, gone = schedule
    offset = spot.distance * spot.side
    drift = (0.03 if passing.kind == "cover" else 0.1) * rng.uniform(-1, 1, 2)
    returns = rng.random() < 0.25 or passing.kind in ("twice", "beside")
    near = target.centers[target.clamp(there)] + offset
    if passing.kind == "parked":
        return [(0, near), (target.last, near)]
    away = spot.side if returns else -spot.side
    late = target.clamp(going)
    stayed = target.centers[late] + offset + drift * target.extents[late]
    coming = _clear_knot(passing, target, start, spot.side)
    leaving = _clear_knot(passing, target, gone, away)
    knots = [_clear_knot(passing, target, min(start, 0), spot.side, 1.2), coming]
    knots += [(there, near), (going, stayed), leaving]
    if passing.kind == "twice":
        again = min(gone + max(there - start, 4), target.last)
        knots.append((again, target.centers[again] + 0.15 * offset))
        return [*knots, _clear_knot(passing, target, target.last, -spot.side)]
    return [*knots, _clear_knot(passing, target, max(gone + 1, target.last), away, 1.4)]


def _clear_knot(
    passing: OccluderPass,
    target: Target,
    frame_index: int,
    way: Float[np.ndarray, " 2"],
    times_clear: float = 1.0,
) -> Knot:
    """Return a place where the occluder does not touch the target, in a direction from it."""
    distance = times_clear * _clear_distance(passing, target, frame_index, way)
    return frame_index, target.centers[target.clamp(frame_index)] + distance * way


def _interpolate(knots: Sequence[Knot], length: int) -> Float[np.ndarray, "T 2"]:
    """Return positions (T, 2) through the knots, straight from each to the next."""
    frames = np.array([frame for frame, _ in knots], float)
    points = np.array([point for _, point in knots])
    times = np.arange(length)
    return np.stack([np.interp(times, frames, points[:, axis]) for axis in (0, 1)], axis=1)
