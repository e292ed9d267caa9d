"""Moving objects of raw video, found without any prompt: static or moving camera, causal.

    flow -> camera motion -> background moved along -> what differs -> regions -> tracks

All of it works at a reduced size; the masks are brought to the frame's size at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int16, UInt8

from amodal_model.background import (
    BackgroundConfig,
    brighten,
    colors_of,
    difference,
    forget,
    learn,
    move_background,
)
from amodal_model.camera_motion import (
    IDENTITY,
    CameraMotion,
    camera_flow,
    compose,
    fit_camera,
    invert,
    largest_displacement,
    measure_flow,
)
from amodal_model.errors import InputError
from amodal_model.masks import Box, BoxedMask, tighten
from amodal_model.motion_association import Association, Frame, associate
from amodal_model.motion_division import divide_tracks
from amodal_model.motion_evidence import (
    EvidenceConfig,
    doubt,
    mismatch,
    own_motion,
    source_of,
    weigh,
)
from amodal_model.motion_ghosts import find_ghosts
from amodal_model.motion_regions import (
    Description,
    RegionConfig,
    Views,
    describe,
    find_regions,
)
from amodal_model.motion_state import (
    MotionState,
    arrays_from_state,
    new_state,
    state_from_arrays,
    working_size,
)
from amodal_model.motion_tracks import FollowConfig, MotionTracks, carry, is_kept, no_tracks, observe, take
from amodal_model.visible_source import Arrays, Expectation, Prompt

RESAMPLE_PX = 0.35
"""How far the camera may have moved before the background is resampled."""
CUT_SHARE = 0.7
"""Share of a frame that differs from the background from which the scene is another."""
UNKNOWN_AGE = 3
"""Frames below which a background pixel is not known yet: there motion alone decides."""

FLOW_MARGIN = 8
"""Pixels at the image's edge whose flow says nothing."""


class MotionConfig(NamedTuple):
    """Settings of the parts."""

    background: BackgroundConfig = BackgroundConfig()
    evidence: EvidenceConfig = EvidenceConfig()
    regions: RegionConfig = RegionConfig()
    follow: FollowConfig = FollowConfig()


class Sighting(NamedTuple):
    """One track in one frame.

    Attributes:
        serial: number of the track, never used again.
        track_id: 0 until it is confirmed.
        mask: at the frame's size.
        stability: IoU of the mask with the last one, moved along the flow.
        contrast: mean log odds of the foreground.
        moving: mean of how surely its pixels move by themselves, 0 to 1.
        is_merged: whether it shares its region with another track.
    """

    serial: int
    track_id: int
    mask: BoxedMask
    stability: float
    contrast: float
    moving: float
    is_merged: bool


class MotionFrame(NamedTuple):
    """What a frame showed.

    Attributes:
        sightings: of all tracks, confirmed or not.
        split: serials of tracks that were found to be several objects.
        absorbed: (part, whole) serials: the part's masks belong to the whole.
    """

    sightings: tuple[Sighting, ...] = ()
    split: tuple[int, ...] = ()
    absorbed: tuple[tuple[int, int], ...] = ()


class Looks(NamedTuple):
    """A frame at the working size."""

    gray: UInt8[np.ndarray, "h w"]
    colors: Float32[np.ndarray, "h w 3"]


class Weighed(NamedTuple):
    """How a frame differs from the background, and how surely each pixel moves by itself."""

    raw: Float32[np.ndarray, "h w"]
    moves: Float32[np.ndarray, "h w"]


class MotionSource:
    """Finds what moves. A `VisibleMaskSource`; prompts say nothing to it."""

    def __init__(self, config: MotionConfig | None = None) -> None:
        self.config = config or MotionConfig()

    def start(self, frame_size: tuple[int, int]) -> MotionState:
        """Return the state before the first frame."""
        return new_state(frame_size)

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: MotionState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], MotionState]:
        """Return the masks of what moves, or has moved, by track id, and the new state.

        Raises:
            InputError: no image, or one of another size than the frames.
        """
        if image is None:
            raise InputError("motion needs the image of every frame, got none")
        seen, state = self.look(image, state, expected)
        return {s.track_id: s.mask for s in seen.sightings if s.track_id}, state

    def save_state(self, state: MotionState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        return arrays_from_state(state)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> MotionState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        return state_from_arrays(arrays)

    def look(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        state: MotionState,
        expected: Mapping[int, Expectation] | None = None,
    ) -> tuple[MotionFrame, MotionState]:
        """Return all that a frame shows, tracks that are not confirmed yet too.

        Raises:
            InputError: the image has another size than the frames.
        """
        looks = reduce(image, state.frame_size)
        if state.frames == 0:
            return MotionFrame(), self._restart(looks, state)
        flow = measure_flow(looks.gray, state.previous)
        camera = fit_camera(flow, looks.gray, state.labels > 0)
        motion = camera_flow(camera, state.labels.shape) - flow
        state, moved, weighed = self._weigh(looks, (flow, motion), camera, state)
        if np.mean(weighed.raw > 1) > CUT_SHARE:
            return MotionFrame(), self._restart(looks, state)
        views = Views(state.odds, weighed.moves, motion, looks.colors)
        state, regions, count = self._regions(looks, weighed.moves, state)
        frame = Frame(regions, describe(regions, count, views), moved)
        tracks = carry(state.tracks, invert(camera.previous_from_current))
        tracks = _expect(tracks, expected or {}, state)
        match = associate(tracks, frame, state.next_serial, self.config.follow)
        held = set(expected or ())
        return self._conclude(match, (frame, views), state, held, weighed.raw)

    def _regions(
        self, looks: Looks, moves: Float32[np.ndarray, "h w"], state: MotionState
    ) -> tuple[MotionState, Int16[np.ndarray, "h w"], int]:
        """Return the regions of what moves, and the state without the ghosts among them."""
        regions, count = find_regions(state.odds, self.config.regions)
        ghosts = find_ghosts(regions, count, moves, looks.colors, state.background.mean)
        if not ghosts.any():
            return state, regions, count
        is_ghost = np.concatenate([[False], ghosts])[regions]
        renumber = np.zeros(count + 1, np.int16)
        renumber[1:][~ghosts] = np.arange(1, int((~ghosts).sum()) + 1)
        state = state._replace(
            background=forget(state.background, looks.colors, is_ghost),
            odds=np.where(is_ghost, np.float32(self.config.evidence.lowest), state.odds),
        )
        return state, renumber[regions], int((~ghosts).sum())

    def _weigh(
        self, looks: Looks, flows: tuple[Flow, Flow], camera: CameraMotion, state: MotionState
    ) -> tuple[MotionState, Int16[np.ndarray, "h w"], Weighed]:
        """Bring the state into the frame's pixels, and weigh what they show.

        Returns:
            The state, the labels of the last frame moved along the flow, and what was weighed.
        """
        flow, motion = flows
        config = self.config
        still_error = mismatch(looks.gray, state.previous, flow + motion)
        moved_error = mismatch(looks.gray, state.previous, flow)
        least_speed = max(config.follow.least_speed, 4 * camera.spread_px)
        moves = own_motion(motion, still_error, moved_error, least_speed, config.evidence)
        moved, odds = _follow_flow(state.labels, state.odds, flow)
        state = _move_scene(state, camera, looks)
        differs = difference(
            state.background, looks.colors, config.background, unsteadiness=state.unsteadiness
        )
        odds = weigh(odds, differs, moves, state.background, config.evidence)
        background = doubt(state.background, differs, moves)
        return state._replace(odds=odds, background=background), moved, Weighed(differs.score, moves)

    def warm_up(self, images: Iterable[UInt8[np.ndarray, "H W 3"]], state: MotionState) -> MotionState:
        """Return the state of a stream about to begin that knows the scene from other frames.

        Args:
            images: frames of the scene; the last one should be near the first of the stream.
            state: that has seen nothing.
        """
        for image in images:
            _, state = self.look(image, state)
        return state._replace(
            labels=np.zeros_like(state.labels), tracks=no_tracks(), next_serial=1, next_id=1
        )

    def _restart(self, looks: Looks, state: MotionState) -> MotionState:
        """Return the state of a scene whose first frame this is; numbers go on."""
        fresh = new_state(state.frame_size)
        background = learn(
            fresh.background,
            looks.colors,
            np.zeros_like(fresh.background.age),
            np.zeros(fresh.labels.shape, np.uint8),
            self.config.background,
            unsteadiness=0.0,
        )
        return fresh._replace(
            frames=state.frames + 1,
            previous=looks.gray,
            background=background,
            next_serial=state.next_serial,
            next_id=state.next_id,
        )

    def _conclude(
        self,
        match: Association,
        passed: tuple[Frame, Views],
        state: MotionState,
        expected: set[int],
        raw: Float32[np.ndarray, "h w"],
    ) -> tuple[MotionFrame, MotionState]:
        """Return what was seen, and the state with the frame learned."""
        frame, views = passed
        follow = self.config.follow
        found = describe(match.labels, len(match.tracks.serial), views)
        first = int(max(match.tracks.serial.max(initial=0) + 1, state.next_serial))
        divided = divide_tracks(match, found, first, follow)
        if divided.labels is not match.labels:
            match = divided
            found = describe(match.labels, len(match.tracks.serial), views)
        match = match._replace(tracks=divided.tracks)
        tracks, next_id = observe(match.tracks, found, state.next_id, follow)
        stays = is_kept(tracks, follow) | np.isin(tracks.track_id, list(expected - {0}))
        stays[[*match.split, *(part for part, _ in match.absorbed)]] = False
        serials = tracks.serial.tolist()
        seen = MotionFrame(
            _sightings(tracks, found, match.labels, frame.moved, state.frame_size),
            tuple(serials[row] for row in match.split),
            tuple((serials[part], serials[whole]) for part, whole in match.absorbed),
        )
        held = _held(tracks, found, match.labels, follow)
        background = learn(state.background, views.colors, raw, held, self.config.background, unsteadiness=state.unsteadiness)
        renumber = np.zeros(len(stays) + 1, np.int16)
        renumber[1:][stays] = np.arange(1, int(stays.sum()) + 1)
        return seen, state._replace(
            frames=state.frames + 1,
            background=background,
            labels=renumber[match.labels],
            tracks=take(tracks, stays),
            next_serial=max([*serials, state.next_serial - 1]) + 1,
            next_id=next_id,
        )


def reduce(image: UInt8[np.ndarray, "H W 3"], frame_size: tuple[int, int]) -> Looks:
    """Return a frame at the working size.

    Raises:
        InputError: it has another size than the frames.
    """
    if image.shape[:2] != frame_size:
        raise InputError(
            f"frame is {image.shape[1]}x{image.shape[0]}, the stream's frames are "
            f"{frame_size[1]}x{frame_size[0]}"
        )
    height, width = working_size(frame_size)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return Looks(np.asarray(gray, np.uint8), colors_of(np.asarray(small, np.uint8)))


def _follow_flow(
    labels: Int16[np.ndarray, "h w"], odds: Float32[np.ndarray, "h w"], flow: Flow
) -> tuple[Int16[np.ndarray, "h w"], Float32[np.ndarray, "h w"]]:
    """Return each pixel's label and log odds in the last frame."""
    x, y = source_of(flow)
    moved = cv2.remap(labels, x, y, cv2.INTER_NEAREST) if labels.any() else labels
    carried = cv2.remap(odds, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.int16), np.asarray(carried, np.float32)


def _move_scene(state: MotionState, camera: CameraMotion, looks: Looks) -> MotionState:
    """Bring the background into the frame's pixels, where the camera has moved by enough."""
    place = compose(state.model_from_frame, camera.previous_from_current)
    unsteadiness = 0.9 * state.unsteadiness
    background = state.background
    if largest_displacement(place, looks.gray.shape) > RESAMPLE_PX:
        background = move_background(background, place)
        place, unsteadiness = IDENTITY.copy(), 1.0
    return state._replace(
        previous=looks.gray,
        background=brighten(background, looks.colors),
        model_from_frame=place,
        unsteadiness=unsteadiness,
    )


def _expect(
    tracks: MotionTracks, expected: Mapping[int, Expectation], state: MotionState
) -> MotionTracks:
    """Put tracks that are out of sight where the amodal state expects them."""
    center = tracks.center.copy()
    scale = np.array(state.labels.shape[::-1]) / np.array(state.frame_size[::-1])
    for row, track_id in enumerate(tracks.track_id.tolist()):
        place = expected.get(track_id)
        if track_id and place is not None and tracks.missed[row] and place.silhouette.area:
            x0, y0, x1, y1 = place.silhouette.bbox_xyxy
            center[row] = np.array([x0 + x1, y0 + y1]) / 2 * scale
    return tracks._replace(center=center)


def _held(
    tracks: MotionTracks, found: Description, labels: Int16[np.ndarray, "h w"], config: FollowConfig
) -> UInt8[np.ndarray, "h w"]:
    """Return 1 on confirmed objects that move, 2 on those that rest, 0 elsewhere."""
    is_slow = np.linalg.norm(tracks.velocity, axis=1) < 0.5 * config.least_speed
    rests = is_slow & (found.moving < config.least_moving)
    table = np.where(tracks.track_id > 0, 1 + rests, 0).astype(np.uint8)
    held = np.concatenate([np.zeros(1, np.uint8), table])[labels]
    return np.asarray(cv2.dilate(held, np.ones((3, 3), np.uint8)), np.uint8)


def _sightings(
    tracks: MotionTracks,
    found: Description,
    labels: Int16[np.ndarray, "h w"],
    moved: Int16[np.ndarray, "h w"],
    frame_size: tuple[int, int],
) -> tuple[Sighting, ...]:
    rows = len(tracks.serial)
    both = np.bincount(labels[labels == moved], minlength=rows + 1)[1:]
    either = found.area + np.bincount(moved.ravel(), minlength=rows + 1)[1:] - both
    stability = both / np.maximum(either, 1)
    return tuple(
        Sighting(
            int(tracks.serial[row]),
            int(tracks.track_id[row]),
            enlarge(labels, row + 1, tuple(found.box[row].tolist()), frame_size),
            float(stability[row]),
            float(found.contrast[row]),
            float(found.moving[row]),
            bool(tracks.merged[row]),
        )
        for row in np.flatnonzero(found.area).tolist()
    )


def enlarge(
    labels: Int16[np.ndarray, "h w"], label: int, box: Box, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return the mask of a label at the frame's size, with a smooth contour."""
    (height, width), (full_height, full_width) = labels.shape, frame_size
    x0, y0 = max(box[0] - 1, 0), max(box[1] - 1, 0)
    x1, y1 = min(box[2] + 1, width), min(box[3] + 1, height)
    own = (labels[y0:y1, x0:x1] == label).astype(np.uint8) * 255
    wide, high = full_width / width, full_height / height
    left, top = round(x0 * wide), round(y0 * high)
    right, bottom = round(x1 * wide), round(y1 * high)
    large = cv2.resize(own, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return tighten(BoxedMask((left, top, right, bottom), np.asarray(large) > 127, frame_size))
