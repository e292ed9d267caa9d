"""Composition: estimates of one frame become masks, states and the order.

paste back -> union with visible -> remembered part -> occluders -> ObjectResult
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.contour_noise import confidence_under, rim_of
from amodal_model.geometry import Window, paste_in_box, paste_positive, paste_values
from amodal_model.masks import (
    Box,
    BoxedMask,
    add_mask,
    empty_mask,
    enclose_boxes,
    overlap_area,
    subtract,
    tighten,
)
from amodal_model.results import PARTIAL_FROM, FrameResult, ObjectResult, ObjectState

OPEN_LOGIT = 2.0
"""Logit above which a hidden part is believed where no other mask could hide it."""
HIDDEN_BLUR = 2.0
"""Standard deviation, crop pixels, by which logits are smoothed while nothing of an object shows.

Nothing has a sharp contour then, and what is made of a long memory has crumbs and gaps.
"""

CRUMB_SHARE = 0.3
"""Area of the largest part of an entirely hidden silhouette below which other parts are crumbs."""

UNMASKED_TRUST = 0.45
"""What an expected IoU is worth where most of a hidden part lies behind nothing that has a mask.

The network was taught where whatever hides has one. Fitted on drawn things without masks that
cross clips held out of training (docs/decisions/0018-pictures.md).
"""
UNMASKED_MOST = 0.5
"""Share of a hidden part under other masks below which that is so."""


class Evidence(NamedTuple):
    """What is remembered of one object, in its window.

    Attributes:
        window: the square of the frame that the map spans.
        template: (2, 48, 48) of [0, 1]: the pixel's last seen label, and how far it is known.
    """

    window: Window
    template: Float32[np.ndarray, "2 s s"]


class Estimate(NamedTuple):
    """What the network says of one object in one frame.

    Attributes:
        track_id: of the object.
        visible: its visible mask; empty while hidden.
        window: the square of the frame that ``logits`` span.
        logits: (S, S), silhouette where above 0.
        confidence: expected IoU of the silhouette and of its hidden part.
        frames_hidden: frames since it was visible.
        evidence: what is remembered of it.
        stand_in: where it is taken to be, if its mask alone is missing.
        contour_noise: by how many frame pixels visible contours are off.
        veil: where something without a mask is taken to hide it.
    """

    track_id: int
    visible: BoxedMask
    window: Window
    logits: Float32[np.ndarray, "S S"]
    confidence: tuple[float, float]
    frames_hidden: float
    evidence: Evidence
    stand_in: BoxedMask | None = None
    contour_noise: float = 0.0
    veil: BoxedMask | None = None


class Silhouette(NamedTuple):
    """Logits of one object's silhouette in frame coordinates.

    Attributes:
        track_id: of the object.
        visible: its visible mask; empty while hidden.
        bbox_xyxy: the part of the frame that ``logits`` cover.
        logits: (h, w) over that box; elsewhere the object is not.
        confidence: expected IoU of the silhouette and of its hidden part.
        evidence: what each direction of time remembers of it.
        stand_in: where it is taken to be, if its mask alone is missing.
        contour_noise: by how many frame pixels visible contours are off.
        veil: where something without a mask is taken to hide it.
    """

    track_id: int
    visible: BoxedMask
    bbox_xyxy: Box
    logits: Float32[np.ndarray, "h w"]
    confidence: tuple[float, float]
    evidence: tuple[Evidence, ...]
    stand_in: BoxedMask | None = None
    contour_noise: float = 0.0
    veil: BoxedMask | None = None

    @property
    def front(self) -> BoxedMask:
        """The pixels where it can hide others."""
        return self.visible if self.stand_in is None else self.stand_in


def without_crumbs(pixels: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the parts of a mask that are no crumbs beside its largest one."""
    if not pixels.any():  # OpenCV takes no empty image
        return pixels
    _, parts, stats, _ = cv2.connectedComponentsWithStats(pixels.view(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    return np.asarray((areas >= CRUMB_SHARE * areas.max())[parts])


def smooth(logits: Float32[np.ndarray, "S S"]) -> Float32[np.ndarray, "S S"]:
    """Return the logits of an object of which nothing shows, smoothed."""
    return np.asarray(cv2.GaussianBlur(logits, (0, 0), HIDDEN_BLUR), np.float32)


def cover(masks: Iterable[BoxedMask], frame_size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Return how many masks hold each pixel, at most 255."""
    coverage = np.zeros(frame_size, np.uint8)
    for mask in masks:
        add_mask(coverage, mask)
    return coverage


def paste(estimate: Estimate, frame_size: tuple[int, int]) -> Silhouette:
    """Return an estimate in frame coordinates, over its whole window."""
    box, logits = paste_values(estimate.logits, estimate.window, frame_size, outside=-10.0)
    return _silhouette(estimate, box, logits)


def _silhouette(estimate: Estimate, box: Box, logits: Float32[np.ndarray, "h w"]) -> Silhouette:
    return Silhouette(
        estimate.track_id,
        estimate.visible,
        box,
        logits,
        estimate.confidence,
        (estimate.evidence,),
        estimate.stand_in,
        estimate.contour_noise,
        estimate.veil,
    )


def complete(
    estimates: Sequence[Estimate],
    lost_ids: Sequence[int],
    frame_size: tuple[int, int],
    least_overlap: int,
    coverage: UInt8[np.ndarray, "H W"] | None = None,
    *,
    with_remembered: bool = True,
) -> FrameResult:
    """Return the results of one frame, see `compose`, from what one direction of time says."""
    silhouettes = []
    for each in estimates:
        # one direction is not weighed against another: where it is below even odds is enough
        box, logits = paste_positive(each.logits, each.window, frame_size, outside=-10.0)
        silhouettes.append(_silhouette(each, box, logits))
    return compose(
        silhouettes,
        lost_ids,
        frame_size,
        least_overlap,
        coverage,
        with_remembered=with_remembered,
    )


def compose(
    silhouettes: Sequence[Silhouette],
    lost_ids: Sequence[int],
    frame_size: tuple[int, int],
    least_overlap: int,
    coverage: UInt8[np.ndarray, "H W"] | None = None,
    *,
    with_remembered: bool = True,
) -> FrameResult:
    """Return the results of one frame: silhouettes that hold their visible part, and the order.

    Args:
        silhouettes: of all objects that are followed.
        lost_ids: of those that were given up.
        frame_size: ``(height, width)``, pixels.
        least_overlap: pixels from which a mask over the hidden part counts as its occluder.
        coverage: how many fronts hold each pixel, where that was counted before.
        with_remembered: whether `ObjectResult.remembered` is wanted; it is empty otherwise.
    """
    shown = [entry for entry in silhouettes if entry.front.area]
    if coverage is None:
        coverage = cover((entry.front for entry in shown), frame_size)
    whole = {entry.track_id: _amodal_mask(entry, coverage) for entry in silhouettes}
    hidden = {
        entry.track_id: _hidden_part(whole[entry.track_id], entry.visible) for entry in silhouettes
    }
    overlaps = _overlaps(hidden, shown, least_overlap)
    results = []
    nothing = empty_mask(frame_size)
    for entry in silhouettes:
        amodal, inferred = whole[entry.track_id], hidden[entry.track_id]
        areas = {front: area for (front, back), area in overlaps.items() if back == entry.track_id}
        remembered = _remembered(inferred, entry.evidence) if with_remembered else nothing
        results.append(_result(entry, amodal, areas, remembered))
    results += [
        ObjectResult(track_id, nothing, nothing, 1.0, "lost", (), 0.0, 0.0, 0.0, nothing)
        for track_id in lost_ids
    ]
    results.sort(key=lambda result: result.track_id)
    return FrameResult(tuple(results), tuple(sorted(_one_sided(overlaps))))


def _amodal_mask(entry: Silhouette, coverage: UInt8[np.ndarray, "H W"]) -> BoxedMask:
    """Return the visible part and what the network adds to it.

    Under other masks, as near to them as contours are off, and behind a veil it is believed from
    even odds on. In the open it must be nearly certain.
    """
    visible = entry.visible
    x0, y0, x1, y1 = entry.bbox_xyxy
    mine = visible.within(entry.bbox_xyxy)
    pixels = coverage[y0:y1, x0:x1] > mine.view(np.uint8)
    if (rim := rim_of(entry.contour_noise)) and pixels.size:
        kernel = np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)
        pixels = np.asarray(cv2.dilate(pixels.view(np.uint8), kernel)).view(bool)
    if entry.veil is not None:
        pixels |= entry.veil.within(entry.bbox_xyxy)
    pixels &= entry.logits > 0
    pixels |= entry.logits > OPEN_LOGIT
    if not visible.area:
        pixels = without_crumbs(pixels)
    pixels |= mine
    box = enclose_boxes(entry.bbox_xyxy, visible.bbox_xyxy)
    if box != entry.bbox_xyxy:
        whole = visible.within(box)
        whole[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] |= pixels
        pixels = whole
    return tighten(BoxedMask(box, pixels, visible.frame_size))


def _hidden_part(whole: BoxedMask, visible: BoxedMask) -> BoxedMask:
    """Return the part of a silhouette, which holds its visible part, that does not show."""
    if whole.area == visible.area:
        return empty_mask(whole.frame_size)
    return subtract(whole, visible)


def _remembered(inferred: BoxedMask, evidence: Sequence[Evidence]) -> BoxedMask:
    """Return the part of a hidden part that was seen as the object in another frame."""
    if inferred.area == 0:
        return inferred
    seen = np.zeros(inferred.pixels.shape, bool)
    for window, (latest, known) in evidence:
        was_object = latest * (known > 0) - np.float32(0.5)
        seen |= paste_in_box(was_object, window, inferred.bbox_xyxy, outside=-1.0) > 0
    return tighten(BoxedMask(inferred.bbox_xyxy, inferred.pixels & seen, inferred.frame_size))


def _overlaps(
    hidden: Mapping[int, BoxedMask], shown: Sequence[Silhouette], least_overlap: int
) -> dict[tuple[int, int], int]:
    """Return the area of each hidden part under each other mask, by (front, back) track ids."""
    found = {}
    for back, inferred in hidden.items():
        for front in shown if inferred.area >= least_overlap else ():
            if front.track_id != back:
                area = overlap_area(inferred, front.front)
                if area >= least_overlap:
                    found[front.track_id, back] = area
    return found


def _one_sided(overlaps: Mapping[tuple[int, int], int]) -> list[tuple[int, int]]:
    """Return the pairs, of two that say the opposite of each other the one of more pixels.

    Of two objects that touch, each is often grown by a few pixels under the other's mask.
    """
    return [
        (front, back)
        for (front, back), area in overlaps.items()
        if area > overlaps.get((back, front), 0)
    ]


def _result(
    entry: Silhouette, amodal: BoxedMask, covered: Mapping[int, int], remembered: BoxedMask
) -> ObjectResult:
    """Return the result of an object; ``covered``: how much of its hidden part each other hides."""
    visible_area, whole_area = entry.visible.area, amodal.area
    rate = 1 - visible_area / whole_area if whole_area else 1.0
    state: ObjectState = "visible" if rate < PARTIAL_FROM else "partial"
    if not visible_area:
        state, rate = "hidden", 1.0
    whole, part = (
        confidence_under(entry.contour_noise, confidence, visible_area, area)
        for confidence, area in zip(
            entry.confidence, (whole_area, whole_area - visible_area), strict=True
        )
    )
    part *= _trust(whole_area - visible_area, sum(covered.values()))
    seen = 1.0 if visible_area else 0.0
    occluders = tuple(sorted(covered, key=lambda front: (-covered[front], front)))
    return ObjectResult(
        entry.track_id, entry.visible, amodal, rate, state, occluders, whole, seen, part, remembered
    )


def _trust(hidden_area: int, covered_area: int) -> float:
    """Return what the expected IoU of a hidden part is worth; 0 of one that is not there."""
    if not hidden_area:
        return 0.0
    return 1.0 if covered_area > UNMASKED_MOST * hidden_area else UNMASKED_TRUST
