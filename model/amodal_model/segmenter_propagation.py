"""Objects followed by prompting a segmenter frame by frame with where they should be.

Each object is looked for at its *reference*: its last mask, moved on; of a hidden object the
silhouette that the amodal state expects, or for a while the last whole mask, moved on. The decoder
offers candidates; one is taken only if it is scored well, agrees with the reference and is not
another object or, of one that comes back, of other colours: that would be the occluder.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.masks import (
    BoxedMask,
    empty_mask,
    intersect_boxes,
    mask_iou,
    overlap_area,
    shift_mask,
    tighten,
)
from amodal_model.segmenter_image import InputFit, frame_values
from amodal_model.segmenter_sam2 import BOTTOM_RIGHT, TOP_LEFT, Answer, Hint
from amodal_model.visible_source import Expectation

COLOUR_BINS = 4
MAX_FRAMES_UNAIDED = 30.0
"""Frames that a hidden object is looked for where no amodal state says where it is."""
BOX_MARGIN = 0.05
VELOCITY_GAIN = 0.5
STEADY = 1.1
"""Ratio of areas up to which a displacement of the mask is one of the object."""
WHOLE_SHARE = 0.9
"""Of the area of the whole mask, from which a new mask takes its place; fades with its age."""
WHOLE_FADE = 0.99
COLOUR_GAIN = 0.1


class FollowedObject(NamedTuple):
    """What is remembered of one object.

    Attributes:
        track_id: of the object.
        mask: its last visible mask.
        whole: its last mask that was not much smaller than those before.
        whole_age: frames since that one.
        velocity: (x, y) of the mask's centre, pixels a frame.
        colours: (64,) share of its pixels in each of 4x4x4 bins of RGB.
        frames_hidden: frames since that mask; 0 where it is of the last frame.
    """

    track_id: int
    mask: BoxedMask
    whole: BoxedMask
    whole_age: float
    velocity: tuple[float, float]
    colours: Float32[np.ndarray, " 64"]
    frames_hidden: float


class Gate(NamedTuple):
    """What a candidate must be to be taken.

    Attributes:
        least_score: predicted IoU.
        mask: logit from which a pixel belongs to the mask.
        least_iou: with the reference, of an object that was visible.
        least_inside: share of the candidate inside the expected silhouette and its surroundings.
        most_growth: area against the reference's.
        most_shared: share of the candidate that others hold.
        least_colour: agreement of colours, of an object that comes back, [0, 1].
    """

    least_score: float = 0.5
    mask: float = 0.0
    least_iou: float = 0.3
    least_inside: float = 0.7
    most_growth: float = 2.5
    most_shared: float = 0.5
    least_colour: float = 0.6


class Place(NamedTuple):
    """Where an object is looked for.

    Attributes:
        reference: the mask that it may have.
        whole: the mask that it may have where nothing hides it.
        allowed: where it may lie; ``None`` for anywhere.
        colours: that it had; ``None`` where they need not agree.
        is_back: whether it was hidden.
    """

    reference: BoxedMask
    whole: BoxedMask
    allowed: BoxedMask | None
    colours: Float32[np.ndarray, " 64"] | None
    is_back: bool


class Found(NamedTuple):
    """A candidate that was taken.

    Attributes:
        mask: of the frame.
        values: logits over the box of the mask.
    """

    mask: BoxedMask
    values: Float32[np.ndarray, "h w"]


def place_of(known: FollowedObject, expectation: Expectation | None) -> Place | None:
    """Return where an object is looked for, ``None`` where nobody knows."""
    is_back = known.frames_hidden > 0
    whole = _moved(known.whole, known.velocity, known.whole_age + 1)
    reference = whole if is_back else _moved(known.mask, known.velocity, 1)
    allowed = None
    if expectation is not None and expectation.silhouette.area:
        whole = expectation.silhouette
        allowed = _grow(whole, 2 * expectation.place_std_px)
        if is_back or not overlap_area(reference, allowed):
            reference = whole
    elif known.frames_hidden > MAX_FRAMES_UNAIDED:
        return None
    if not reference.area:
        return None
    return Place(reference, whole, allowed, known.colours if is_back else None, is_back)


def hint_at(place: Place) -> Hint:
    """Return the prompt for a place: the box of the reference with a margin, and its mask.

    The mask of an object that was hidden is its whole silhouette, of which only a part may show:
    then the box alone is the prompt.
    """
    x0, y0, x1, y1 = place.reference.bbox_xyxy
    height, width = place.reference.frame_size
    x, y = BOX_MARGIN * (x1 - x0), BOX_MARGIN * (y1 - y0)
    corners = [[max(x0 - x, 0), max(y0 - y, 0)], [min(x1 + x, width), min(y1 + y, height)]]
    labels = np.array([TOP_LEFT, BOTTOM_RIGHT], np.float32)
    return Hint(np.array(corners, np.float32), labels, None if place.is_back else place.reference)


def best_candidate(answer: Answer, fit: InputFit, threshold: float) -> Found:
    """Return the candidate with the best score: what a client's prompt means."""
    scores = np.nan_to_num(answer.scores, nan=-1.0)
    return _found(answer.grids[int(scores.argmax())], fit, threshold)


def choose_candidate(
    answer: Answer,
    fit: InputFit,
    image: UInt8[np.ndarray, "H W 3"],
    place: Place,
    others: list[BoxedMask],
    gate: Gate,
) -> Found | None:
    """Return the candidate that is the object, ``None`` where none is.

    Args:
        answer: of the decoder.
        fit: where the frame lies in its input.
        image: the frame.
        place: where the object was looked for.
        others: masks that other objects have in this frame.
        gate: what a candidate must be.
    """
    best, best_rating = None, 0.0
    for grid, score in zip(answer.grids, answer.scores, strict=True):
        # false for NaN too
        if not score >= gate.least_score:
            continue
        found = _found(grid, fit, gate.mask)
        if not _passes(found.mask, place, others, gate):
            continue
        if place.colours is not None and gate.least_colour > colour_agreement(
            place.colours, colours_of(image, found.mask)
        ):
            continue
        agreement = mask_iou(found.mask, place.reference)
        rating = float(score) * (1.0 if place.is_back else agreement)
        if rating > best_rating:
            best, best_rating = found, rating
    return best


def _passes(mask: BoxedMask, place: Place, others: list[BoxedMask], gate: Gate) -> bool:
    area = mask.area
    largest = max(place.reference.area, place.whole.area)
    if not area or area > gate.most_growth * largest:
        return False
    if place.allowed is not None and overlap_area(mask, place.allowed) < gate.least_inside * area:
        return False
    if sum(overlap_area(mask, other) for other in others) > gate.most_shared * area:
        return False
    # an object that comes out grows fast, but within what was seen of it before
    comes_out = overlap_area(mask, place.whole) >= gate.least_inside * area
    if place.is_back:
        return comes_out
    common = overlap_area(mask, place.reference)
    is_more = comes_out and common >= gate.least_inside * place.reference.area
    return is_more or mask_iou(mask, place.reference) >= gate.least_iou


def share_pixels(found: dict[int, Found]) -> dict[int, BoxedMask]:
    """Return masks without common pixels: each goes to the object that is surest of it."""
    if not found:
        return {}
    frame_size = next(iter(found.values())).mask.frame_size
    best = np.full(frame_size, -np.inf, np.float32)
    for one in found.values():
        x0, y0, x1, y1 = one.mask.bbox_xyxy
        window = best[y0:y1, x0:x1]
        window[one.mask.pixels] = np.maximum(window, one.values)[one.mask.pixels]
    taken = np.zeros(frame_size, bool)
    shared = {}
    for key, one in found.items():
        x0, y0, x1, y1 = one.mask.bbox_xyxy
        own = one.mask.pixels & (one.values >= best[y0:y1, x0:x1]) & ~taken[y0:y1, x0:x1]
        taken[y0:y1, x0:x1] |= own
        shared[key] = _tight(own, one.mask)
    return shared


def see(
    known: FollowedObject, mask: BoxedMask, colours: Float32[np.ndarray, " 64"]
) -> FollowedObject:
    """Return what is remembered of an object after a frame that shows it."""
    frames = known.frames_hidden + 1
    area, old_area = mask.area, known.mask.area
    velocity = known.velocity
    # the centre of a mask that is being hidden moves otherwise than the object
    if max(area, old_area) <= STEADY * min(area, old_area):
        moved = np.subtract(_centre(mask), _centre(known.mask)) / frames
        x, y = (np.array(velocity) + VELOCITY_GAIN * (moved - velocity)).tolist()
        velocity = (x, y)
    is_whole = area >= WHOLE_SHARE * WHOLE_FADE**known.whole_age * known.whole.area
    return known._replace(
        mask=mask,
        whole=mask if is_whole else known.whole,
        whole_age=0.0 if is_whole else known.whole_age + 1,
        velocity=velocity,
        colours=known.colours + np.float32(COLOUR_GAIN) * (colours - known.colours),
        frames_hidden=0.0,
    )


def miss(known: FollowedObject) -> FollowedObject:
    """Return what is remembered of an object after a frame that does not show it."""
    return known._replace(whole_age=known.whole_age + 1, frames_hidden=known.frames_hidden + 1)


def colours_of(image: UInt8[np.ndarray, "H W 3"], mask: BoxedMask) -> Float32[np.ndarray, " 64"]:
    """Return the share of a mask's pixels in each of 4x4x4 bins of RGB."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    pixels = image[y0:y1, x0:x1][mask.pixels].astype(np.int64) * COLOUR_BINS // 256
    bins = (pixels[:, 0] * COLOUR_BINS + pixels[:, 1]) * COLOUR_BINS + pixels[:, 2]
    counts = np.bincount(bins, minlength=COLOUR_BINS**3)
    return (counts / max(len(bins), 1)).astype(np.float32)


def colour_agreement(a: Float32[np.ndarray, " 64"], b: Float32[np.ndarray, " 64"]) -> float:
    """Return the Bhattacharyya coefficient of two shares: 1 where equal, 0 where disjoint."""
    return float(np.sqrt(a * b).sum())


def _found(grid: Float32[np.ndarray, "h w"], fit: InputFit, threshold: float) -> Found:
    height, width = fit.frame_size
    values = frame_values(grid, fit, (0, 0, width, height))
    whole = BoxedMask((0, 0, width, height), values > threshold, fit.frame_size)
    mask = _tight(whole.pixels, whole)
    x0, y0, x1, y1 = mask.bbox_xyxy
    return Found(mask, values[y0:y1, x0:x1])


def _tight(pixels: np.ndarray, like: BoxedMask) -> BoxedMask:
    return tighten(BoxedMask(like.bbox_xyxy, pixels, like.frame_size))


def _moved(mask: BoxedMask, velocity: tuple[float, float], frames: float) -> BoxedMask:
    """Return a mask where a steady motion brings it."""
    frames = min(frames, MAX_FRAMES_UNAIDED)
    return shift_mask(mask, round(velocity[0] * frames), round(velocity[1] * frames))


def _centre(mask: BoxedMask) -> tuple[float, float]:
    x0, y0, x1, y1 = mask.bbox_xyxy
    return (x0 + x1) / 2, (y0 + y1) / 2


def _grow(mask: BoxedMask, by: float) -> BoxedMask:
    """Return a mask and what lies within some pixels of it, at least a tenth of its size."""
    x0, y0, x1, y1 = mask.bbox_xyxy
    height, width = mask.frame_size
    reach = int(np.ceil(max(by, 0.1 * max(x1 - x0, y1 - y0), 2.0)))
    reach = min(reach, max(height, width))
    box = intersect_boxes((x0 - reach, y0 - reach, x1 + reach, y1 + reach), (0, 0, width, height))
    inside = mask.within(box).astype(np.uint8)
    # a distance costs the same for every reach, a dilation with a large kernel does not
    distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3) if inside.any() else None
    if distance is None:
        return empty_mask(mask.frame_size)
    return _tight(np.asarray(distance) <= reach, BoxedMask(box, inside > 0, mask.frame_size))
