"""Depth order of the objects of a frame, from its (front, back) pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Pairs = Sequence[Sequence[int]]


def depth_ranks(track_ids: Iterable[int], order: Pairs) -> dict[int, int]:
    """Return a rank from 1 (nearest) for every track, so that fronts come before backs.

    Ties go to the lower id. Where pairs contradict each other in a circle, the object with the
    fewest objects before it goes first.
    """
    waiting = {track_id: set[int]() for track_id in sorted(track_ids)}
    for front, back in order:
        if front in waiting and back in waiting and front != back:
            waiting[back].add(front)
    ranks: dict[int, int] = {}
    while waiting:
        nearest = min(waiting, key=lambda track_id: (len(waiting[track_id]), track_id))
        ranks[nearest] = len(ranks) + 1
        del waiting[nearest]
        for fronts in waiting.values():
            fronts.discard(nearest)
    return ranks


def occlusion_groups(track_ids: Iterable[int], order: Pairs) -> dict[int, tuple[int, int]]:
    """Return (group, place in it) for every track; objects that hide each other share a group.

    Both count from 1, the nearest object first; both are 0 for an object on its own.
    """
    ranks = depth_ranks(track_ids, order)
    leader = {track_id: track_id for track_id in ranks}

    def lead(track_id: int) -> int:
        while leader[track_id] != track_id:
            track_id = leader[track_id]
        return track_id

    for front, back in order:
        if front in ranks and back in ranks:
            first, second = sorted((lead(front), lead(back)))
            leader[second] = first
    members: dict[int, list[int]] = {}
    for track_id in sorted(ranks, key=ranks.__getitem__):
        members.setdefault(lead(track_id), []).append(track_id)
    groups = dict.fromkeys(ranks, (0, 0))
    together = sorted(leader for leader, tracks in members.items() if len(tracks) > 1)
    for number, group in enumerate(together, start=1):
        for place, track_id in enumerate(members[group], start=1):
            groups[track_id] = (number, place)
    return groups
