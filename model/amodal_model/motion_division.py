"""Masks that cover several objects side by side: thick cores joined by thin necks."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Int16

from amodal_model.motion_association import Association
from amodal_model.motion_regions import Description, spread_labels
from amodal_model.motion_tracks import FollowConfig, born, join

CORE_DEPTH = 0.55
"""Pixels deeper than this share of the deepest are in a core."""
CORE_SHARE = 0.5
"""Area that a core's part must have, as a share of the largest core's."""
APART_SHARE = 0.4
"""The same of parts that do not touch."""
LEAST_DEPTH = 2.0
"""Pixels: thinner masks have no cores that could be told apart."""
LEAST_AREA = 150
EVERY = 4
"""Frames from one examination of a track to the next."""
VERDICTS = 3
"""Examinations, less those that say otherwise, after which a track is divided."""


def divide_tracks(
    match: Association, found: Description, next_serial: int, config: FollowConfig
) -> Association:
    """Return the association with tracks that cover several objects ended, and their parts begun.

    Args:
        match: of a frame.
        found: describes its labels.
        next_serial: of the first new track.
        config: says which tracks are young.
    """
    tracks, labels = match.tracks, match.labels
    parted = tracks.parted.copy()
    due = (tracks.seen > 3) & (tracks.merged == 0) & (found.area >= LEAST_AREA)
    due &= (tracks.seen + tracks.serial) % EVERY == 0
    split = list(match.split)
    for row in np.flatnonzero(due).tolist():
        x0, y0, x1, y1 = found.box[row].tolist()
        mask = labels[y0:y1, x0:x1] == row + 1
        parts = divide(mask)
        parted[row] = max(parted[row] + (1 if parts.max() > 1 else -1), 0)
        if parted[row] < VERDICTS:
            continue
        if labels is match.labels:
            labels = labels.copy()
        first = len(tracks.serial)
        count = int(parts.max())
        labels[y0:y1, x0:x1][mask] = first + parts[mask]
        new = born(
            np.repeat(found.center[row : row + 1], count, 0),
            np.repeat(found.area[row : row + 1] / count, count),
            np.repeat(found.color[row : row + 1], count, 0),
            next_serial,
        )
        # they are no young parts of each other
        new = new._replace(seen=new.seen + config.young)
        tracks, next_serial = join(tracks, new), next_serial + count
        parted = np.concatenate([parted, new.parted])
        split.append(row)
    return Association(tracks._replace(parted=parted), labels, tuple(split), match.absorbed)


def divide(mask: Bool[np.ndarray, "h w"]) -> Int16[np.ndarray, "h w"]:
    """Return the parts of a mask, numbered from 1 by falling size of their cores; one or more.

    A walker's legs, or a limb, are thinner than the trunk and make no core; two walkers side by
    side have two trunks of about the same depth.
    """
    apart = _large_parts(mask, APART_SHARE)
    if apart.max() > 1:
        return spread_labels(apart, mask)
    framed = np.pad(mask, 1).astype(np.uint8)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    deepest = float(depth.max(initial=0.0))
    whole = mask.astype(np.int16)
    if deepest < LEAST_DEPTH:
        return whole
    cores = _large_parts(depth >= CORE_DEPTH * deepest, CORE_SHARE)
    return spread_labels(cores, mask) if cores.max() > 1 else whole


def _large_parts(mask: Bool[np.ndarray, "h w"], share: float) -> Int16[np.ndarray, "h w"]:
    """Return the connected parts with a share of the largest one's area, by falling area."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]
    large = 1 + np.flatnonzero(area >= share * area.max())
    order = large[np.argsort(-area[large - 1], kind="stable")]
    renumber = np.zeros(count, np.int16)
    renumber[order] = np.arange(1, len(order) + 1)
    return np.asarray(renumber[parts], np.int16)
