"""Visible masks as an imperfect segmenter gives them: contours off, masks missing.

Methods and baselines get the disturbed masks, and P is united with the disturbed mask. What is
measured stays as it was: pairs, ``hidden``, P minus V and A minus V are those of the clean V, so
that a figure with noise is held against the same pairs as one without.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from amodal_model.masks import BoxedMask, shift_mask, tighten
from amodal_training.evaluation_clip import EvaluationClip

DROP_SHARE = 0.05
"""Share of the (object, frame) masks that are left out."""
MAX_JITTER_PX = 2
"""By how much a contour is off, at most."""


def disturb(clip: EvaluationClip) -> EvaluationClip:
    """Return the clip with disturbed visible masks; the same ones every time for a clip name.

    Of each object and frame the mask is left out (5 %), or grown, shrunk or shifted by 1 or 2
    pixels. A mask that this would leave without a pixel stays as it is.
    """
    rng = np.random.default_rng(list(clip.video.file_name.encode()))
    frames = []
    for masks in clip.visible_frames:
        kept = {}
        for track_id, mask in sorted(masks.items()):
            is_dropped = rng.random() < DROP_SHARE
            jittered = jitter_mask(mask, rng)
            if not is_dropped:
                kept[track_id] = jittered
        frames.append(kept)
    return replace(clip, visible_frames=tuple(frames))


def jitter_mask(mask: BoxedMask, rng: np.random.Generator) -> BoxedMask:
    """Return the mask grown, shrunk or shifted by 1 or 2 pixels; as it is where none would stay."""
    kind, pixels = int(rng.integers(3)), int(rng.integers(1, MAX_JITTER_PX + 1))
    x, y = (int(step) for step in rng.integers(-pixels, pixels + 1, 2))
    if kind == 0:
        moved = grow_mask(mask, pixels)
    elif kind == 1:
        moved = grow_mask(mask, -pixels)
    else:
        moved = shift_mask(mask, x, y)
    return moved if moved.area else mask


def grow_mask(mask: BoxedMask, pixels: int) -> BoxedMask:
    """Return the mask grown by some pixels in every direction, shrunk where they are negative.

    Beyond the frame lies no background: a mask is not shrunk away from the image border.
    """
    if mask.area == 0:
        return mask
    height, width = mask.frame_size
    reach = abs(pixels) + 1
    x0, y0, x1, y1 = mask.bbox_xyxy
    box = (max(x0 - reach, 0), max(y0 - reach, 0), min(x1 + reach, width), min(y1 + reach, height))
    kernel = np.ones((2 * abs(pixels) + 1,) * 2, np.uint8)
    apply = cv2.dilate if pixels > 0 else cv2.erode
    moved = apply(mask.within(box).astype(np.uint8), kernel)
    return tighten(BoxedMask(box, moved.astype(bool), mask.frame_size))
