"""Visible masks that the client gives: masks or boxes in every frame, with ids or without.

What comes with an id keeps it. What comes without one is associated with the objects known so far
(`association`), those hidden now included: with the amodal state, which says where they are, a
hidden object comes back under its own id. Without it the last visible mask and a steady motion
must do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from amodal_model.association import AssociationConfig, Candidate, associate, mask_center
from amodal_model.errors import InputError, LimitError
from amodal_model.given_prompts import MAX_ID, MAX_OBJECTS, GivenMask, check_image, read_prompts
from amodal_model.given_state import (
    GivenState,
    GivenTrack,
    arrays_from_given,
    given_from_arrays,
)
from amodal_model.masks import BoxedMask, empty_mask, shift_mask
from amodal_model.visible_source import Arrays, Expectation, Prompt

MAX_SIDE = 16384


class GivenConfig(NamedTuple):
    """How objects without ids are followed.

    Attributes:
        max_hidden_frames: an object that has not been given for longer is forgotten.
        velocity_gain: how far one frame's displacement replaces the remembered velocity.
        velocity_fade: what is left of the velocity after a frame without the object.
        steady: ratio of areas up to which a displacement of the mask is one of the object.
        area_fade: what is left of the largest area after a frame with a smaller one.
        association: what makes a mask an object's.
    """

    max_hidden_frames: float = 900.0
    velocity_gain: float = 0.4
    velocity_fade: float = 0.95
    steady: float = 1.25
    area_fade: float = 0.99
    association: AssociationConfig = AssociationConfig()


class GivenSource:
    """Takes the visible masks from the client, and gives ids to those that have none.

    Args:
        config: how objects without ids are followed.
    """

    def __init__(self, config: GivenConfig | None = None) -> None:
        self.config = config or GivenConfig()

    def start(self, frame_size: tuple[int, int]) -> GivenState:
        """Return the state before the first frame.

        Args:
            frame_size: ``(height, width)`` of the frames, pixels.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        if not all(1 <= side <= MAX_SIDE for side in frame_size):
            raise LimitError(f"frame size {frame_size}, each side must be 1 to {MAX_SIDE}")
        return GivenState(frame_size, (), 0)

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: GivenState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], GivenState]:
        """Return the given masks by track id, and the new state.

        Args:
            image: not looked at; its size is checked.
            prompts: the masks and boxes of this frame, and what to forget. A removed object
                is forgotten here; a segmenter that follows it still expects it.
            state: as the last call returned it.
            expected: where the amodal state expects the objects that it follows, by track id.

        Raises:
            InputError: an image or a prompt that does not fit: see `read_prompts`.
            LimitError: more than 1024 prompts, or no id is left for a new object.
        """
        check_image(image, state.frame_size)
        given, removed = read_prompts(prompts, state.frame_size)
        named = {one.track_id: one.mask for one in given if one.track_id is not None}
        unnamed = [one.mask for one in given if one.track_id is None]
        highest = max([state.highest_id, *named, *expected])
        found = dict(named)
        if unnamed:
            taken = {*named, *removed}
            ids = self._associate(unnamed, _cover(given, state.frame_size), taken, state, expected)
            fresh = iter(range(highest + 1, highest + 1 + len(unnamed)))
            found |= {
                next(fresh) if track_id is None else track_id: mask
                for track_id, mask in zip(ids, unnamed, strict=True)
            }
            highest = max([highest, *found])
        if highest > MAX_ID:
            raise LimitError(f"no id is left for a new object: ids go up to {MAX_ID}")
        known = [track for track in state.tracks if track.track_id not in removed]
        tracks = self._remember(known, found)
        return dict(sorted(found.items())), GivenState(state.frame_size, tracks, highest)

    def _associate(
        self,
        masks: Sequence[BoxedMask],
        covered: Bool[np.ndarray, "H W"],
        taken: Collection[int],
        state: GivenState,
        expected: Mapping[int, Expectation],
    ) -> list[int | None]:
        """Return the id of each mask that a known object has; ``None`` for new objects."""
        known = {track.track_id: track for track in state.tracks}
        track_ids = sorted((known.keys() | expected.keys()) - set(taken))
        candidates = [
            self._candidate(known.get(track_id), expected.get(track_id), state.frame_size)
            for track_id in track_ids
        ]
        pairs = associate(masks, candidates, covered, self.config.association)
        column_of = dict(pairs)
        return [
            track_ids[column_of[row]] if row in column_of else None for row in range(len(masks))
        ]

    def _candidate(
        self, track: GivenTrack | None, expectation: Expectation | None, size: tuple[int, int]
    ) -> Candidate:
        """Return where an object is now, as far as its last mask and the amodal state tell."""
        if expectation is not None and expectation.silhouette.frame_size != size:
            raise InputError(
                f"an expected silhouette is of a frame {expectation.silhouette.frame_size}, the "
                f"frames are {size} (height, width)"
            )
        whole = empty_mask(size) if expectation is None else expectation.silhouette
        whole_area = whole.area
        if track is None:
            std = 0.0 if expectation is None else expectation.place_std_px
            return Candidate(empty_mask(size), whole, std, whole_area, True)
        frames = track.frames_hidden + 1
        recent = self._move(track, frames)
        area = max(track.area, whole_area)
        if expectation is not None and whole_area:
            return Candidate(recent, whole, expectation.place_std_px, area, frames > 1)
        drift = self.config.association.drift_share * float(np.sqrt(track.area * frames))
        return Candidate(recent, recent, drift, area, frames > 1)

    def _move(self, track: GivenTrack, frames: float) -> BoxedMask:
        """Return the last mask where a steady, fading motion brings it; its box keeps inside."""
        fade = self.config.velocity_fade
        steps = frames if fade >= 1 else (1 - fade**frames) / (1 - fade)
        x, y = (round(speed * steps) for speed in track.velocity)
        x0, y0, x1, y1 = track.visible.bbox_xyxy
        height, width = track.visible.frame_size
        return shift_mask(
            track.visible, min(max(x, -x0), width - x1), min(max(y, -y0), height - y1)
        )

    def _remember(
        self, tracks: Sequence[GivenTrack], found: Mapping[int, BoxedMask]
    ) -> tuple[GivenTrack, ...]:
        """Return the tracks after a frame; of more than 1024 the longest hidden are forgotten."""
        known = {track.track_id: track for track in tracks}
        moved = [
            track._replace(frames_hidden=track.frames_hidden + 1)
            for track in tracks
            if track.track_id not in found
        ]
        moved = [one for one in moved if one.frames_hidden <= self.config.max_hidden_frames]
        moved += [self._seen(known.get(key), key, mask) for key, mask in found.items()]
        moved.sort(key=lambda track: track.frames_hidden)
        return tuple(sorted(moved[:MAX_OBJECTS], key=lambda track: track.track_id))

    def _seen(self, before: GivenTrack | None, track_id: int, mask: BoxedMask) -> GivenTrack:
        """Return the track of an object that was given; what its motion is if that was steady."""
        area = mask.area
        if before is None:
            return GivenTrack(track_id, mask, (0.0, 0.0), area, 0.0)
        velocity, old_area = before.velocity, before.visible.area
        largest = max(area, self.config.area_fade * before.area)
        if max(area, old_area) <= self.config.steady * min(area, old_area):
            gain, frames = self.config.velocity_gain, before.frames_hidden + 1
            moved = (mask_center(mask) - mask_center(before.visible)) / frames
            x, y = (moved * gain + np.array(velocity) * (1 - gain)).tolist()
            velocity = (x, y)
        return GivenTrack(track_id, mask, velocity, largest, 0.0)

    def save_state(self, state: GivenState) -> Arrays:
        """Return a state as plain arrays, to be stored by name (``np.savez``)."""
        return arrays_from_given(state)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> GivenState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or does not fit the others.
        """
        return given_from_arrays(arrays)


def _cover(given: Sequence[GivenMask], frame_size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Return which pixels of the frame a mask holds."""
    covered = np.zeros(frame_size, bool)
    for one in given:
        x0, y0, x1, y1 = one.mask.bbox_xyxy
        covered[y0:y1, x0:x1] |= one.mask.pixels
    return covered
