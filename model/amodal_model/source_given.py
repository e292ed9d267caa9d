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

from amodal_model.association import MIN_WITNESSES, associate
from amodal_model.errors import InputError, LimitError
from amodal_model.frame_size import check_frame_size, check_image
from amodal_model.given_prompts import MAX_ID, MAX_OBJECTS, GivenMask, read_prompts
from amodal_model.given_state import (
    GivenState,
    GivenTrack,
    Point,
    arrays_from_given,
    given_from_arrays,
)
from amodal_model.known_colours import Colours, image_bins, learn, mask_colours, nothing_known
from amodal_model.masks import BoxedMask, empty_mask
from amodal_model.pair_evidence import (
    AssociationConfig,
    Candidate,
    Reference,
    bring_inside,
    mask_center,
    move_inside,
    move_unclipped,
)
from amodal_model.visible_source import Arrays, Expectation, Prompt


class GivenConfig(NamedTuple):
    """How objects without ids are followed.

    Attributes:
        max_hidden_frames: an object that has not been given for longer is forgotten.
        velocity_gain: how far one frame's displacement replaces the remembered velocity.
        velocity_fade: what is left of a velocity after a frame that says nothing of it. The amodal
            state knows where an object goes that goes on; what is remembered here soon rests.
        drift_share: by how much of its size (side of a square of its area) a hidden object strays
            from its predicted place in a frame.
        steady: ratio of areas up to which a displacement of the mask is one of the object.
        area_fade: what is left of the largest area after a frame with a smaller one.
        association: what makes a mask an object's.
    """

    max_hidden_frames: float = 900.0
    velocity_gain: float = 0.7
    velocity_fade: float = 0.5
    drift_share: float = 0.25
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
        check_frame_size(frame_size)
        return GivenState(frame_size, (), 0, (0.0, 0.0))

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: GivenState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], GivenState]:
        """Return the given masks by track id, and the new state.

        Args:
            image: of the frame, or ``None``. Where there is one, and masks without ids, its colours
                help to tell apart which object came back.
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
        looks: dict[int, Colours] = {}
        if unnamed and image is not None:
            bins = image_bins(image)
            looks = {id(one.mask): mask_colours(bins, one.mask) for one in given}
        if unnamed:
            taken = {*named, *removed}
            covered = _cover(given, state.frame_size)
            seen = [looks[id(mask)] for mask in unnamed] if looks else None
            ids = self._associate((unnamed, seen), covered, taken, state, expected)
            fresh = iter(range(highest + 1, highest + 1 + len(unnamed)))
            found |= {
                next(fresh) if track_id is None else track_id: mask
                for track_id, mask in zip(ids, unnamed, strict=True)
            }
            highest = max([highest, *found])
        if highest > MAX_ID:
            raise LimitError(f"no id is left for a new object: ids go up to {MAX_ID}")
        colours = {key: looks[id(mask)] for key, mask in found.items()} if looks else {}
        state = state._replace(highest_id=highest)
        state = self._remember(state, (found, colours), expected, removed)
        return dict(sorted(found.items())), state

    def _associate(
        self,
        shown: tuple[Sequence[BoxedMask], Sequence[Colours] | None],
        covered: Bool[np.ndarray, "H W"],
        taken: Collection[int],
        state: GivenState,
        expected: Mapping[int, Expectation],
    ) -> list[int | None]:
        """Return the id of each mask that a known object has; ``None`` for new objects.

        Masks come with their colours, where there is an image.
        """
        masks, seen = shown
        known = {track.track_id: track for track in state.tracks}
        track_ids = sorted((known.keys() | expected.keys()) - set(taken))
        candidates = [
            self._candidate(known.get(track_id), expected.get(track_id), state)
            for track_id in track_ids
        ]
        pairs = associate(masks, candidates, covered, self.config.association, seen)
        column_of = dict(pairs)
        return [
            track_ids[column_of[row]] if row in column_of else None for row in range(len(masks))
        ]

    def _candidate(
        self, track: GivenTrack | None, expectation: Expectation | None, state: GivenState
    ) -> Candidate:
        """Return where an object is now, as far as its last mask and the amodal state tell."""
        references = []
        size = state.frame_size
        if expectation is not None:
            if expectation.silhouette.frame_size != size:
                raise InputError(
                    f"an expected silhouette is of a frame {expectation.silhouette.frame_size}, "
                    f"the frames are {size} (height, width)"
                )
            references.append(Reference(expectation.whole, expectation.place_std_px))
        whole_area = references[0].silhouette.area if references else 0
        if track is None:
            return Candidate(empty_mask(size), tuple(references), whole_area, True)
        step = np.array(track.velocity) + state.scene_velocity
        recent = move_inside(track.last, np.array(track.moved) + step)
        is_hidden = track.frames_hidden > 0
        if is_hidden or not whole_area:
            frames = track.frames_hidden + 1
            drift = self.config.drift_share * float(np.sqrt(track.area * frames))
            x, y = (round(way) for way in (np.array(track.moved) + step).tolist())
            references.append(Reference(move_unclipped(track.last, x, y), drift))
        area = max(track.area, whole_area)
        return Candidate(recent, tuple(references), area, is_hidden, track.colours)

    def _remember(
        self,
        state: GivenState,
        shown: tuple[Mapping[int, BoxedMask], Mapping[int, Colours]],
        expected: Mapping[int, Expectation],
        removed: Collection[int],
    ) -> GivenState:
        """Return the state after a frame; of more than 1024 objects the longest hidden go.

        Masks come with their colours, where there is an image.
        """
        found, colours = shown
        known = {track.track_id: track for track in state.tracks if track.track_id not in removed}
        scene = self._scene_velocity(known, found, state.scene_velocity)
        kept = [
            self._hidden(track, expected.get(track_id), scene)
            for track_id, track in known.items()
            if track_id not in found
        ]
        kept = [track for track in kept if track.frames_hidden <= self.config.max_hidden_frames]
        kept += [
            self._seen(known.get(key), key, (mask, colours.get(key)), scene)
            for key, mask in found.items()
        ]
        kept.sort(key=lambda track: track.frames_hidden)
        tracks = tuple(sorted(kept[:MAX_OBJECTS], key=lambda track: track.track_id))
        return GivenState(state.frame_size, tracks, state.highest_id, scene)

    def _scene_velocity(
        self, known: Mapping[int, GivenTrack], found: Mapping[int, BoxedMask], before: Point
    ) -> Point:
        """Return how most objects moved in a frame: what a camera that moves does to all."""
        moved = [
            mask_center(mask) - mask_center(known[track_id].last)
            for track_id, mask in found.items()
            if track_id in known
            and known[track_id].frames_hidden == 0
            and _is_steady(mask.area, known[track_id].last.area, self.config.steady)
        ]
        if len(moved) < MIN_WITNESSES:
            fade = self.config.velocity_fade
            return before[0] * fade, before[1] * fade
        x, y = np.median(moved, axis=0).tolist()
        return x, y

    def _hidden(
        self, track: GivenTrack, expectation: Expectation | None, scene: Point
    ) -> GivenTrack:
        """Return the track of an object that was not given.

        The whole silhouette that the amodal state expected takes the place of the last mask, what
        lies beyond the frame included: what comes back is any part of it.
        """
        last, moved = track.last, np.array(track.moved) + track.velocity + scene
        if track.frames_hidden == 0 and expectation is not None and expectation.whole.area:
            last, shift = bring_inside(expectation.whole)
            moved = -np.array(shift, float)
        fade = self.config.velocity_fade
        return GivenTrack(
            track.track_id,
            last,
            (float(moved[0]), float(moved[1])),
            (track.velocity[0] * fade, track.velocity[1] * fade),
            max(track.area, last.area),
            track.frames_hidden + 1,
            track.colours,
        )

    def _seen(
        self,
        before: GivenTrack | None,
        track_id: int,
        shown: tuple[BoxedMask, Colours | None],
        scene: Point,
    ) -> GivenTrack:
        """Return the track of an object that was given; its motion is learned where steady."""
        mask, seen = shown
        area = float(mask.area)
        if before is None:
            colours = nothing_known() if seen is None else seen
            return GivenTrack(track_id, mask, (0.0, 0.0), (0.0, 0.0), area, 0.0, colours)
        velocity = before.velocity
        if before.frames_hidden == 0 and _is_steady(area, before.last.area, self.config.steady):
            own = mask_center(mask) - mask_center(before.last) - scene
            x, y = (np.array(velocity) + self.config.velocity_gain * (own - velocity)).tolist()
            velocity = (x, y)
        largest = max(area, self.config.area_fade * before.area)
        colours = before.colours if seen is None else learn(before.colours, seen, area, largest)
        return GivenTrack(track_id, mask, (0.0, 0.0), velocity, largest, 0.0, colours)

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


def _is_steady(area: float, other: float, ratio: float) -> bool:
    return max(area, other) <= ratio * min(area, other)
