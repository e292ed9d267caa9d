"""Where each object is: windows, their motion and the remembered silhouettes that place them.

The host side of the state; the network's memory is the other. Rows are objects. Streams and
training follow objects through `follow`, so there is one placement, not two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from amodal_model.contour_noise import add_jitters
from amodal_model.forgetting import begin_again, looks_other
from amodal_model.geometry import Window, window_around
from amodal_model.masks import BoxedMask, overlap_area
from amodal_model.memory import CROP_SIDE, StepInputs
from amodal_model.pictures import (
    LOOK_CHANNELS,
    looks_of,
    moved_colours,
    remember_look,
    seen_before,
)
from amodal_model.placement import PlacementConfig, Prior, register
from amodal_model.templates import SEARCH_MARGIN, SEARCH_RATIO, SEARCH_SIDE, TEMPLATE_SIDE
from amodal_model.track_state import MotionConfig, Tracks, predict, silhouette_of
from amodal_model.veils import (
    Sighting,
    VeilJudge,
    cover_veiled,
    find_doubts,
    find_veils,
    halved,
    hides_most,
    moved,
    recalled,
    renew,
    ways_to_judge,
)
from amodal_model.views import View, crops_of, with_noise, with_stand_ins
from amodal_model.window_fit import fit_windows

MISSING_OPEN = 0.2
"""Share of a remembered silhouette in open background from which a frame without the object's mask
is one in which the mask is missing, not the object."""
OPEN_MOST = 0.5
"""The same share from which nothing hides the object: sooner or later it is given up."""
MISPLACED_SIGMA = 4.0
"""Standard deviation of the place, template pixels, above which an object may be misplaced."""
JUMP = 0.3
"""Variance of the place, where a window was brought after its object, over the square of that."""
LOST_MIDDLE = 0.1
"""As `MotionConfig.middle`, for objects that show beside where they were expected."""
ELSEWHERE = 0.5
"""Share of what shows of an object beside its silhouette from which that is misplaced."""
MISFIT_RATE = 0.2
"""How far one frame's misfit replaces the usual one."""
_BESIDE_VEIL = np.ones((5, 5), np.uint8)
"""Beside a veil contours are its own: so far, in template pixels, an object is not placed by it."""


class Placed(NamedTuple):
    """Objects found in a frame.

    Attributes:
        inputs: what the network sees of them.
        tracks: where they are.
        has_begun: (N,) whether it begins again: its memory is to be that of a new object.
        is_open: (N,) whether it does not show, though nothing hides most of where it should be.
        stand_ins: by row, where an object is taken to be whose mask alone is missing.
        views: what each was found in, stand-ins among what covers others.
        recalled: by row, what the memory must hold of objects behind veils, see `veils.recalled`.
    """

    inputs: StepInputs[np.ndarray]
    tracks: Tracks
    has_begun: Bool[np.ndarray, " N"]
    is_open: Bool[np.ndarray, " N"]
    stand_ins: dict[int, BoxedMask]
    views: Sequence[View]
    recalled: dict[int, Float32[np.ndarray, "S S"]]


def follow(
    tracks: Tracks,
    views: Sequence[View],
    gap: float,
    placement: PlacementConfig,
    motion: MotionConfig,
    judge: VeilJudge | None = None,
) -> Placed:
    """Find each object in a frame, and cut the crop that the network will see.

    Args:
        tracks: the objects as the last frame left them; new ones must be visible.
        views: one entry an object.
        gap: frames since the last step, 1 without drops.
        placement: weights of the registration.
        motion: what is expected of the motion.
        judge: of veils; without one everything that hides an object has a mask.
    """
    jitters, areas = add_jitters(tracks.jitters, tracks.areas, [view.own for view in views])
    tracks = tracks._replace(jitters=jitters, areas=areas)
    views = with_noise(views, jitters)
    predicted = predict(tracks, gap, motion)
    expected = predicted.window[:, :2]
    predicted = _catch_up(predicted, views, motion)
    search = _search_crops(predicted, views)
    open_shares = _open_shares(predicted, search)
    is_missing = _lacks_mask(predicted, open_shares)
    stand_ins = {
        row: silhouette_of(predicted, row, views[row].own.frame_size)
        for row in np.flatnonzero(is_missing).tolist()
    }
    cut_from = views
    if stand_ins:
        views = with_stand_ins(views, stand_ins)
        search = _search_crops(predicted, views)
        # whose mask is missing does not hide itself
        both = zip(is_missing.tolist(), cut_from, views, strict=True)
        cut_from = [before if missing else after for missing, before, after in both]
    if judge is not None:
        predicted = _without_veiled((tracks, predicted), views, search, gap, judge)
    seen = search, is_missing, expected
    placed, misfit = _place(tracks, predicted, seen, gap, (placement, motion))
    is_other = looks_other(predicted, placed, (search, views), misfit, motion)
    placed = begin_again(placed, views, is_other, motion)
    window, theta = fit_windows(placed, views, motion)
    crop = crops_of(cut_from, window, CROP_SIDE)
    context = _context(placed._replace(window=window), gap, misfit)
    inputs = StepInputs(crop, theta, context)
    placed = placed._replace(window=window, is_new=np.zeros(len(views), bool))
    found: dict[int, Float32[np.ndarray, "S S"]] = {}
    if judge is not None:
        placed = _look_for_veils(tracks.window, placed, views, (inputs, gap), judge)
        found = recalled(placed.veil, theta)
        cover_veiled(crop, placed.veil)
    is_walled, is_open = is_missing, open_shares > OPEN_MOST
    if found:
        is_behind = hides_most(placed.veil, placed.usual)
        is_walled = is_missing | (is_behind & ~crop[:, 0].any((1, 2)))
        is_open &= ~is_behind
    # nothing of the frame is believed: the memory is kept as under a wall
    crop[is_walled, 1] = 1 - crop[is_walled, 2]
    return Placed(inputs, placed, is_other, is_open, stand_ins, views, found)


def _without_veiled(
    moving: tuple[Tracks, Tracks],
    views: Sequence[View],
    search: Float32[np.ndarray, "M 3 72 72"],
    gap: float,
    judge: VeilJudge,
) -> Tracks:
    """Return the tracks with nothing known where veils may hide them: they must not pull there.

    Args:
        moving: tracks as the last frame left them, and as they are expected in this one.
        views: of all.
        search: crops around those that are not new.
        gap: frames since the last step.
        judge: of veils.
    """
    before, tracks = moving
    has_look = _have_looks(before, views)
    old = np.flatnonzero(~tracks.is_new)
    seen = search[:, :, SEARCH_MARGIN:-SEARCH_MARGIN, SEARCH_MARGIN:-SEARCH_MARGIN]
    windows, kept = (before.window, tracks.window), (tracks.look, tracks.colours)
    template = tracks.template
    for by_look in ways_to_judge(has_look):
        doubts = find_doubts(tracks.usual[old], seen, tracks.misfit[old], by_look[old])
        if not len(doubts.rows):
            continue
        rows = old[doubts.rows]
        asked = Tracks(*(field[rows] for field in tracks))
        context = _context(asked, gap, asked.misfit)
        maps = asked.usual, asked.veil, asked.template.prod(1)
        looks = _looks(rows, by_look, views, windows, kept)
        shown = seen[doubts.rows], context, asked.misfit, looks, by_look[rows]
        sighting = Sighting(rows, asked.window, *maps, *shown)
        veils = find_veils(doubts, sighting, judge, in_doubt=True)
        if veils.any() and template is tracks.template:
            template = template.copy()
        for row, veil in zip(rows.tolist(), veils, strict=True):
            if veil.any():
                template[row, 1] *= cv2.dilate(veil.view(np.uint8), _BESIDE_VEIL) == 0
    return tracks._replace(template=template)


def _look_for_veils(
    window: Float64[np.ndarray, "N 4"],
    tracks: Tracks,
    views: Sequence[View],
    cut: tuple[StepInputs[np.ndarray], float],
    judge: VeilJudge,
) -> Tracks:
    """Return the placed tracks with their veils, and what is usually seen of them.

    Args:
        window: of the objects in the last frame.
        tracks: as they were found.
        views: of all.
        cut: what the network will see, and frames since the last step.
        judge: of veils.
    """
    inputs, gap = cut
    usual, seen = moved(tracks.usual, inputs.theta), halved(inputs.crop)
    has_look = _have_looks(tracks, views)
    colours = moved_colours(tracks.colours, inputs.theta)
    windows, kept = (window, tracks.window), (tracks.look, colours)
    veils = np.zeros(usual.shape, bool)
    for by_look in ways_to_judge(has_look):
        doubts = find_doubts(usual, seen, tracks.misfit, by_look)
        if not len(doubts.rows):
            continue
        rows = doubts.rows
        asked = Tracks(*(field[rows] for field in tracks))
        before = asked.veil.astype(np.float32), asked.template.prod(1)
        veil, latest = (moved(maps, inputs.theta[rows]) for maps in before)
        looks = _looks(rows, by_look, views, windows, kept)
        shown = seen[rows], inputs.context[rows], asked.misfit, looks, by_look[rows]
        sighting = Sighting(rows, asked.window, usual[rows], veil > 0.5, latest, *shown)
        veils[rows] |= find_veils(doubts, sighting, judge)
    tracks = tracks._replace(usual=renew(usual, seen, veils, gap), veil=veils)
    return _with_looks(tracks, views, seen[:, 0], colours)


def _have_looks(tracks: Tracks, views: Sequence[View]) -> Bool[np.ndarray, " N"]:
    """Return for which objects there are pictures of this frame and of the one before."""
    is_shown = np.array([view.picture is not None for view in views], bool)
    return np.asarray(tracks.has_look & is_shown, bool)


def _looks(
    rows: np.ndarray,
    has_look: Bool[np.ndarray, " N"],
    views: Sequence[View],
    windows: tuple[Float64[np.ndarray, "N 4"], Float64[np.ndarray, "N 4"]],
    kept: tuple[UInt8[np.ndarray, "N 48 48 4"], UInt8[np.ndarray, "N 48 48 4"]],
) -> UInt8[np.ndarray, "K 11 48 48"]:
    """Return what pictures show of some objects, in windows of the last frame and of this one."""
    found = np.zeros((len(rows), LOOK_CHANNELS, TEMPLATE_SIDE, TEMPLATE_SIDE), np.uint8)
    for index, row in enumerate(rows.tolist()):
        picture = views[row].picture
        if picture is None or not has_look[row]:
            continue
        old, new = (Window(*each[row].tolist()) for each in windows)
        now = picture.within(new)
        found[index] = looks_of(now, seen_before(kept[0][row], (old, new), now), kept[1][row])
    return found


def _with_looks(
    tracks: Tracks,
    views: Sequence[View],
    own: Float32[np.ndarray, "N 48 48"],
    colours: UInt8[np.ndarray, "N 48 48 4"],
) -> Tracks:
    """Return the tracks with what this frame's picture shows, where there is one."""
    has_look = np.array([view.picture is not None for view in views], bool)
    if not has_look.any():
        return tracks._replace(has_look=has_look, colours=colours)
    look, colours = tracks.look.copy(), colours.copy()
    for row, view in enumerate(views):
        if view.picture is not None:
            now = view.picture.within(Window(*tracks.window[row].tolist()))
            look[row], colours[row] = remember_look(now, own[row], colours[row])
    return tracks._replace(has_look=has_look, look=look, colours=colours)


def _context(
    tracks: Tracks, gap: float, misfit: Float32[np.ndarray, " N"]
) -> Float32[np.ndarray, "N 6"]:
    """Return what the network is told of each placement, see `memory.CONTEXT_NAMES`."""
    sigma = np.sqrt(tracks.variance) / TEMPLATE_SIDE
    drift = tracks.velocity[:, :2] / tracks.window[:, 2:3]
    growth = tracks.velocity[:, 2]
    columns = [sigma, np.full(len(sigma), gap), drift[:, 0], drift[:, 1], growth, misfit]
    return np.stack(columns, 1).astype(np.float32)


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
        is_lost = variance[index] > MISPLACED_SIGMA**2 and _is_elsewhere(tracks, index, view.own)
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
    expected = silhouette_of(tracks, row, own.frame_size)
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
    ahead = _in_window(expected[old] - predicted.window[old, :2], predicted.window[old])
    prior_of_all = Prior(prior, scale_prior, turn_prior, ahead, predicted.misfit[old])
    found = register(template[:, 0], known, search, prior_of_all, placement)
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
    return crops_of([views[index] for index in old.tolist()], wide, SEARCH_SIDE)


def _lacks_mask(tracks: Tracks, open_shares: Float32[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Return for which objects a frame has no mask though nothing can hide them.

    A segmenter drops a mask now and then. Believed, such a frame would overwrite the memory with
    background, and push the silhouette under the nearest occluder.
    """
    is_placed = tracks.variance < MISPLACED_SIGMA**2
    return np.asarray((open_shares > MISSING_OPEN) & np.isfinite(open_shares) & is_placed)


def _open_shares(
    tracks: Tracks, search: Float32[np.ndarray, "M 3 72 72"]
) -> Float32[np.ndarray, " N"]:
    """Return how much of each object without a mask should show: in the open nothing hides it.

    0 of those that show, infinite of those of which nothing is remembered any more.
    """
    shares = np.zeros(len(tracks.is_new), np.float32)
    has_none = ~search[:, 0].any((1, 2))
    if not has_none.any():
        return shares
    without = np.flatnonzero(~tracks.is_new)[has_none]
    template = tracks.template[without]
    predicted = search[has_none, 1:, SEARCH_MARGIN:-SEARCH_MARGIN, SEARCH_MARGIN:-SEARCH_MARGIN]
    is_open = 1 - np.minimum(predicted[:, 0] + predicted[:, 1], 1)
    silhouette = template[:, 0] * template[:, 1]
    area = silhouette.sum((1, 2))
    open_area = (silhouette * is_open).sum((1, 2))
    shares[without] = np.where(area >= 1, open_area / np.maximum(area, 1), np.inf)
    return shares
