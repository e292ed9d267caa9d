"""Offline mode: both directions of time, fused.

What a frame hides may show only later. Clips are worked through in windows: forward with one
state, backward from some frames beyond the window's end with a fresh one. So memory stays flat
however long the clip is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from amodal_model.composition import Estimate, Silhouette, compose, paste
from amodal_model.geometry import Window, frame_from_crop
from amodal_model.masks import Box, BoxedMask, empty_mask, enclose_boxes, intersect_boxes, union
from amodal_model.pictures import Picture
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter
from amodal_model.stream_state import StreamState

WINDOW_FRAMES = 96
"""Frames that are worked through at once."""
AHEAD_FRAMES = 48
"""Frames beyond them that the backward direction comes from."""
KEPT_SIDE = 480
"""Pixels of the longer side of the images that are kept until both directions have seen them."""
TRUST = 8
"""Power of its expected IoU by which a direction weighs; of two shapes the mean is neither."""

Visible = Mapping[int, BoxedMask]
Image = UInt8[np.ndarray, "H W 3"]


def segment_offline(
    segmenter: AmodalSegmenter,
    frames: Iterable[tuple[Visible, Image | None]],
    frame_size: tuple[int, int],
) -> Iterator[FrameResult]:
    """Yield the results of a clip's frames, each from what was seen before and after it.

    Args:
        segmenter: its engine serves both directions.
        frames: visible masks of each frame by track id, and its image where there is one; read
            ahead by 144 frames.
        frame_size: ``(height, width)``, pixels.
    """
    source = ((visible, _small(image)) for visible, image in frames)
    state = segmenter.start(frame_size)
    pending = list(islice(source, WINDOW_FRAMES + AHEAD_FRAMES))
    while pending:
        window = pending[:WINDOW_FRAMES]
        forward, state = _run(segmenter, window, state)
        backward, _ = _run(segmenter, pending[::-1], segmenter.start(frame_size))
        for before, after in zip(forward, backward[::-1], strict=False):
            fused = [
                _fuse(entry, after.estimates.get(track_id), frame_size)
                for track_id, entry in before.estimates.items()
            ]
            yield compose(fused, before.lost_ids, frame_size, segmenter.config.least_overlap)
        pending = pending[WINDOW_FRAMES:] + list(islice(source, WINDOW_FRAMES))


def _small(image: Image | None) -> Picture | None:
    """Return an image that many can be kept of."""
    return None if image is None else Picture(image, longest=KEPT_SIDE)


class _Pass(NamedTuple):
    """What one direction says of one frame."""

    estimates: dict[int, Estimate]
    lost_ids: tuple[int, ...]


def _run(
    segmenter: AmodalSegmenter,
    frames: list[tuple[Visible, Picture | None]],
    state: StreamState,
) -> tuple[list[_Pass], StreamState]:
    """Return what one direction says of frames in the order given, and the state after them."""
    passes = []
    for visible, picture in frames:
        found, state = segmenter.advance(visible, state, picture=picture)
        passes.append(_Pass({entry.track_id: entry for entry in found}, state.lost_ids))
    return passes, state


def _fuse(forward: Estimate, backward: Estimate | None, frame_size: tuple[int, int]) -> Silhouette:
    """Return one silhouette of the two directions', the more confident one weighing more."""
    if backward is None:
        return paste(forward, frame_size)
    first, second = (paste(entry, frame_size) for entry in _meet(forward, backward))
    weights = np.array([first.confidence[1], second.confidence[1]], np.float64) ** TRUST + 1e-12
    share = float(weights[1] / weights.sum())
    box = enclose_boxes(first.bbox_xyxy, second.bbox_xyxy)
    sides = _spread(first, box), _spread(second, box)
    logits = (1 - share) * sides[0] + share * sides[1]
    if first.veil or second.veil:
        _believe_veils((first, second), sides, box, logits)
    confidence = tuple(
        (1 - share) * a + share * b
        for a, b in zip(first.confidence, second.confidence, strict=True)
    )
    return Silhouette(
        first.track_id,
        first.visible,
        box,
        logits.astype(np.float32),
        (confidence[0], confidence[1]),
        first.evidence + second.evidence,
        first.stand_in or second.stand_in,
        max(first.contour_noise, second.contour_noise),
        _either(first.veil, second.veil),
    )


def _believe_veils(
    entries: tuple[Silhouette, Silhouette],
    sides: tuple[Float32[np.ndarray, "h w"], Float32[np.ndarray, "h w"]],
    box: Box,
    logits: Float32[np.ndarray, "h w"],
) -> None:
    """Take over, in place, the logits of the direction that alone sees a veil.

    The other one takes what is before the object there for background.
    """
    nothing = empty_mask(entries[0].visible.frame_size)
    first, second = ((entry.veil or nothing).within(box) for entry in entries)
    for alone, side in ((first & ~second, sides[0]), (second & ~first, sides[1])):
        logits[alone] = side[alone]


def _either(first: BoxedMask | None, second: BoxedMask | None) -> BoxedMask | None:
    """Return what hides an object without having a mask, as one direction or both say."""
    if first is None or second is None:
        return first or second
    return union(first, second)


def _meet(forward: Estimate, backward: Estimate) -> tuple[Estimate, Estimate]:
    """Return what both directions say of a hidden object, moved to where it should be between them.

    Each is right about the place where it last saw the object, and strays from there on: in
    between the place goes over from one to the other as evenly as frames do.
    """
    if forward.visible.area:
        return forward, backward
    first, second = _middle(forward), _middle(backward)
    if first is None or second is None:
        return forward, backward
    share = forward.frames_hidden / (forward.frames_hidden + backward.frames_hidden)
    between = first + share * (second - first)
    return _moved(forward, between - first), _moved(backward, between - second)


def _middle(entry: Estimate) -> Float64[np.ndarray, " 2"] | None:
    """Return the centroid of a silhouette, (x, y) frame pixels; ``None`` where it has no pixel."""
    moments = cv2.moments((entry.logits > 0).view(np.uint8), binaryImage=True)
    if moments["m00"] == 0:
        return None
    x, y = moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5
    matrix = frame_from_crop(entry.window, entry.logits.shape[0])
    return np.asarray(matrix @ np.array([x, y, 1.0]), np.float64)


def _moved(entry: Estimate, shift: Float64[np.ndarray, " 2"]) -> Estimate:
    """Return an estimate, and what is remembered with it, moved by (x, y) frame pixels."""

    def move(window: Window) -> Window:
        x, y = window.center_x + float(shift[0]), window.center_y + float(shift[1])
        return window._replace(center_x=x, center_y=y)

    evidence = entry.evidence._replace(window=move(entry.evidence.window))
    return entry._replace(window=move(entry.window), evidence=evidence)


def _spread(entry: Silhouette, box: Box) -> Float32[np.ndarray, "h w"]:
    """Return the logits over a larger box, bounded so that one direction cannot shout."""
    spread = np.full((box[3] - box[1], box[2] - box[0]), -10.0, np.float32)
    x0, y0, x1, y1 = intersect_boxes(box, entry.bbox_xyxy)
    if x1 > x0 and y1 > y0:
        spread[y0 - box[1] : y1 - box[1], x0 - box[0] : x1 - box[0]] = entry.logits
    return np.clip(spread, -6.0, 6.0)
