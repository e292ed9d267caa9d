"""Which region of a frame is which track: by the masks of the last frame, moved along the flow.

A region that holds the moved masks of two objects is divided between them: neither may grow into
both. A track whose parts have moved apart was two objects all along: it ends, and its parts
begin anew. A young track that turns out to touch an older one was a part of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int16, Int64

from amodal_model.motion_regions import Description, spread_labels
from amodal_model.motion_tracks import FollowConfig, MotionTracks, born, join


class Frame(NamedTuple):
    """What association looks at: regions 1 to R, and tracks 1 to N where the flow moved them."""

    regions: Int16[np.ndarray, "H W"]
    found: Description
    moved: Int16[np.ndarray, "H W"]


class Association(NamedTuple):
    """Which pixel is which track's.

    Attributes:
        tracks: the old ones, then the new ones.
        labels: row + 1 of the track of each pixel, 0 where none.
        split: rows of tracks that end because they were several objects.
        absorbed: (young, old) rows: the young one was a part of the old one, and ends.
    """

    tracks: MotionTracks
    labels: Int16[np.ndarray, "H W"]
    split: tuple[int, ...]
    absorbed: tuple[tuple[int, int], ...]


def associate(
    tracks: MotionTracks,
    frame: Frame,
    next_serial: int,
    config: FollowConfig,
) -> Association:
    """Return whose each region is.

    Args:
        tracks: carried into the frame.
        frame: its regions and the moved masks.
        next_serial: of the first new track.
        config: thresholds.
    """
    owns = _owners(frame, len(tracks.serial), config)
    for region, row in _come_back(tracks, frame, owns, config).items():
        owns[region, row] = True
    absorbed = _absorb_parts(tracks, owns, config)
    apart, split = _judge_parts(tracks, frame.found, owns, config)
    merged = owns[owns.sum(1) > 1].any(0) if len(owns) else np.zeros(len(tracks.serial), bool)
    tracks = tracks._replace(apart=apart, merged=np.where(merged, tracks.merged + 1, 0))
    orphans = np.flatnonzero(~owns.any(1))
    new = born(
        frame.found.center[orphans],
        frame.found.area[orphans].astype(np.float64),
        frame.found.color[orphans],
        next_serial,
    )
    labels = _paint(frame, owns, orphans, len(tracks.serial))
    return Association(join(tracks, new), labels, split, absorbed)


def _owners(frame: Frame, rows: int, config: FollowConfig) -> Bool[np.ndarray, "R N"]:
    """Return which regions hold enough of which moved masks."""
    count = len(frame.found.area)
    where = np.flatnonzero(frame.moved)
    pairs = frame.regions.ravel()[where].astype(np.int64) * (rows + 1) + frame.moved.ravel()[where]
    joint = np.bincount(pairs, minlength=(count + 1) * (rows + 1)).reshape(count + 1, rows + 1)
    smaller = np.minimum(frame.found.area[:, None], joint[:, 1:].sum(0)[None])
    return np.asarray(joint[1:, 1:] >= np.maximum(config.overlap * smaller, 4), bool)


def _come_back(
    tracks: MotionTracks, frame: Frame, owns: Bool[np.ndarray, "R N"], config: FollowConfig
) -> dict[int, int]:
    """Return regions without an owner that look like a track which is out of sight."""
    hidden = np.flatnonzero((~owns.any(0)) & (tracks.seen > 1))
    back: dict[int, int] = {}
    for region in np.flatnonzero(~owns.any(1)).tolist():
        if not hidden.size:
            break
        size = np.sqrt(tracks.area[hidden])
        away = np.linalg.norm(tracks.center[hidden] - frame.found.center[region], axis=1)
        reach = 0.5 * size + 1.0 * np.minimum(tracks.missed[hidden] + 1, 10)
        tint = np.linalg.norm(tracks.color[hidden] - frame.found.color[region], axis=1)
        ratio = frame.found.area[region] / tracks.area[hidden]
        fits = (away < reach) & (tint < config.color_reach) & (ratio > 0.1) & (ratio < 3)
        if fits.any():
            best = int(np.argmin(np.where(fits, away / reach + tint / config.color_reach, np.inf)))
            back[region] = int(hidden[best])
            hidden = np.delete(hidden, best)
    return back


def _absorb_parts(
    tracks: MotionTracks, owns: Bool[np.ndarray, "R N"], config: FollowConfig
) -> tuple[tuple[int, int], ...]:
    """Give the regions of a part to what it is part of; ``owns`` is changed."""
    absorbed: list[tuple[int, int]] = []
    for region in np.flatnonzero(owns.sum(1) > 1).tolist():
        rows = np.flatnonzero(owns[region])
        rows = rows[np.argsort(-tracks.seen[rows] * np.sqrt(tracks.area[rows]), kind="stable")]
        elder = int(rows[0])
        for row in rows[1:].tolist():
            if _is_part(tracks, row, elder, config):
                owns[:, elder] |= owns[:, row]
                owns[:, row] = False
                absorbed.append((row, elder))
    return tuple(absorbed)


def _is_part(tracks: MotionTracks, row: int, elder: int, config: FollowConfig) -> bool:
    if tracks.seen[row] < config.young and tracks.area[row] < tracks.area[elder]:
        return True
    apart = float(np.linalg.norm(tracks.velocity[row] - tracks.velocity[elder]))
    alike = apart < 0.5 + 0.2 * float(np.linalg.norm(tracks.velocity[elder]))
    return bool(alike and tracks.area[row] < config.part_share * tracks.area[elder])


def _judge_parts(
    tracks: MotionTracks, found: Description, owns: Bool[np.ndarray, "R N"], config: FollowConfig
) -> tuple[Int64[np.ndarray, " N"], tuple[int, ...]]:
    """Let go of far small parts, and end tracks whose parts have moved apart; changes ``owns``.

    Returns:
        For how many frames the parts of each track are apart, and the rows that end.
    """
    apart = np.zeros_like(tracks.apart)
    split = []
    for row in np.flatnonzero(owns.sum(0) > 1).tolist():
        parts = np.flatnonzero(owns[:, row])
        main = int(parts[np.argmax(found.area[parts])])
        limit = max(config.gap * float(np.sqrt(found.area[main])), 4.0)
        far = parts[[_gap(found.box[part], found.box[main]) > limit for part in parts]]
        large = far[found.area[far] >= config.part_share * found.area[main]]
        owns[np.setdiff1d(far, large), row] = False
        if not large.size:
            continue
        apart[row] = tracks.apart[row] + 1
        if apart[row] >= config.split_after:
            owns[:, row] = False
            split.append(row)
    return apart, tuple(split)


def _gap(a: Int64[np.ndarray, " 4"], b: Int64[np.ndarray, " 4"]) -> float:
    """Return the distance between two boxes, 0 where they touch."""
    x = max(float(a[0] - b[2]), float(b[0] - a[2]), 0.0)
    y = max(float(a[1] - b[3]), float(b[1] - a[3]), 0.0)
    return float(np.hypot(x, y))


def _paint(
    frame: Frame, owns: Bool[np.ndarray, "R N"], orphans: Int64[np.ndarray, " M"], rows: int
) -> Int16[np.ndarray, "H W"]:
    """Return the label of each pixel; regions of several tracks are divided by the moved masks."""
    table = np.zeros(len(owns) + 1, np.int16)
    owners = owns.sum(1)
    owned, row = np.nonzero(owns)
    table[1 + owned] = row + 1
    table[1 + orphans] = rows + 1 + np.arange(len(orphans))
    labels = table[frame.regions]
    for region in np.flatnonzero(owners > 1).tolist():
        x0, y0, x1, y1 = frame.found.box[region].tolist()
        part = (slice(y0, y1), slice(x0, x1))
        inside = frame.regions[part] == region + 1
        allowed = np.flatnonzero(owns[region]) + 1
        divided = _divide(frame.moved[part], inside, allowed.astype(np.int16))
        labels[part][inside] = divided[inside]
    return np.asarray(labels, np.int16)


def _divide(
    moved: Int16[np.ndarray, "h w"],
    inside: Bool[np.ndarray, "h w"],
    allowed: Int16[np.ndarray, " K"],
) -> Int16[np.ndarray, "h w"]:
    """Return the nearest allowed moved label of each pixel of a region."""
    seeds = np.where(inside & np.isin(moved, allowed), moved, np.int16(0))
    if not seeds.any():
        return np.asarray(np.where(inside, allowed[0], 0), np.int16)
    return spread_labels(seeds, inside)
