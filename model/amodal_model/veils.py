"""Veils: what hides objects without having a mask of its own.

A hand, a pole, a parked car that nobody asked for: where one hides an object, open background
seems to show. What an object usually shows is therefore remembered for longer than what was seen
last. Where it should show and does not, a small network judges whether it is hidden or has changed
its shape; what is judged hidden is covered by a veil, for that object alone. There the memory is
put back to what the object usually shows, and kept as under any other mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.memory import CROP_SIDE, MAP_NAMES
from amodal_model.templates import TEMPLATE_SIDE

SHOULD_SHOW = 0.4
"""Of what is usually seen: from there on a pixel should show the object."""
LEAST_MISSING = 0.03
"""Share of those pixels that must be missing for a veil to be looked for; and somewhere 3x3 of
them: rims of a pixel or two are a place or a contour that is a little off."""
LEAST_SHOWN = 8.0
"""Template pixels of an object that must show."""
STIFF_MISFIT = 0.1
"""Usual misfit of an object above which what is missing is taken for its bending by masks alone."""
RISE = 0.05
"""How far one frame's mask raises what is usually seen."""
FALL = 0.03
"""How far open background lowers it."""
FALL_VEILED = 0.01
"""The same behind a veil, that a wrong one goes in time."""
FIRST = 1.0
"""What is usually seen of an object after its first frame."""
VEIL_LOGIT = 0.2
"""Logit above which a missing pixel is taken to be hidden."""
SURE_LOGIT = 1.3
"""The same of objects that other masks cover too: what is missing is more often misplaced there."""
DOUBT_LOGIT = 0.0
"""Logit above which an object is not placed by a missing pixel: its veil would carry it along."""
SEEN_VEIL, SEEN_DOUBT = (0.75, 3.0), (0.25, 2.5)
"""The same where the judge has seen pictures: of who is alone in its window, and of others.

Where most is found and growth stays within .02, on held-out crossings without labels.
"""
SEEN_SHOULD_SHOW = 0.05
"""And from where on it is asked: whatever showed in the last seconds may be hidden, all of it."""
HIDES_MOST = 0.5
"""Share of what is usually seen of an object that a veil must hide for it to be behind one."""
_REMEMBERED = tuple(MAP_NAMES.index(name) for name in ("latest", "average", "keyframe"))


class Sighting(NamedTuple):
    """What there is to judge N objects by, on the 48x48 pixels of their windows.

    Attributes:
        rows: (N,) which of the tracks they are.
        window: (N, 4) where in the frame, see `geometry.Window`.
        usual: (N, 48, 48) what is usually seen of them, [0, 1].
        veil: (N, 48, 48) where the last frame's veil would be.
        latest: (N, 48, 48) what was seen last of them, [0, 1].
        seen: (N, 3, 48, 48) own mask, others, outside, [0, 1].
        context: (N, 6) see `memory.CONTEXT_NAMES`.
        usual_misfit: (N,) of each, see `track_state.Tracks`: what bends misfits always.
        looks: (N, 11, 48, 48) what pictures show there, see `pictures.LOOK_NAMES`.
        has_look: (N,) whether there is one of this frame and of the one before.
    """

    rows: np.ndarray
    window: np.ndarray
    usual: Float32[np.ndarray, "N 48 48"]
    veil: Bool[np.ndarray, "N 48 48"]
    latest: Float32[np.ndarray, "N 48 48"]
    seen: Float32[np.ndarray, "N 3 48 48"]
    context: Float32[np.ndarray, "N 6"]
    usual_misfit: Float32[np.ndarray, " N"]
    looks: UInt8[np.ndarray, "N 11 48 48"]
    has_look: Bool[np.ndarray, " N"]


VeilJudge = Callable[[Sighting], Float32[np.ndarray, "N 48 48"]]
"""Returns how likely each pixel that should show, and does not, is hidden: logits."""


class Doubts(NamedTuple):
    """The K of N objects of which so much is missing that a veil is looked for.

    Attributes:
        rows: (K,) which of the N they are.
        missing: (K, 48, 48) where they should show, and open background shows.
        is_covered: (K,) whether other masks cover them as well.
    """

    rows: np.ndarray
    missing: Bool[np.ndarray, "K 48 48"]
    is_covered: Bool[np.ndarray, " K"]


def ways_to_judge(has_look: Bool[np.ndarray, " N"]) -> Iterator[Bool[np.ndarray, " N"]]:
    """Yield how objects are judged, one way after the other: a veil is what either of them says.

    By masks alone all of them, those that are stiff; then, by what pictures show, who has some.
    """
    yield np.zeros_like(has_look)
    if has_look.any():
        yield has_look


def find_doubts(
    usual: Float32[np.ndarray, "N 48 48"],
    seen: Float32[np.ndarray, "N 3 48 48"],
    usual_misfit: Float32[np.ndarray, " N"],
    has_look: Bool[np.ndarray, " N"],
) -> Doubts:
    """Return of which objects enough is missing for the judge to be asked.

    Args:
        usual: what is usually seen of them, [0, 1].
        seen: own mask, others, outside, [0, 1].
        usual_misfit: of each, see `track_state.Tracks`.
        has_look: who is judged by pictures, and nobody else then; by masks where it is nobody.
    """
    own, covered = seen[:, 0], seen[:, 1] + seen[:, 2]
    should_show = usual > np.where(has_look, SEEN_SHOULD_SHOW, SHOULD_SHOW)[:, None, None]
    missing = should_show & (own < 0.5) & (covered < 0.5)
    is_asked = has_look if has_look.any() else usual_misfit < STIFF_MISFIT
    rows = np.flatnonzero(is_asked & _inner(missing).any((1, 2)))
    expected, shown = _areas(should_show[rows]), own[rows].sum((1, 2))
    under_masks = _areas(should_show[rows] & (covered[rows] > 0.5))
    least = LEAST_MISSING * expected
    shows_enough = has_look[rows] | (shown > LEAST_SHOWN)
    is_doubtful = (_areas(missing[rows]) > least) & shows_enough
    return Doubts(rows[is_doubtful], missing[rows[is_doubtful]], (under_masks > least)[is_doubtful])


def find_veils(
    doubts: Doubts, sighting: Sighting, judge: VeilJudge, *, in_doubt: bool = False
) -> Bool[np.ndarray, "K 48 48"]:
    """Return where veils hide the objects that are in doubt.

    Args:
        doubts: what is missing of them.
        sighting: of the same objects.
        judge: of what is missing.
        in_doubt: also where a veil is only possible, of objects that no other mask covers.
    """
    by_masks = np.where(doubts.is_covered, SURE_LOGIT, DOUBT_LOGIT if in_doubt else VEIL_LOGIT)
    # where others have masks, most of what hides an object has one too
    is_beside = sighting.seen[:, 1].any((1, 2))
    alone, beside = SEEN_DOUBT if in_doubt else SEEN_VEIL
    by_pictures = np.where(is_beside, beside, alone)
    least = np.where(sighting.has_look, by_pictures, by_masks)
    return np.asarray(doubts.missing & (judge(sighting) > least[:, None, None]), bool)


def hides_most(
    veils: Bool[np.ndarray, "N 48 48"], usual: Float32[np.ndarray, "N 48 48"]
) -> Bool[np.ndarray, " N"]:
    """Return for which objects most of what is usually seen lies behind their veil."""
    behind, whole = (usual * veils).sum((1, 2)), usual.sum((1, 2))
    return np.asarray(behind > HIDES_MOST * whole, bool)


def _areas(maps: Bool[np.ndarray, "N h w"]) -> np.ndarray:
    """Return how many pixels of each map are set: (N,)."""
    return np.array([np.count_nonzero(each) for each in maps], np.int64)


def _inner(maps: Bool[np.ndarray, "N 48 48"]) -> Bool[np.ndarray, "N 46 46"]:
    """Return which pixels are set with all eight around them, the outermost left out."""
    tall = maps[:, :-2] & maps[:, 1:-1] & maps[:, 2:]
    return np.asarray(tall[..., :-2] & tall[..., 1:-1] & tall[..., 2:], bool)


def renew(
    usual: Float32[np.ndarray, "N 48 48"],
    seen: Float32[np.ndarray, "N 3 48 48"],
    veils: Bool[np.ndarray, "N 48 48"],
    gap: float,
) -> Float32[np.ndarray, "N 48 48"]:
    """Return what is usually seen of objects after a frame; of those that do not show, as before.

    Args:
        usual: the same before the frame, [0, 1].
        seen: in the frame: own mask, others, outside, [0, 1].
        veils: where they were found to be hidden by what has no mask.
        gap: frames since the last step.
    """
    own, covered = seen[:, 0], seen[:, 1] + seen[:, 2]
    rise, fall, veiled = (np.float32(1 - (1 - rate) ** gap) for rate in (RISE, FALL, FALL_VEILED))
    change = own - usual
    rate = fall + (rise - fall) * (change > 0)
    rate[veils & (change <= 0)] = veiled
    rate *= 1 - covered
    rate[~own.any((1, 2))] = 0
    renewed = usual + rate * change
    is_first = ~usual.any((1, 2))
    renewed[is_first] = FIRST * own[is_first]
    return np.asarray(renewed, np.float32)


def halved(crop: Float32[np.ndarray, "N C S S"]) -> Float32[np.ndarray, "N C 48 48"]:
    """Return crops on the pixels of templates."""
    count, channels, side, _ = crop.shape
    # sides are even, so all crops can stand on each other as one picture
    small = cv2.resize(crop.reshape(-1, side), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return small.reshape(count, channels, side // 2, side // 2)


def cover_veiled(crop: Float32[np.ndarray, "N 3 S S"], veils: Bool[np.ndarray, "N 48 48"]) -> None:
    """Add veils, in place, to what covers objects in their crops."""
    for row in np.flatnonzero(veils.any((1, 2))).tolist():
        own, others, outside = crop[row]
        np.maximum(others, np.minimum(widened(veils[row]), 1 - own - outside), out=others)


def widened(veil: Bool[np.ndarray, "48 48"]) -> Float32[np.ndarray, "S S"]:
    """Return a veil on the pixels of crops, one of them wider: up to the mask that it touches."""
    large = cv2.resize(veil.view(np.uint8), (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_NEAREST)
    return cv2.dilate(large, np.ones((3, 3), np.uint8)).astype(np.float32)


def moved(
    maps: Float32[np.ndarray, "N 48 48"], theta: Float32[np.ndarray, "N 2 3"]
) -> Float32[np.ndarray, "N 48 48"]:
    """Return maps of the old windows in the new ones, see `geometry.old_from_new`."""
    changed = np.flatnonzero((theta != _SAME).any((1, 2))).tolist()
    if changed:
        maps = maps.copy()
    for row in changed:
        maps[row] = _warp(maps[row], theta[row], cv2.WARP_INVERSE_MAP)
    return maps


def recalled(
    veils: Bool[np.ndarray, "N 48 48"], theta: Float32[np.ndarray, "N 2 3"]
) -> dict[int, Float32[np.ndarray, "S S"]]:
    """Return what the memory must hold of objects behind veils, in their old windows, by row."""
    found = {}
    for row in np.flatnonzero(veils.any((1, 2))).tolist():
        before = _warp(veils[row].astype(np.float32), theta[row], 0)
        found[row] = cv2.resize(before, (CROP_SIDE, CROP_SIDE)).astype(np.float32)
    return found


def recall(
    maps: Float32[np.ndarray, "N 4 S S"], silhouettes: Mapping[int, Float32[np.ndarray, "S S"]]
) -> None:
    """Put back into the memory's maps, in place, what `recalled` found."""
    for row, silhouette in silhouettes.items():
        for channel in _REMEMBERED:
            np.maximum(maps[row, channel], silhouette, out=maps[row, channel])


_SAME = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def _warp(
    values: Float32[np.ndarray, "48 48"], theta: Float32[np.ndarray, "2 3"], flags: int
) -> Float32[np.ndarray, "48 48"]:
    """Return a map by the window's change, given for coordinates of -1 to 1, in its pixels."""
    (scale_x, _, shift_x), (_, scale_y, shift_y) = theta.tolist()
    middle, half = (TEMPLATE_SIDE - 1) / 2, TEMPLATE_SIDE / 2
    along = [scale_x, 0, middle * (1 - scale_x) + half * shift_x]
    across = [0, scale_y, middle * (1 - scale_y) + half * shift_y]
    matrix = np.array([along, across])
    side = (TEMPLATE_SIDE, TEMPLATE_SIDE)
    return np.asarray(cv2.warpAffine(values, matrix, side, flags=cv2.INTER_LINEAR | flags))
