"""Remembered silhouettes without learning: past visible masks, moved along, kept under occluders.

The memory stays in one frame's coordinates and what is new is moved there, so that it never blurs.
What a frame shows to be background is forgotten, what it cannot show (under another
object, outside the frame) is kept: shapes deform, and the fresher evidence wins by .1 `miou_occ`
over a union that never forgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from amodal_model.masks import Box, BoxedMask, tighten, union
from amodal_training.mask_motion import (
    MaskMotion,
    clip_to_frame,
    inside_frame,
    motion_between,
    move_mask,
)

Masks = list[BoxedMask | None]


def remember_union(
    visible: Sequence[BoxedMask | None],
    others: Sequence[BoxedMask],
    motions: Sequence[MaskMotion],
) -> Masks:
    """Return the remembered silhouette of each frame: what was seen before, and is not refuted.

    U(t) = V(t) | (moved U(t-1) where frame t cannot tell). It may reach beyond the frame, and
    ``None`` stands before the first sight.

    Args:
        visible: V of each frame, ``None`` where the object has no visible pixel.
        others: O of each frame.
        motions: per frame, the motion from the memory's coordinates into it.
    """
    remembered: Masks = []
    memory: BoxedMask | None = None
    for seen, over, motion in zip(visible, others, motions, strict=True):
        now, back = seen, motion.inverse()
        if memory is not None:
            untold = untold_within(move_mask(memory, motion).bbox_xyxy, over)
            memory = keep_within(memory, move_mask(untold, back))
            kept = keep_within(move_mask(memory, motion), untold)
            now = kept if seen is None else union(kept, seen)
        if seen is not None:
            moved = move_mask(seen, back)
            memory = moved if memory is None else union(memory, moved)
        remembered.append(now)
    return remembered


def untold_within(box: Box, others: BoxedMask) -> BoxedMask:
    """Return the pixels of a box that say nothing: under other objects or outside the frame."""
    untold = others.within(box) | ~inside_frame(box, others.frame_size)
    return BoxedMask(box, untold, others.frame_size)


def keep_within(mask: BoxedMask, region: BoxedMask) -> BoxedMask:
    """Return mask & region, on its tight box."""
    kept = mask.pixels & region.within(mask.bbox_xyxy)
    return tighten(BoxedMask(mask.bbox_xyxy, kept, mask.frame_size))


def clip_masks(masks: Sequence[BoxedMask | None]) -> Masks:
    """Return the masks cut to the frame."""
    return [None if mask is None else clip_to_frame(mask) for mask in masks]


def merge_masks(a: Sequence[BoxedMask | None], b: Sequence[BoxedMask | None]) -> Masks:
    """Return the union of two predictions, frame by frame; ``None`` where both are."""
    return [
        second if first is None else first if second is None else union(first, second)
        for first, second in zip(a, b, strict=True)
    ]


def union_causal(
    visible: Sequence[BoxedMask | None],
    others: Sequence[BoxedMask],
    motions: Sequence[MaskMotion],
) -> Masks:
    """Return the motion-compensated union of past visible masks, kept under occluders."""
    return clip_masks(remember_union(visible, others, motions))


def union_both_directions(
    visible: Sequence[BoxedMask | None],
    others: Sequence[BoxedMask],
    motions: Sequence[MaskMotion],
) -> Masks:
    """Return the union of past and of future visible masks, each kept under occluders."""
    backwards = remember_union(visible[::-1], others[::-1], motions[::-1])[::-1]
    return clip_masks(merge_masks(remember_union(visible, others, motions), backwards))


def coast(
    visible: Sequence[BoxedMask | None],
    others: Sequence[BoxedMask],
    motions: Sequence[MaskMotion],
) -> Masks:
    """Return V while there is one, then the last silhouette at constant velocity.

    The silhouette is the remembered one of the last sight; it is not cut to the occluders.
    """
    remembered = remember_union(visible, others, motions)
    coasted: Masks = []
    last: BoxedMask | None = None  # in the memory's coordinates
    for seen, silhouette, motion in zip(visible, remembered, motions, strict=True):
        if seen is not None and silhouette is not None:
            last = move_mask(silhouette, motion.inverse())
        coasted.append(seen if seen is not None or last is None else move_mask(last, motion))
    return clip_masks(coasted)


def true_motions(amodal: Sequence[BoxedMask | None]) -> list[MaskMotion]:
    """Return, per frame, the true translation and scale from the frame of the largest A.

    An oracle: it reads the ground truth. Frames without an amodal mask repeat the motion before.
    """
    known = [mask for mask in amodal if mask is not None]
    largest = max(known, key=lambda mask: mask.area, default=None)
    motions: list[MaskMotion] = []
    for mask in amodal:
        motion = motions[-1] if motions else MaskMotion(0.0, 0.0)
        if mask is not None and largest is not None:
            motion = motion_between(largest, mask)
        motions.append(motion)
    return motions
