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

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32

TEMPLATE_SIDE = 48
"""Side of the remembered silhouette, pixels; it spans the window."""
SEARCH_SIDE = 72
"""Side of the searched crop, pixels of the same size; it spans 1.5 windows."""
SEARCH_RATIO = SEARCH_SIDE / TEMPLATE_SIDE
_MARGIN = (SEARCH_SIDE - TEMPLATE_SIDE) // 2
_REFINEMENTS = 4
_SETTLED = 0.05
"""A step that moves no contour by more, in template pixels, is the last."""
_SETTLED_UNITS = np.array([1, 1, TEMPLATE_SIDE / 3, TEMPLATE_SIDE / 3], np.float32)
_LEAP_SHOWN = 0.3
"""Share of the remembered silhouette's area that must show for a leap."""
_LEAP_COST = 0.02
"""What a leap of one template pixel costs, squared, in pixels left unexplained."""
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
    count = silhouette.shape[0]
    place = np.zeros((count, 4), np.float32)
    if count == 0:
        nothing = place[:, 0]
        return Registration(place[:, :2], nothing, nothing, nothing, nothing)
    own = search[:, 0]
    open_part = 1 - np.minimum(search[:, 1] + search[:, 2], 1)
    views = own[_MIDDLE], open_part[_MIDDLE]
    # a search would leap to chance agreements that the refinement cannot reach
    lost = prior.variance > _SEARCH_FROM**2
    if lost.any():
        seen = np.maximum(1 - _grow(1 - open_part[lost]), own[lost]).astype(np.float32)
        picked = silhouette[lost], known[lost]
        motion = prior.shift_xy[lost], prior.variance[lost]
        place[lost, :2] = _search_shift(*picked, own[lost], seen, motion, config)
        views = _resample(own, open_part, range(count), place)
    variances = [prior.variance, prior.variance, prior.scale_variance, prior.turn_variance]
    precision = 1 / np.stack(variances, 1)
    remembered, masks = (silhouette, known), (own, open_part)
    settled = _settle(remembered, masks, (place, views, precision), config)
    doubt_from = np.maximum(config.doubt_from, config.doubt_usual * prior.misfit)
    doubt_from[lost] = np.inf
    _leap_where_doubtful(settled, remembered, masks, (precision, doubt_from), config)
    place, area = settled.place, own.sum((1, 2))
    misfit = np.where(area > 0, settled.missed / np.maximum(area, 1), 0)
    variance = _largest_variance(settled.hessian)
    return Registration(place[:, :2], place[:, 2], place[:, 3], variance, np.minimum(misfit, 1))


class _Settled(NamedTuple):
    """Places (dx, dy, log scale, turn), their precision, and what they do not explain, pixels."""

    place: Float32[np.ndarray, "N 4"]
    hessian: Float32[np.ndarray, "N 4 4"]
    missed: Float32[np.ndarray, " N"]


_Templates = tuple[Float32[np.ndarray, "N 48 48"], Float32[np.ndarray, "N 48 48"]]
_Searched = tuple[Float32[np.ndarray, "N 72 72"], Float32[np.ndarray, "N 72 72"]]


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
        step, hessian[rows] = _refine(silhouette[rows], known[rows], views, now, config)
        place[rows] += step
        place[:, 2:] = np.clip(place[:, 2:], -limits, limits)
        moving = moving[np.abs(step * _SETTLED_UNITS).max(1) > _SETTLED]
        if not len(moving):
            break
        rows = moving
        views = _resample(*masks, moving.tolist(), place[moving])
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
    shifts, left = _search_leap(*_picked(remembered, rows), *_picked(masks, rows))
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
    views = _resample(*masks, range(len(place)), place)
    return _settle(remembered, masks, (place, views, _LEAP_PRIOR * precision), config)


def _search_leap(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 72 72"],
    open_part: Float32[np.ndarray, "N 72 72"],
) -> tuple[Float32[np.ndarray, "N 2"], Float32[np.ndarray, " N"]]:
    """Return the displacement on a grid of two template pixels that leaves least unexplained.

    Unlike `_search_shift` it has to explain all of the visible mask, so that sliding under an
    occluder does not pay. Returned with what it leaves, template pixels.
    """
    silhouette, known, own, open_part = (
        _halve(maps) for maps in (silhouette, known, own, open_part)
    )
    background = np.maximum(open_part - own, 0)
    told_object, doubt = known * silhouette, known * (0.5 - silhouette)
    side = _MARGIN + 1
    offsets = 2 * (np.arange(side, dtype=np.float32) - side // 2)
    distance = _LEAP_COST * (offsets[:, None] ** 2 + offsets[None, :] ** 2)
    shifts, left = np.empty((len(own), 2), np.float32), np.empty(len(own), np.float32)
    for index in range(len(own)):
        found = cv2.matchTemplate(own[index], doubt[index], cv2.TM_CCORR)
        found += cv2.matchTemplate(background[index], told_object[index], cv2.TM_CCORR)
        # one pixel here is four of the template's
        cost = 4 * (found + 0.5 * own[index].sum())
        best = int((cost + distance).argmin())
        shifts[index] = offsets[best % side], offsets[best // side]
        left[index] = cost.flat[best]
    return shifts, left


def _grow(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h w"]:
    kernel = np.ones((3, 3), np.uint8)
    return np.stack([cv2.dilate(one, kernel) for one in maps]).astype(np.float32)


def _halve(maps: Float32[np.ndarray, "N h w"]) -> Float32[np.ndarray, "N h2 w2"]:
    """Return the means of two by two pixels; as one tall image, it is quick."""
    count, height, width = maps.shape
    tall = cv2.resize(
        maps.reshape(-1, width),
        (width // 2, count * height // 2),
        interpolation=cv2.INTER_AREA,
    )
    return np.asarray(tall, np.float32).reshape(count, height // 2, width // 2)


def _search_shift(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 72 72"],
    seen: Float32[np.ndarray, "N 72 72"],
    motion: tuple[Float32[np.ndarray, "N 2"], Float32[np.ndarray, " N"]],
    config: PlacementConfig,
) -> Float32[np.ndarray, "N 2"]:
    """Return the best displacement on a grid of two template pixels.

    The disagreement sum(seen * known * |T - V|) over all displacements is two correlations.
    The motion says which displacement it expects, and with what variance.
    """
    silhouette, known, own, seen = (_halve(maps) for maps in (silhouette, known, own, seen))
    object_part, visible_part, gain = silhouette * known, own * seen, seen * (1 - 2 * own)
    side = _MARGIN + 1
    disagreement = np.empty((len(own), side, side), np.float32)
    for index in range(len(own)):
        disagreement[index] = cv2.matchTemplate(
            visible_part[index], known[index], cv2.TM_CCORR
        ) + cv2.matchTemplate(gain[index], object_part[index], cv2.TM_CCORR)
    offsets = 2 * (np.arange(side, dtype=np.float32) - side // 2)
    expected, variance = motion
    across = (offsets - expected[:, :1]) ** 2
    down = (offsets - expected[:, 1:]) ** 2
    distance = down[:, :, None] + across[:, None, :]
    # one pixel here is four of the template's
    energy = 4 * disagreement / config.mask_noise + distance / variance[:, None, None]
    best = energy.reshape(len(own), -1).argmin(1)
    return np.stack([offsets[best % side], offsets[best // side]], 1)


def _resample(
    own: Float32[np.ndarray, "N 72 72"],
    open_part: Float32[np.ndarray, "N 72 72"],
    rows: Sequence[int],
    place: Float32[np.ndarray, "M 4"],
) -> tuple[Float32[np.ndarray, "M 48 48"], Float32[np.ndarray, "M 48 48"]]:
    """Return own and open part of some search crops as the displaced, scaled template sees them."""
    shape = (len(rows), TEMPLATE_SIDE, TEMPLATE_SIDE)
    views = np.empty(shape, np.float32), np.empty(shape, np.float32)
    middle, center = SEARCH_SIDE / 2 - 0.5, TEMPLATE_SIDE / 2 - 0.5
    matrix = np.zeros((2, 3), np.float32)
    scales = np.exp(place[:, 2])
    along, across = scales * np.cos(place[:, 3]), scales * np.sin(place[:, 3])
    matrices = np.stack([along, -across, across, along], 1).reshape(-1, 2, 2)
    starts = place[:, :2] + (middle - center * matrices.sum(2))
    for index, row in enumerate(rows):
        matrix[:, :2], matrix[:, 2] = matrices[index], starts[index]
        for crop, view in zip((own[row], open_part[row]), views, strict=True):
            cv2.warpAffine(crop, matrix, shape[1:], dst=view[index], flags=_WARP)
    return views


_MIDDLE = np.s_[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
"""What a template sees of a search crop before it is displaced."""
_WARP = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
_BLUR = 5
_REACH = _BLUR // 2
_FROM_CENTER = np.arange(TEMPLATE_SIDE, dtype=np.float32) - TEMPLATE_SIDE / 2 + 0.5
# as large as the maps: numpy is slower where it repeats a row
_ACROSS = np.tile(_FROM_CENTER, (TEMPLATE_SIDE, 1))
_DOWN = np.ascontiguousarray(_ACROSS.T)


def _refine(
    silhouette: Float32[np.ndarray, "N 48 48"],
    known: Float32[np.ndarray, "N 48 48"],
    views: tuple[Float32[np.ndarray, "N 48 48"], Float32[np.ndarray, "N 48 48"]],
    current: tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, "N 4"]],
    config: PlacementConfig,
) -> tuple[Float32[np.ndarray, "N 4"], Float32[np.ndarray, "N 4 4"]]:
    """Return one step (dx, dy, log scale, turn) and the precision of what it leads to.

    Source: efficient second-order minimisation, Benhimane and Malis 2004, with a prior.

    Args:
        silhouette: the remembered silhouette, [0, 1].
        known: where it is known, [0, 1].
        views: own mask and open part where the template is now.
        current: where that is (dx, dy, log scale, turn), and the precision of the prediction.
        config: weight of the masks.
    """
    place, precision = current
    count = len(known)
    weight = views[1] * known
    system = _system(silhouette, views[0], weight).reshape(5, count, -1)
    weighted = system[:4] * weight.reshape(count, -1)
    products = weighted.transpose(1, 0, 2) @ system.transpose(1, 2, 0)
    # the blur spreads one contour over five pixels: their errors are not independent
    products *= np.float32(_BLUR / config.mask_noise)
    products.reshape(count, 20)[:, ::6] += precision  # the diagonal
    hessian = products[:, :, :4]
    step = np.linalg.solve(hessian, (products[:, :, 4] - precision * place)[..., None])[..., 0]
    step[:, :2] = np.clip(step[:, :2], -2, 2)
    return step.astype(np.float32), hessian


def _system(
    silhouette: Float32[np.ndarray, "N 48 48"],
    own: Float32[np.ndarray, "N 48 48"],
    weight: Float32[np.ndarray, "N 48 48"],
) -> Float32[np.ndarray, "5 N 48 48"]:
    """Return each pixel's change with (x, y, log scale, turn), and its error."""
    # both are blurred over what can be compared, and over no more: the occluder's contour must
    # not look like the object's
    maps = np.empty((len(weight), 3, TEMPLATE_SIDE + 2 * _REACH, TEMPLATE_SIDE), np.float32)
    share, seen, remembered = maps[:, :, _REACH:-_REACH].transpose(1, 0, 2, 3)
    share[:] = weight
    np.multiply(own, weight, out=seen)
    np.multiply(silhouette, weight, out=remembered)
    _blur(maps)
    mass = 1 / np.maximum(share, np.float32(0.04))
    # the mean of both gradients converges faster, and moves a silhouette out of open background
    both = (seen + remembered) * mass
    both *= np.float32(0.25)
    system = np.empty((5, *weight.shape), np.float32)
    across, down, outward, turned, error = system
    _difference(both, across)
    np.subtract(both[:, 2:], both[:, :-2], out=down[:, 1:-1])
    down[:, :: TEMPLATE_SIDE - 1] = 0
    # the log scale moves a pixel by its distance from the centre, in template pixels
    np.multiply(across, _ACROSS, out=outward)
    outward += np.multiply(down, _DOWN, out=both)
    np.multiply(down, _ACROSS, out=turned)
    turned -= np.multiply(across, _DOWN, out=both)
    np.subtract(remembered, seen, out=error)
    error *= mass
    return system


def _blur(maps: Float32[np.ndarray, "N 3 52 48"]) -> None:
    """Blur maps in place, those of one object as one tall image: sums run on from map to map.

    The rows above and below each are the mirror of those inside, as OpenCV has it at an edge.
    """
    maps[:, :, :_REACH] = maps[:, :, 2 * _REACH : _REACH : -1]
    maps[:, :, -_REACH:] = maps[:, :, -_REACH - 2 : -2 * _REACH - 2 : -1]
    for tall in maps.reshape(len(maps), -1, TEMPLATE_SIDE):
        cv2.blur(tall, (_BLUR, _BLUR), dst=tall)


def _difference(
    values: Float32[np.ndarray, "N 48 48"], across: Float32[np.ndarray, "N 48 48"]
) -> None:
    """Fill in the difference between the pixels right and left of each, 0 at the edges."""
    flat = values.reshape(-1)
    np.subtract(flat[2:], flat[:-2], out=across.reshape(-1)[1:-1])
    across[:, :, :: TEMPLATE_SIDE - 1] = 0


def _largest_variance(precision: Float32[np.ndarray, "N 4 4"]) -> Float32[np.ndarray, " N"]:
    """Return the variance of the displacement along its less certain axis."""
    covariance = np.linalg.inv(precision)[:, :2, :2]
    middle = (covariance[:, 0, 0] + covariance[:, 1, 1]) / 2
    split = (covariance[:, 0, 0] - covariance[:, 1, 1]) / 2
    largest = middle + np.sqrt(split**2 + covariance[:, 0, 1] ** 2)
    return np.asarray(largest, np.float32)
