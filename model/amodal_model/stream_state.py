"""The state of a stream as a value: what it holds, which objects, and as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from amodal_model.engine import Engine, take_rows
from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask
from amodal_model.memory import CROP_SIDE, MAP_NAMES, SCALAR_NAMES, MemoryState
from amodal_model.track_state import Tracks, new_tracks


class StreamState(NamedTuple):
    """All that is remembered of one stream; constant in size for a number of objects.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        track_ids: ids of the N objects that are followed, in the order of the rows.
        tracks: where they are.
        memory: what the network remembers; the engine's own arrays.
        frames_hidden: (N,) frames since each was visible.
        frames_outside: (N,) frames since its place reached into the image.
        frames_open: (N,) frames since each was visible in which nothing could hide it.
        lost_ids: ids of objects that were given up.
    """

    frame_size: tuple[int, int]
    track_ids: tuple[int, ...]
    tracks: Tracks
    memory: MemoryState[Any]
    frames_hidden: Float32[np.ndarray, " N"]
    frames_outside: Float32[np.ndarray, " N"]
    frames_open: Float32[np.ndarray, " N"]
    lost_ids: tuple[int, ...]


def new_state(frame_size: tuple[int, int]) -> StreamState:
    """Return the state of a stream that has seen nothing."""
    memory: MemoryState[Any] = MemoryState(
        np.zeros((0, len(MAP_NAMES), CROP_SIDE, CROP_SIDE), np.float32),
        np.zeros((0, len(SCALAR_NAMES)), np.float32),
    )
    nothing = np.zeros(0, np.float32)
    return StreamState(frame_size, (), new_tracks(0), memory, nothing, nothing, nothing, ())


def arrays_from_state(state: StreamState) -> dict[str, np.ndarray]:
    """Return a state, its memory on the host, as plain arrays."""
    arrays = {f"tracks_{name}": value for name, value in state.tracks._asdict().items()}
    arrays |= {f"memory_{name}": value for name, value in state.memory._asdict().items()}
    arrays["frame_size"] = np.array(state.frame_size, np.int64)
    arrays["track_ids"] = np.array(state.track_ids, np.int64)
    arrays["lost_ids"] = np.array(state.lost_ids, np.int64)
    arrays["frames_hidden"] = state.frames_hidden
    arrays["frames_outside"] = state.frames_outside
    arrays["frames_open"] = state.frames_open
    return arrays


def state_from_arrays(arrays: Mapping[str, np.ndarray]) -> StreamState:
    """Return the state of arrays that `arrays_from_state` gave.

    Raises:
        InputError: an array is missing, or the numbers of objects differ.
    """
    try:
        arrays = _as_now(arrays)
        tracks = Tracks(**{name: arrays[f"tracks_{name}"] for name in Tracks._fields})
        memory = MemoryState(**{n: arrays[f"memory_{n}"] for n in MemoryState._fields})
        height, width = arrays["frame_size"].tolist()
        state = StreamState(
            (int(height), int(width)),
            tuple(arrays["track_ids"].tolist()),
            tracks,
            memory,
            arrays["frames_hidden"],
            arrays["frames_outside"],
            arrays["frames_open"],
            tuple(arrays["lost_ids"].tolist()),
        )
        per_object = (*tracks, *memory, state.track_ids, *state[4:7])
        rows = {len(field) for field in per_object}
    except KeyError as error:
        raise InputError(f"stream state has no array {error}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"stream state has an array of another shape: {error}") from None
    if len(rows) != 1:
        raise InputError(f"stream state has arrays of {sorted(rows)} objects, need one number")
    return state


def _as_now(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays of a state as they are saved now.

    Before, windows did not turn, nothing was learned of contours, frames in the open were not
    counted, only what has a mask hid objects, and no picture was looked at.
    """
    now = dict(arrays)
    if "frames_outside" in arrays:
        now.setdefault("frames_open", np.zeros_like(arrays["frames_outside"]))
    blank = new_tracks(len(arrays["tracks_window"]))
    if arrays["tracks_window"].shape[1:] == (3,):
        for name in ("tracks_window", "tracks_velocity"):
            now[name] = np.pad(arrays[name], ((0, 0), (0, 1)))
        now.setdefault("tracks_misfit", blank.misfit)
    now.setdefault("tracks_usual", blank.usual)
    now.setdefault("tracks_veil", blank.veil)
    for name in ("look", "colours", "has_look"):
        now.setdefault(f"tracks_{name}", getattr(blank, name))
    if "tracks_areas" not in arrays and "tracks_jitters" not in arrays:
        now |= {"tracks_areas": blank.areas, "tracks_jitters": blank.jitters}
    return now


def add_new(state: StreamState, visible: Mapping[int, BoxedMask], engine: Engine) -> StreamState:
    """Begin to follow objects that show for the first time, or again after they were lost."""
    known = set(state.track_ids)
    new = [track_id for track_id in visible if track_id not in known]
    if not new:
        return state
    rows = [*range(len(known)), *(-1 for _ in new)]
    state = take(state, rows, [*state.track_ids, *new], engine)
    lost = tuple(track_id for track_id in state.lost_ids if track_id not in visible)
    return state._replace(lost_ids=lost)


def take(
    state: StreamState, rows: Sequence[int], track_ids: Sequence[int], engine: Engine
) -> StreamState:
    """Return the state of some rows; -1 is an object that nothing is known of."""
    blank = new_tracks(1)
    tracks = Tracks(
        *(
            np.concatenate([field, fresh])[list(rows)]
            for field, fresh in zip(state.tracks, blank, strict=True)
        )
    )
    zero = np.zeros(1, np.float32)
    return state._replace(
        track_ids=tuple(track_ids),
        tracks=tracks,
        memory=take_rows(engine.to_host(state.memory), rows),
        frames_hidden=np.concatenate([state.frames_hidden, zero])[list(rows)],
        frames_outside=np.concatenate([state.frames_outside, zero])[list(rows)],
        frames_open=np.concatenate([state.frames_open, zero])[list(rows)],
    )


@cache
def state_bytes(objects: int) -> int:
    """Return the bytes of the arrays of a stream's state that follows so many objects."""
    maps = len(MAP_NAMES) * CROP_SIDE * CROP_SIDE * 4
    tracks = sum(field.nbytes for field in new_tracks(1))
    return objects * (maps + tracks + 4 * (len(SCALAR_NAMES) + 3))
