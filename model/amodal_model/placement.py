"""Placement: put the remembered silhouette where the object now is.

Each frame the motion of the object predicts a window; the remembered silhouette is registered to
the masks seen there, and the window is moved by what was found. Pixels under other objects or
outside the image say nothing, so only the object's *own* contour pulls; a fully hidden object is
pushed out of the background that is seen to be empty, and otherwise coasts. Where what was found
leaves much of the visible mask unexplained, other places are searched. Where the masks
leave a direction open, the motion prior decides: the update is a maximum a posteriori one, and
its variance is carried to the next frame.

Units: template pixels are 1/48 of the window's side.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from amodal_model.place_refinement import largest_variance, refine, resample
from amodal_model.place_search import search_leap, search_shift
from amodal_model.templates import SEARCH_MARGIN, TEMPLATE_SIDE

_MIDDLE = np.s_[:, SEARCH_MARGIN:-SEARCH_MARGIN, SEARCH_MARGIN:-SEARCH_MARGIN]
"""What a template sees of a search crop before it is displaced."""
_REFINEMENTS = 4
_SETTLED = 0.05
"""A step that moves no contour by more, in template pixels, is the last."""
_SETTLED_UNITS = np.array([1, 1, TEMPLATE_SIDE / 3, TEMPLATE_SIDE / 3], np.float32)
_LEAP_SHOWN = 0.3
"""Share of the remembered silhouette's area that must show for a leap."""
_LEAP_PRIOR = 0.1
"""How much the motion still counts after a leap."""
_SEARCH_FROM = 8.0
"""Standard deviation of the place, template pixels, from which displacements are searched."""


class PlacementConfig(NamedTuple):
    """How much the masks are believed against the motion.

    Attributes:
        mask_noise: variance of one template pixel's disagreement, pixels of mask area.
        max_log_scale: largest change of the log scale in one frame.
        max_turn: largest turn in one frame, radians.
        doubt_from: misfit (`Registration`) from which other places are looked at as well.
        doubt_usual: how many times the object's usual misfit it must be for that, too: what walks
            or bends misfits always, and is nowhere else for it.
        leap_gain: share of the misfit that another place may leave at most to be taken.
    """

    mask_noise: float = 0.7
    max_log_scale: float = 0.06
    max_turn: float = 0.12
    doubt_from: float = 0.1
    doubt_usual: float = 1.0
    leap_gain: float = 0.7


class Prior(NamedTuple):
    """What is expected of objects before the masks are looked at.

    Attributes:
        variance: (N,) of the place along each axis, template pixels².
        scale_variance: (N,) of the log scale.
        turn_variance: (N,) of the turn, radians².
        shift_xy: (N, 2) where the motion has them, template pixels from the searched windows'
            middle. It counts where displacements are searched.
        misfit: (N,) the usual one, see `Registration`.
    """

    variance: Float32[np.ndarray, " N"]
    scale_variance: Float32[np.ndarray, " N"]
    turn_variance: Float32[np.ndarray, " N"]
    shift_xy: Float32[np.ndarray, "N 2"]
    misfit: Float32[np.ndarray, " N"]


class Registration(NamedTuple):
    """Where the remembered silhouettes were found, relative to the searched windows.

    Attributes:
        shift_xy: (N, 2) displacement, template pixels.
        log_scale: (N,) natural logarithm of the size change.
        turn: (N,) radians, as `Window.angle`.
        variance: (N,) variance of the displacement along its less certain axis, template pixels².
        misfit: (N,) what the placed silhouette does not explain of the masks around it, as a share
            of the visible mask, at most 1; 0 where nothing shows. Pixels of the mask that lie where
            nothing is known count half.
    """

    shift_xy: Float32[np.ndarray, "N 2"]
    log_scale: Float32[np.ndarray, " N"]
    turn: Float32[np.ndarray, " N"]
    variance: Float32[np.ndarray, " N"]
    misfit: Float32[np.ndarray, " N"]


def register(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    search: Float32[np.ndarray, "N 3 72 72"],
    prior: Prior,
    config: PlacementConfig,
) -> Registration:
    """Register remembered silhouettes to the masks around their predicted windows.

    Args:
        silhouette: the remembered silhouette, [0, 1].
        known: where it is known, [0, 1]; elsewhere it says nothing.
        search: (own, others, outside) over 1.5 times the predicted window, [0, 1].
        prior: what the motion says of them, and their usual misfit.
        config: weights of the masks against the motion.
    """
    if len(silhouette) == 0:
        nothing = np.zeros(0, np.float32)
        return Registration(np.zeros((0, 2), np.float32), nothing, nothing, nothing, nothing)
    own = search[:, 0]
    open_part = 1 - np.minimum(search[:, 1] + search[:, 2], 1)
    masks, remembered = (own, open_part), (silhouette, known)
    lost = prior.variance > _SEARCH_FROM**2
    place, views = _begin(remembered, masks, prior, lost, config)
    variances = [prior.variance, prior.variance, prior.scale_variance, prior.turn_variance]
    precision = 1 / np.stack(variances, 1)
    settled = _settle(remembered, masks, (place, views, precision), config)
    doubt_from = np.maximum(config.doubt_from, config.doubt_usual * prior.misfit)
    doubt_from[lost] = np.inf
    _leap_where_doubtful(settled, remembered, masks, (precision, doubt_from), config)
    place, area = settled.place, own.sum((1, 2))
    misfit = np.where(area > 0, settled.missed / np.maximum(area, 1), 0)
    variance = largest_variance(settled.hessian)
    return Registration(place[:, :2], place[:, 2], place[:, 3], variance, np.minimum(misfit, 1))


class _Settled(NamedTuple):
    """Places (dx, dy, log scale, turn), their precision, and what they do not explain, pixels."""

    place: Float32[np.ndarray, "N 4"]
    hessian: Float32[np.ndarray, "N 4 4"]
    missed: Float32[np.ndarray, " N"]


_Templates = tuple[Float32[np.ndarray, "N 48 48"], Float32[np.ndarray, "N 48 48"]]
_Searched = tuple[Float32[np.ndarray, "N 72 72"], Float32[np.ndarray, "N 72 72"]]


def _begin(
    remembered: _Templates,
    masks: _Searched,
    prior: Prior,
    lost: Bool[np.ndarray, " N"],
    config: PlacementConfig,
) -> tuple[Float32[np.ndarray, "N 4"], _Templates]:
    """Return the places to refine from, and what the templates see there.

    Those of lost objects are searched: refinement cannot reach them. Others would leap to chance
    agreements.
    """
    (silhouette, known), (own, open_part) = remembered, masks
    place = np.zeros((len(own), 4), np.float32)
    if not lost.any():
        return place, (own[_MIDDLE], open_part[_MIDDLE])
    motion = prior.shift_xy[lost], prior.variance[lost]
    seen = own[lost], open_part[lost]
    place[lost, :2] = search_shift(silhouette[lost], known[lost], *seen, motion, config.mask_noise)
    return place, resample(own, open_part, range(len(own)), place)


def _settle(
    remembered: _Templates,
    masks: _Searched,
    start: tuple[Float32[np.ndarray, "N 4"], _Templates, Float32[np.ndarray, "N 4"]],
    config: PlacementConfig,
) -> _Settled:
    """Refine places until they settle.

    Args:
        remembered: silhouettes, and where they are known.
        masks: own mask and open part of the search crops.
        start: the places, what the templates see there, and the precision of the prediction.
        config: weights of the masks.
    """
    (silhouette, known), (place, views, precision) = remembered, start
    place, count = place.copy(), len(place)
    hessian = np.empty((count, 4, 4), np.float32)
    limits = np.array([config.max_log_scale, config.max_turn], np.float32)
    # what each template saw when it last moved
    seen = np.array(views[0]), np.array(views[1])
    moving = np.arange(count)
    rows: Any = slice(None)  # the first time nothing need be copied
    for _ in range(_REFINEMENTS):
        now = place[rows], precision[rows]
        step, hessian[rows] = refine(silhouette[rows], known[rows], views, now, config.mask_noise)
        place[rows] += step
        place[:, 2:] = np.clip(place[:, 2:], -limits, limits)
        moving = moving[np.abs(step * _SETTLED_UNITS).max(1) > _SETTLED]
        if not len(moving):
            break
        rows = moving
        views = resample(*masks, moving.tolist(), place[moving])
        seen[0][rows], seen[1][rows] = views
    missed = _missed(remembered, seen, masks[0].sum((1, 2)))
    return _Settled(place, hessian, missed)


def _missed(
    remembered: _Templates, views: _Templates, area: Float32[np.ndarray, " N"]
) -> Float32[np.ndarray, " N"]:
    """Return how many template pixels of the masks the placed silhouettes do not explain."""
    (silhouette, known), (own, open_part) = remembered, views
    told = known * open_part
    disagreement = np.abs(own - silhouette)
    both = np.einsum("nhw,nhw->n", disagreement, told)
    return np.asarray(both + 0.5 * (area - np.einsum("nhw,nhw->n", own, known)), np.float32)


def _leap_where_doubtful(
    settled: _Settled,
    remembered: _Templates,
    masks: _Searched,
    doubt: tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, " N"]],
    config: PlacementConfig,
) -> None:
    """Take other places, in place, for objects whose masks are explained much better there.

    Args:
        settled: where the objects were found.
        remembered: silhouettes, and where they are known.
        masks: own mask and open part of the search crops.
        doubt: precision of the prediction, and the misfit from which it is doubted.
        config: how much better.
    """
    (precision, doubt_from), area = doubt, masks[0].sum((1, 2))
    is_doubtful = settled.missed > doubt_from * np.maximum(area, 1)
    is_doubtful &= area > np.maximum(_LEAP_SHOWN * remembered[0].sum((1, 2)), 8)
    rows = np.flatnonzero(is_doubtful)
    if not len(rows):
        return
    shifts, left = search_leap(*_picked(remembered, rows), *_picked(masks, rows))
    # a place that is not better before it is refined is hardly ever so afterwards
    is_better = left < settled.missed[rows]
    rows, shifts = rows[is_better], shifts[is_better]
    if not len(rows):
        return
    leapt = _leap(_picked(remembered, rows), _picked(masks, rows), shifts, precision[rows], config)
    is_taken = leapt.missed < config.leap_gain * settled.missed[rows]
    for field, other in zip(settled, leapt, strict=True):
        field[rows[is_taken]] = other[is_taken]


def _picked(
    maps: tuple[Float32[np.ndarray, "N h w"], Float32[np.ndarray, "N h w"]], rows: np.ndarray
) -> tuple[Float32[np.ndarray, "M h w"], Float32[np.ndarray, "M h w"]]:
    """Return both maps of some objects."""
    return maps[0][rows], maps[1][rows]


def _leap(
    remembered: _Templates,
    masks: _Searched,
    shifts: Float32[np.ndarray, "N 2"],
    precision: Float32[np.ndarray, "N 4"],
    config: PlacementConfig,
) -> _Settled:
    """Refine from where the masks are explained best, whatever the motion says of it.

    Args:
        remembered: silhouettes, and where they are known.
        masks: own mask and open part of the search crops.
        shifts: where that is.
        precision: of the prediction; it counts little here.
        config: weights of the masks.
    """
    place = np.zeros((len(shifts), 4), np.float32)
    place[:, :2] = shifts
    views = resample(*masks, range(len(place)), place)
    return _settle(remembered, masks, (place, views, _LEAP_PRIOR * precision), config)
