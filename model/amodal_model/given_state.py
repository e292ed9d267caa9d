"""What a given source remembers of a stream: a value, and the same as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from amodal_model.errors import InputError
from amodal_model.known_colours import BINS, Colours, nothing_known
from amodal_model.masks import BoxedMask
from amodal_model.visible_source import Arrays

Point = tuple[float, float]
"""(x, y), frame pixels."""


class GivenTrack(NamedTuple):
    """One object as it was given last.

    Attributes:
        track_id: its id.
        last: its last visible mask; of a hidden object its whole silhouette when it was hidden,
            where the amodal state told, brought into the frame.
        moved: by how much that has moved since, (x, y) frame pixels; also out of the frame.
        velocity: of the object against the scene, (x, y) frame pixels a frame.
        area: the most pixels that it had in a frame; fades towards what it has.
        frames_hidden: frames since it was given; 0 where it was in the last one.
        colours: how its pixels are spread over the colours; empty where no image showed it.
    """

    track_id: int
    last: BoxedMask
    moved: Point
    velocity: Point
    area: float
    frames_hidden: float
    colours: Colours = nothing_known()


class GivenState(NamedTuple):
    """All that is remembered of one stream.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        tracks: the objects, by ascending id.
        highest_id: the highest id that was ever in use, at least 0; new ids are higher.
        scene_velocity: how most objects moved in the last frame, (x, y) frame pixels.
    """

    frame_size: tuple[int, int]
    tracks: tuple[GivenTrack, ...]
    highest_id: int
    scene_velocity: Point


def arrays_from_given(state: GivenState) -> Arrays:
    """Return a state as plain arrays; the masks' pixels are one array of bits after the other."""
    tracks = state.tracks
    packed = [np.packbits(track.last.pixels, axis=None) for track in tracks]
    return {
        "frame_size": np.array(state.frame_size, np.int64),
        "highest_id": np.array(state.highest_id, np.int64),
        "scene_velocity": np.array(state.scene_velocity, float),
        "track_ids": np.array([track.track_id for track in tracks], np.int64),
        "bbox_xyxy": np.array([t.last.bbox_xyxy for t in tracks], np.int64).reshape(-1, 4),
        "moved": np.array([track.moved for track in tracks], float).reshape(-1, 2),
        "velocity": np.array([track.velocity for track in tracks], float).reshape(-1, 2),
        "area": np.array([track.area for track in tracks], float),
        "frames_hidden": np.array([track.frames_hidden for track in tracks], float),
        "coloured": np.array([i for i, t in enumerate(tracks) if t.colours.size], np.int64),
        "colours": np.concatenate([nothing_known(), *(t.colours for t in tracks)]),
        "pixels": np.concatenate([np.zeros(0, np.uint8), *packed]),
    }


def given_from_arrays(arrays: Mapping[str, np.ndarray]) -> GivenState:
    """Return the state of arrays that `arrays_from_given` gave.

    Raises:
        InputError: an array is missing or does not fit the others.
    """
    try:
        height, width = arrays["frame_size"].tolist()
        boxes = arrays["bbox_xyxy"].reshape(-1, 4).tolist()
        masks = _masks_from_bits(arrays["pixels"], boxes, (int(height), int(width)))
        moved, velocity = (arrays[name].reshape(-1, 2) for name in ("moved", "velocity"))
        known = zip(arrays["coloured"].tolist(), arrays["colours"].reshape(-1, BINS), strict=True)
        colours = [nothing_known() for _ in boxes]
        for row, values in known:
            colours[row] = values.astype(np.float32)
        columns = (arrays[name].tolist() for name in ("track_ids", "area", "frames_hidden"))
        tracks = tuple(
            GivenTrack(
                int(track_id), mask, _point(way), _point(speed), float(area), float(age), seen
            )
            for track_id, area, age, mask, way, speed, seen in zip(
                *columns, masks, moved, velocity, colours, strict=True
            )
        )
        scene = _point(arrays["scene_velocity"])
        return GivenState((int(height), int(width)), tracks, int(arrays["highest_id"]), scene)
    except KeyError as error:
        raise InputError(f"given state has no array {error}") from None
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"given state has an array of another shape: {error}") from None


def _point(values: np.ndarray) -> Point:
    x, y = values.tolist()
    return float(x), float(y)


def _masks_from_bits(
    bits: np.ndarray, boxes: Sequence[Sequence[int]], frame_size: tuple[int, int]
) -> list[BoxedMask]:
    """Return the masks of boxes out of their bits, in order.

    Raises:
        ValueError: a box reaches beyond the frame, or there are more or fewer bits.
    """
    height, width = frame_size
    masks, start = [], 0
    for x0, y0, x1, y1 in boxes:
        if not (0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height):
            raise ValueError(f"box {(x0, y0, x1, y1)} in a frame {width}x{height}")
        count = (y1 - y0) * (x1 - x0)
        end = start + (count + 7) // 8
        pixels = np.unpackbits(bits[start:end], count=count).reshape(y1 - y0, x1 - x0)
        masks.append(BoxedMask((x0, y0, x1, y1), pixels.astype(bool), frame_size))
        start = end
    if start != len(bits):
        raise ValueError(f"{len(bits)} bytes of pixels, the boxes have {start}")
    return masks
