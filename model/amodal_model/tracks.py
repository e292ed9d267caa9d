"""Where each object is: windows, their motion and the remembered silhouettes that place them.

The host side of the state; the network's memory is the other. Rows are objects. Streams and
training follow objects through `follow`, so there is one placement, not two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from amodal_model.contour_noise import KEPT_JITTERS, RIM, UNKNOWN, add_jitters, noise_of, rim_of
from amodal_model.geometry import (
    Coverage,
    Window,
    crop_from_frame,
    frame_from_crop,
    old_from_new,
    paste_logits,
    sample_masks,
    window_around,
)
from amodal_model.masks import BoxedMask, add_mask, overlap_area
from amodal_model.memory import CROP_SIDE, StepInputs
from amodal_model.placement import (
    SEARCH_RATIO,
    SEARCH_SIDE,
    TEMPLATE_SIDE,
    PlacementConfig,
    register,
)

MISSING_OPEN = 0.2
"""Share of a remembered silhouette in open background from which a frame without the object's mask
is one in which the mask is missing, not the object."""
MISSING_SIGMA = 4.0
"""Standard deviation of the place, template pixels, above which it may be misplaced instead."""
LEAST_KNOWN = 1e-6
"""Of ``known``: below, nothing is."""
JUMP = 0.3
"""Variance of the place, where a window was brought after its object, over the square of that."""
LOST_MIDDLE = 0.1
"""As `MotionConfig.middle`, for objects that show beside where they were expected."""
LOST_SIGMA = 4.0
"""Standard deviation of the place, template pixels, above which one may show anywhere beside it."""
ELSEWHERE = 0.5
"""Share of what shows of an object beside its silhouette from which that is misplaced."""
FORGET_SHOWN = 0.25
"""Share of the remembered silhouette's area that must show to tell that it is another shape."""
LEAST_NOISE = 1.0
"""Frame pixels by which contours are taken to be off at least, in misfits that make forget."""
MISFIT_RATE = 0.2
"""How far one frame's misfit replaces the usual one."""
FIRST_MISFIT = 0.1
"""The usual misfit of an object of which nothing is known."""


class MotionConfig(NamedTuple):
    """How objects are expected to move, in template pixels (1/48 of the window) and frames.

    Attributes:
        first_surprise: what an object's motion is expected to miss before it is known: variance
            of a frame's displacement, and of the log scale.
        least_surprise: the least of both, for objects that move as predicted.
        surprise_gain: how far one frame's miss replaces what was expected.
        turn_surprise: variance of a frame's turn, radians².
        velocity_gain: how far one frame's displacement replaces the remembered velocity.
        velocity_fade: what is left of the velocity after a frame without information.
        window_ratio: side of a new window over the larger side of the object's box.
        middle: how far from a window's centre the centre of a visible box may be, as a share of
            the side; beyond, the window is brought after it.
        forget_from: misfit (`placement.Registration`), beyond ``forget_usual`` times the object's
            usual one, from which what is remembered is taken to be of another shape; and so much
            of it must be more than the noise of contours.
        forget_usual: see there. What walks or bends misfits always, and is not forgotten for it.
    """

    first_surprise: tuple[float, float] = (1.5, 0.03**2)
    least_surprise: tuple[float, float] = (0.1, 0.008**2)
    surprise_gain: float = 0.1
    turn_surprise: float = 0.02**2
    velocity_gain: float = 0.3
    velocity_fade: float = 0.96
    window_ratio: float = 1.5
    middle: float = 0.3
    forget_from: float = 0.2
    forget_usual: float = 1.0


class Tracks(NamedTuple):
    """Windows and motion of N objects.

    Attributes:
        window: (N, 4) centre x, centre y and side, frame pixels, and angle, radians: `Window`.
        velocity: (N, 4) change of the centre in frame pixels, of the log side and of the angle, per
            frame.
        variance: (N,) of the place, template pixels².
        surprise: (N, 2) variance by which a frame's displacement (template pixels², each axis) and
            log scale miss their prediction; learned while the object shows.
        misfit: (N,) usual misfit of the remembered silhouette, see `placement.Registration`.
        jitters: (N, 8) by how much its last contours were off, see `contour_noise`.
        areas: (N, 2) visible pixels two frames and one frame ago, 0 where it did not show.
        template: (N, 2, 48, 48) remembered silhouette and how far it is known.
        is_new: (N,) whether nothing is remembered yet.
    """

    window: Float64[np.ndarray, "N 4"]
    velocity: Float64[np.ndarray, "N 4"]
    variance: Float32[np.ndarray, " N"]
    surprise: Float32[np.ndarray, "N 2"]
    misfit: Float32[np.ndarray, " N"]
    jitters: Float32[np.ndarray, "N 8"]
    areas: Float32[np.ndarray, "N 2"]
    template: Float32[np.ndarray, "N 2 48 48"]
    is_new: np.ndarray


class View(NamedTuple):
    """What one object has in one frame: its mask, if any, and how masks cover the frame.

    Views of one frame share their ``coverage``.

    Attributes:
        own: its visible mask.
        coverage: of the frame.
        contour_noise: by how many pixels contours of the frame's masks are off; `follow` finds it.
    """

    own: BoxedMask
    coverage: Coverage
    contour_noise: float = 0.0


class Placed(NamedTuple):
    """Objects found in a frame.

    Attributes:
        inputs: what the network sees of them.
        tracks: where they are.
        has_begun: (N,) whether it begins again: its memory is to be that of a new object.
        stand_ins: by row, where an object is taken to be whose mask alone is missing.
        views: what each was found in, stand-ins among what covers others.
    """

    inputs: StepInputs[np.ndarray]
    tracks: Tracks
    has_begun: Bool[np.ndarray, " N"]
    stand_ins: dict[int, BoxedMask]
    views: Sequence[View]


def new_tracks(count: int) -> Tracks:
    """Return tracks of objects that have not been seen yet."""
    return Tracks(
        np.tile(np.array([0.0, 0.0, 8.0, 0.0]), (count, 1)),
        np.zeros((count, 4)),
        np.ones(count, np.float32),
        np.tile(np.array(MotionConfig().first_surprise, np.float32), (count, 1)),
        np.full(count, FIRST_MISFIT, np.float32),
        np.full((count, KEPT_JITTERS), UNKNOWN, np.float32),
        np.zeros((count, 2), np.float32),
        np.zeros((count, 2, TEMPLATE_SIDE, TEMPLATE_SIDE), np.float32),
        np.ones(count, bool),
    )


def template_of(remembered: Float32[np.ndarray, "N 2 s s"]) -> Float32[np.ndarray, "N 2 s s"]:
    """Return what objects are placed by, of what the network remembers (`StepOutputs.template`).

    To the network what was not seen for a second is half forgotten. Of an object that is hidden
    nothing newer is known, so where it is to be found what was seen last counts in full.
    """
    known = remembered[:, 1:]
    newest = known.max((2, 3), keepdims=True)
    return np.concatenate([remembered[:, :1], known / np.maximum(newest, LEAST_KNOWN)], 1)


def follow(
    tracks: Tracks,
    views: Sequence[View],
    gap: float,
    placement: PlacementConfig,
    motion: MotionConfig,
) -> Placed:
    """Find each object in a frame, and cut the crop that the network will see.

    Args:
        tracks: the objects as the last frame left them; new ones must be visible.
        views: one entry an object.
        gap: frames since the last step, 1 without drops.
        placement: weights of the registration.
        motion: what is expected of the motion.
    """
    jitters, areas = add_jitters(tracks.jitters, tracks.areas, [view.own for view in views])
    tracks = tracks._replace(jitters=jitters, areas=areas)
    views = _with_noise(views, jitters)
    predicted = predict(tracks, gap, motion)
    expected = predicted.window[:, :2]
    predicted = _catch_up(predicted, views, motion)
    search = _search_crops(predicted, views)
    is_missing = _lacks_mask(predicted, search)
    stand_ins = {
        row: _silhouette(predicted, row, views[row].own.frame_size)
        for row in np.flatnonzero(is_missing).tolist()
    }
    if stand_ins:
        views = _with_stand_ins(views, stand_ins)
        search = _search_crops(predicted, views)
    seen = search, is_missing, expected
    placed, misfit = _place(tracks, predicted, seen, gap, (placement, motion))
    is_other = _looks_other(predicted, misfit, search, motion)
    for row in np.flatnonzero(is_other).tolist():
        usual = float(predicted.misfit[row])
        is_other[row] = _wide_misfit(placed, row, views[row], usual) > motion.forget_from
    placed = _begin_again(placed, views, is_other, motion)
    window, theta = _fit_windows(placed, views, motion)
    crop = _crops(views, window, CROP_SIDE)
    context = _context(placed._replace(window=window), gap, misfit)
    # nothing of the frame is believed: the memory is kept as under a wall
    crop[is_missing, 1] = 1 - crop[is_missing, 2]
    is_new = np.zeros(len(views), bool)
    moved = placed._replace(window=window, is_new=is_new)
    return Placed(StepInputs(crop, theta, context), moved, is_other, stand_ins, views)


def _with_noise(views: Sequence[View], jitters: Float32[np.ndarray, "N 8"]) -> list[View]:
    """Return the views with the contour noise of their frames: all objects of a frame tell it."""
    rows: dict[int, list[int]] = {}
    for row, view in enumerate(views):
        rows.setdefault(id(view.coverage), []).append(row)
    noise = {key: noise_of(jitters[one]) for key, one in rows.items()}
    return [view._replace(contour_noise=noise[id(view.coverage)]) for view in views]


def _widen(crop: UInt8[np.ndarray, "4 s w"], reach: int) -> None:
    """Widen what other masks cover, in place, by some crop pixels, but not over the own mask.

    Between masks whose contours are off lie gaps that show no background.
    """
    if reach:
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        wide = np.minimum(cv2.dilate(crop[1], kernel), 255 - crop[0])
        np.maximum(crop[1], wide, out=crop[1])


def _silhouette(tracks: Tracks, row: int, frame_size: tuple[int, int]) -> BoxedMask:
    """Return what is remembered of an object, where it is."""
    latest, known = tracks.template[row]
    return paste_logits(latest * known - 0.5, Window(*tracks.window[row].tolist()), frame_size)


def _with_stand_ins(views: Sequence[View], stand_ins: dict[int, BoxedMask]) -> list[View]:
    """Return the views of frames in which the objects whose masks are missing cover others too.

    Left out, they would show open background where they are: whoever they hide would be forgotten.
    """
    counts: dict[int, UInt8[np.ndarray, "H W"]] = {}
    for row, mask in stand_ins.items():
        coverage = views[row].coverage
        added = counts.setdefault(id(coverage), coverage.counts.copy())
        add_mask(added, mask)
    covered = {key: Coverage(values) for key, values in counts.items()}
    return [view._replace(coverage=covered.get(id(view.coverage), view.coverage)) for view in views]


def _crops(
    views: Sequence[View], windows: Float64[np.ndarray, "N 4"], side: int
) -> Float32[np.ndarray, "N 3 s s"]:
    """Return (own, others, outside) of each window, [0, 1]."""
    planes = np.empty((len(views), 4, side, -(-side // 16) * 16), np.uint8)
    for crop, view, window in zip(planes, views, windows.tolist(), strict=True):
        sampled = sample_masks(view.own, view.coverage, Window(*window), side)
        cv2.split(sampled, list(crop))
        if rim := rim_of(view.contour_noise):
            _widen(crop, round(rim * side / window[2]))
    shares = planes[:, :3, :, :side].astype(np.float32)
    shares /= 255
    return shares


def _context(
    tracks: Tracks, gap: float, misfit: Float32[np.ndarray, " N"]
) -> Float32[np.ndarray, "N 6"]:
    """Return what the network is told of each placement, see `memory.CONTEXT_NAMES`."""
    sigma = np.sqrt(tracks.variance) / TEMPLATE_SIDE
    drift = tracks.velocity[:, :2] / tracks.window[:, 2:3]
    growth = tracks.velocity[:, 2]
    columns = [sigma, np.full(len(sigma), gap), drift[:, 0], drift[:, 1], growth, misfit]
    return np.stack(columns, 1).astype(np.float32)


def predict(tracks: Tracks, gap: float, motion: MotionConfig) -> Tracks:
    """Move the windows on, and widen what is not known of their place."""
    moved = tracks.window.copy()
    moved[:, :2] += tracks.velocity[:, :2] * gap
    moved[:, 2] *= np.exp(np.clip(tracks.velocity[:, 2] * gap, -0.5, 0.5))
    moved[:, 3] += np.clip(tracks.velocity[:, 3] * gap, -0.5, 0.5)
    added = np.maximum(tracks.surprise[:, 0], motion.least_surprise[0])
    variance = np.minimum(tracks.variance + added * gap, TEMPLATE_SIDE**2)
    return tracks._replace(window=moved, variance=variance.astype(np.float32))


def _catch_up(tracks: Tracks, views: Sequence[View], motion: MotionConfig) -> Tracks:
    """Bring windows to objects that show up elsewhere; start windows on new objects."""
    window, variance = tracks.window.copy(), tracks.variance.copy()
    for index, view in enumerate(views):
        x0, y0, x1, y1 = view.own.bbox_xyxy
        if x1 <= x0:
            continue
        if tracks.is_new[index]:
            window[index] = window_around(view.own.bbox_xyxy, motion.window_ratio)
            continue
        x, y, side, _ = window[index].tolist()
        is_lost = variance[index] > LOST_SIGMA**2 and _is_elsewhere(tracks, index, view.own)
        reach = (LOST_MIDDLE if is_lost else motion.middle) * side
        # how far the box's centre is beyond the middle of the window
        offset_x, offset_y = (x0 + x1) / 2 - x, (y0 + y1) / 2 - y
        excess_x = offset_x - min(max(offset_x, -reach), reach)
        excess_y = offset_y - min(max(offset_y, -reach), reach)
        if excess_x or excess_y:
            window[index, :2] = x + excess_x, y + excess_y
            jump = (excess_x**2 + excess_y**2) * (TEMPLATE_SIDE / side) ** 2
            variance[index] = min(variance[index] + JUMP * jump, TEMPLATE_SIDE**2)
    return tracks._replace(window=window, variance=variance.astype(np.float32))


def _is_elsewhere(tracks: Tracks, row: int, own: BoxedMask) -> bool:
    """Return whether most of what shows of an object lies beside where it was expected."""
    expected = _silhouette(tracks, row, own.frame_size)
    return overlap_area(own, expected) < (1 - ELSEWHERE) * own.area


def _place(
    before: Tracks,
    predicted: Tracks,
    seen: tuple[
        Float32[np.ndarray, "M 3 72 72"], Bool[np.ndarray, " N"], Float64[np.ndarray, "N 2"]
    ],
    gap: float,
    config: tuple[PlacementConfig, MotionConfig],
) -> tuple[Tracks, Float32[np.ndarray, " N"]]:
    """Register the remembered silhouettes and update windows, velocities and variances.

    The misfit of each is returned as well; 0 of new objects.

    Args:
        before: the objects as the last frame left them.
        predicted: as they are expected in this one.
        seen: crops around those that are not new; for which only the mask is missing: those coast;
            and where the motion had them, frame pixels.
        gap: frames since the last step.
        config: of registration and motion.
    """
    (search, is_missing, expected), (placement, motion) = seen, config
    old = np.flatnonzero(~predicted.is_new)
    template = predicted.template[old]
    prior = predicted.variance[old]
    scale_prior = np.maximum(predicted.surprise[old, 1], motion.least_surprise[1])
    turn_prior = np.full(len(old), motion.turn_surprise * gap, np.float32)
    known = template[:, 1]
    if is_missing.any():
        known = np.where(is_missing[old, None, None], np.float32(0), known)
    prior_of_all = prior, scale_prior, turn_prior
    ahead = _in_window(expected[old] - predicted.window[old, :2], predicted.window[old])
    found = register(template[:, 0], known, search, prior_of_all, placement, ahead)
    window = predicted.window.copy()
    window[old, :2] += _in_frame(found.shift_xy, window[old])
    window[old, 2] *= np.exp(found.log_scale)
    window[old, 3] += found.turn
    moved = (window[old] - before.window[old]) / gap
    moved[:, 2] = np.log(window[old, 2] / before.window[old, 2]) / gap
    # a fragment's motion is its occluder's as much as its own: mostly visible objects teach speed
    shown = search[:, 0].sum((1, 2)) / np.maximum(template[:, 0].sum((1, 2)), 1)
    informed = (np.clip(1 - found.variance / prior, 0, 1) * np.clip(shown, 0, 1) ** 4)[:, None]
    velocity = predicted.velocity.copy()
    fade = motion.velocity_fade**gap
    kept = velocity[old] * (informed + (1 - informed) * fade)
    velocity[old] = kept + motion.velocity_gain * informed * (moved - kept)
    velocity[:, 2] = np.clip(velocity[:, 2] * 0.9, -0.03, 0.03)
    velocity[:, 3] = np.clip(velocity[:, 3] * 0.9, -0.1, 0.1)
    variance = predicted.variance.copy()
    variance[old] = found.variance
    missed = np.stack([(found.shift_xy**2).mean(1), found.log_scale**2], 1) / gap
    surprise = predicted.surprise.copy()
    surprise[old] += motion.surprise_gain * informed.astype(np.float32) * (missed - surprise[old])
    misfit, usual = np.zeros(len(predicted.misfit), np.float32), predicted.misfit.copy()
    misfit[old] = np.where(is_missing[old], 0, found.misfit)
    shows = old[search[:, 0].any((1, 2))]
    usual[shows] += MISFIT_RATE * (misfit[shows] - usual[shows])
    placed = predicted._replace(
        window=window, velocity=velocity, variance=variance, surprise=surprise, misfit=usual
    )
    return placed, misfit


def _looks_other(
    tracks: Tracks,
    misfit: Float32[np.ndarray, " N"],
    search: Float32[np.ndarray, "M 3 72 72"],
    motion: MotionConfig,
) -> Bool[np.ndarray, " N"]:
    """Return which objects show a shape that the remembered one cannot be, wherever it is put.

    What was turned over, thrown or carried while hidden comes out so; what is remembered of it
    would stay under its occluder.
    """
    is_other = np.zeros(len(misfit), bool)
    old = np.flatnonzero(~tracks.is_new)
    shown, remembered = search[:, 0].sum((1, 2)), tracks.template[old, 0].sum((1, 2))
    usual = motion.forget_usual * tracks.misfit[old]
    is_other[old] = (misfit[old] > motion.forget_from + usual) & (shown > FORGET_SHOWN * remembered)
    return is_other


def _wide_misfit(tracks: Tracks, row: int, view: View, usual: float) -> float:
    """Return the misfit of a placed object less what the noise of contours explains.

    Rims are opened away that are as narrow as masks may be off on both sides: as the object's
    ``usual`` misfit tells, and no wider than the contour noise of the frame.
    """
    silhouette, known = tracks.template[row]
    own, others, outside = _crops([view], tracks.window[row : row + 1], TEMPLATE_SIDE)[0]
    differs = abs(own - silhouette) * known * (1 - np.minimum(others + outside, 1))
    differs += 0.5 * own * (1 - known)
    # a contour that is off by r pixels misfits by about 4 r / sqrt(area); a few times that happens
    usual_reach = 0.7 * usual * math.sqrt(own.sum())
    noise_px = max(RIM * view.contour_noise, LEAST_NOISE)
    reach = math.ceil(min(usual_reach, noise_px * TEMPLATE_SIDE / tracks.window[row, 2]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    wide = np.asarray(cv2.morphologyEx(differs, cv2.MORPH_OPEN, kernel))
    return float(wide.sum() / max(own.sum(), 1))


def _begin_again(
    tracks: Tracks,
    views: Sequence[View],
    is_other: Bool[np.ndarray, " N"],
    motion: MotionConfig,
) -> Tracks:
    """Return the tracks with some objects as if they showed for the first time."""
    if not is_other.any():
        return tracks
    rows = np.flatnonzero(is_other)
    begun = Tracks(*(field.copy() for field in tracks))
    for field, value in zip(begun, new_tracks(len(rows)), strict=True):
        field[rows] = value
    # how much it misfits is the object's, not the silhouette's
    begun.misfit[rows] = tracks.misfit[rows]
    begun.jitters[rows], begun.areas[rows] = tracks.jitters[rows], tracks.areas[rows]
    begun.is_new[rows] = False
    for row in rows.tolist():
        begun.window[row] = window_around(views[row].own.bbox_xyxy, motion.window_ratio)
    return begun


def _in_frame(
    shift_xy: Float32[np.ndarray, "N 2"], windows: Float64[np.ndarray, "N 4"]
) -> Float64[np.ndarray, "N 2"]:
    """Return displacements in template pixels of windows as frame pixels."""
    along, across = np.cos(windows[:, 3]), np.sin(windows[:, 3])
    x, y = shift_xy[:, 0], shift_xy[:, 1]
    turned = np.stack([along * x - across * y, across * x + along * y], 1)
    return np.asarray(turned * (windows[:, 2:3] / TEMPLATE_SIDE))


def _in_window(
    shift_xy: Float64[np.ndarray, "N 2"], windows: Float64[np.ndarray, "N 4"]
) -> Float32[np.ndarray, "N 2"]:
    """Return displacements in frame pixels as template pixels of windows."""
    along, across = np.cos(windows[:, 3]), np.sin(windows[:, 3])
    x, y = shift_xy[:, 0], shift_xy[:, 1]
    turned = np.stack([along * x + across * y, along * y - across * x], 1)
    return np.asarray(turned * (TEMPLATE_SIDE / windows[:, 2:3]), np.float32)


def _search_crops(tracks: Tracks, views: Sequence[View]) -> Float32[np.ndarray, "M 3 72 72"]:
    """Return wide crops around the objects that are not new."""
    old = np.flatnonzero(~tracks.is_new)
    wide = tracks.window[old] * [1, 1, SEARCH_RATIO, 1]
    return _crops([views[index] for index in old.tolist()], wide, SEARCH_SIDE)


def _lacks_mask(tracks: Tracks, search: Float32[np.ndarray, "M 3 72 72"]) -> Bool[np.ndarray, " N"]:
    """Return for which objects a frame has no mask though nothing can hide them.

    A segmenter drops a mask now and then. Believed, such a frame would overwrite the memory with
    background, and push the silhouette under the nearest occluder.
    """
    is_missing = np.zeros(len(tracks.is_new), bool)
    has_none = ~search[:, 0].any((1, 2))
    if not has_none.any():
        return is_missing
    without = np.flatnonzero(~tracks.is_new)[has_none]
    template, variance = tracks.template[without], tracks.variance[without]
    margin = (SEARCH_SIDE - TEMPLATE_SIDE) // 2
    predicted = search[has_none, 1:, margin:-margin, margin:-margin]
    is_open = 1 - np.minimum(predicted[:, 0] + predicted[:, 1], 1)
    silhouette = template[:, 0] * template[:, 1]
    share = (silhouette * is_open).sum((1, 2)) / np.maximum(silhouette.sum((1, 2)), 1)
    is_missing[without] = (share > MISSING_OPEN) & (variance < MISSING_SIGMA**2)
    return is_missing


def _fit_windows(
    tracks: Tracks, views: Sequence[View], motion: MotionConfig
) -> tuple[Float64[np.ndarray, "N 4"], Float32[np.ndarray, "N 2 3"]]:
    """Return windows that hold the objects with room around them, and how the memory moves.

    A window is left as it is, and the memory with it, while the object keeps well inside it.
    """
    window = tracks.window.copy()
    theta = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (len(views), 1, 1))
    for index, view in enumerate(views):
        if tracks.is_new[index]:
            continue
        now = Window(*tracks.window[index].tolist())
        extent = _extent(tracks.template[index], now, view.own)
        if extent is None or _holds(extent, motion.window_ratio):
            continue
        fitted = _around(extent, now, motion.window_ratio)
        window[index] = fitted
        theta[index] = old_from_new(now, fitted)
    return window, theta


def _extent(
    template: Float32[np.ndarray, "2 48 48"], window: Window, own: BoxedMask
) -> tuple[float, float, float, float] | None:
    """Return the box of what is remembered and visible together, as shares of the window."""
    boxes: list[tuple[float, float, float, float]] = []
    column, row, wide, tall = cv2.boundingRect((template[0] > 0.5).view(np.uint8))
    if wide:
        boxes.append((column, row, column + wide, row + tall))
    if own.bbox_xyxy[2] > own.bbox_xyxy[0]:
        boxes.append(_box_in_window(own, window))
    if not boxes:
        return None
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    unit = TEMPLATE_SIDE
    return x0 / unit, y0 / unit, x1 / unit, y1 / unit


def _around(extent: tuple[float, float, float, float], window: Window, ratio: float) -> Window:
    """Return the window of the same angle that holds an extent, as `window_around` does."""
    x0, y0, x1, y1 = extent
    matrix = frame_from_crop(window, 1)
    x, y = matrix @ [(x0 + x1) / 2, (y0 + y1) / 2, 1]
    side = max((x1 - x0) * window.side, (y1 - y0) * window.side, 4.0) * ratio
    return Window(float(x), float(y), side, window.angle)


def _box_in_window(own: BoxedMask, window: Window) -> tuple[float, float, float, float]:
    """Return the box of a visible mask along the window's axes, template pixels."""
    x0, y0, x1, y1 = own.bbox_xyxy
    matrix = crop_from_frame(window, TEMPLATE_SIDE)
    if window.angle:
        rows, columns = _rim(own.pixels)
        points = np.stack([columns + (x0 + 0.5), rows + (y0 + 0.5)])
        half = TEMPLATE_SIDE / window.side / 2
    else:
        points, half = np.array([[x0, x1], [y0, y1]], float), 0.0
    turned = matrix[:, :2] @ points + matrix[:, 2:]
    (left, top), (right, bottom) = turned.min(1) - half, turned.max(1) + half
    return float(left), float(top), float(right), float(bottom)


def _rim(pixels: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last pixel of each row, the mask's hull among them."""
    first = pixels.argmax(1)
    rows = np.flatnonzero(pixels[np.arange(len(pixels)), first])
    last = pixels.shape[1] - 1 - pixels[:, ::-1].argmax(1)
    return np.concatenate([rows, rows]), np.concatenate([first[rows], last[rows]])


def _holds(extent: tuple[float, float, float, float], ratio: float) -> bool:
    """Return whether the object keeps inside the window and fills it as it should."""
    x0, y0, x1, y1 = extent
    fill = max(x1 - x0, y1 - y0) * ratio
    return 0.7 < fill < 1.35 and min(x0, y0, 1 - x1, 1 - y1) > 0.1
