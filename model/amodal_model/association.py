"""Which mask of a frame is which known object.

What was visible in the last frame and lies where it was going is clear at once. The rest is
weighed (`pair_evidence`) and assigned so that most is explained. Four things speak for a pair: the
mask lies on the object's last one; it fills what should show of a silhouette of the object; it is
like the last one, and near it; it is near a silhouette, for how well the place of that is known.
What lies beyond the frame has a place too. Masks that nobody knows yet cover no one.
Where there is an image, objects that were hidden must also have the mask's colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64

from amodal_model.assignment import assign
from amodal_model.known_colours import Colours
from amodal_model.masks import BoxedMask, overlap_area, shift_mask
from amodal_model.pair_evidence import (
    AssociationConfig,
    Candidate,
    PairEvidence,
    Reference,
    mask_boxes,
    mask_center,
    meets,
    move_unclipped,
    weigh,
)

MIN_WITNESSES = 3
"""Objects that must agree before their common motion is taken for the camera's."""


def associate(
    masks: Sequence[BoxedMask],
    candidates: Sequence[Candidate],
    covered: Bool[np.ndarray, "H W"],
    config: AssociationConfig,
    seen: Sequence[Colours] | None = None,
) -> list[tuple[int, int]]:
    """Return which masks are which objects, as (mask, candidate) pairs; the rest are new.

    Args:
        masks: of one frame, none of them empty.
        candidates: the objects that they may be.
        covered: which pixels of the frame a mask holds, those of other objects included.
        config: what makes a mask an object's.
        seen: colours of the masks, where there is an image.
    """
    clear = clear_pairs(masks, candidates, config.clear_iou)
    rows = sorted(set(range(len(masks))) - {row for row, _ in clear})
    columns = sorted(set(range(len(candidates))) - {column for _, column in clear})
    if not rows or not columns:
        return clear
    shift = common_shift([(masks[row], candidates[column].recent) for row, column in clear])
    left = [move_candidate(candidates[column], shift) for column in columns]
    colours = None if seen is None else [seen[row] for row in rows]
    unclear = [masks[row] for row in rows]
    evidence = weigh(unclear, left, without(covered, unclear), config, colours)
    pairs = assign(affinities(evidence, config) - config.least_affinity)
    return sorted([*clear, *((rows[row], columns[column]) for row, column in pairs)])


def without(
    covered: Bool[np.ndarray, "H W"], masks: Sequence[BoxedMask]
) -> Bool[np.ndarray, "H W"]:
    """Return what is covered less some masks: it is not known yet whom those hide."""
    settled = covered.copy()
    for mask in masks:
        x0, y0, x1, y1 = mask.bbox_xyxy
        settled[y0:y1, x0:x1] &= ~mask.pixels
    return settled


def clear_pairs(
    masks: Sequence[BoxedMask], candidates: Sequence[Candidate], clear_iou: float
) -> list[tuple[int, int]]:
    """Return the pairs of a mask and an object that was visible and is where it was going.

    Each mask and each object once at most, the largest IoU first.
    """
    boxes = mask_boxes(masks)
    found = []
    for column, one in enumerate(candidates):
        if one.is_hidden or not one.recent.pixels.size:
            continue
        area = one.recent.area
        for row in np.flatnonzero(meets(boxes, one.recent.bbox_xyxy)).tolist():
            both = overlap_area(masks[row], one.recent)
            iou = both / max(masks[row].area + area - both, 1)
            if iou >= clear_iou:
                found.append((-iou, row, column))
    rows: set[int] = set()
    columns: set[int] = set()
    pairs = []
    for _, row, column in sorted(found):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs


def common_shift(pairs: Sequence[tuple[BoxedMask, BoxedMask]]) -> tuple[int, int]:
    """Return by how much most masks missed their prediction: the camera's part, (x, y) pixels.

    Args:
        pairs: masks and where they were expected; fewer than `MIN_WITNESSES` say nothing.
    """
    if len(pairs) < MIN_WITNESSES:
        return 0, 0
    missed = np.median([mask_center(mask) - mask_center(other) for mask, other in pairs], axis=0)
    x, y = missed.tolist()
    return round(x), round(y)


def move_candidate(one: Candidate, shift: tuple[int, int]) -> Candidate:
    """Return an object moved by whole pixels."""
    if shift == (0, 0):
        return one
    moved = tuple(
        Reference(move_unclipped(reference.silhouette, *shift), reference.place_std_px)
        for reference in one.references
    )
    return one._replace(recent=shift_mask(one.recent, *shift), references=moved)


def affinities(evidence: PairEvidence, config: AssociationConfig) -> Float64[np.ndarray, "M N"]:
    """Return what speaks for each pair, in [0, 1]."""
    like = np.exp(-0.5 * (evidence.offset / config.stray_size) ** 2) * evidence.likeness
    fits = np.minimum(1, config.largest_growth / np.maximum(evidence.growth, 1e-6))
    # long tails: what was pushed or carried while it was hidden comes back where nobody expects it
    near = fits / (1 + evidence.gap**2)
    strong = np.maximum(evidence.stays, evidence.fills)
    weak = np.maximum(config.like_weight * like, config.near_weight * near)
    return np.asarray(np.maximum(strong, weak) * evidence.likeness_of_colours, np.float64)
