"""What a prompted segmenter remembers of a stream: a value, and the same as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask
from amodal_model.segmenter_propagation import COLOUR_BINS, FollowedObject
from amodal_model.visible_source import Arrays


class Sam2State(NamedTuple):
    """All that is remembered of one stream.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        objects: that are followed, by ascending id.
        next_id: of a prompt without one.
    """

    frame_size: tuple[int, int]
    objects: tuple[FollowedObject, ...]
    next_id: int


def arrays_from_sam2(state: Sam2State) -> Arrays:
    """Return a state as plain arrays."""
    objects = state.objects
    arrays = {
        "frame_size": np.array(state.frame_size, np.int64),
        "next_id": np.array(state.next_id, np.int64),
        "track_ids": np.array([one.track_id for one in objects], np.int64),
        "bbox_xyxy": _boxes([one.mask for one in objects]),
        "whole_bbox_xyxy": _boxes([one.whole for one in objects]),
        "whole_age": np.array([one.whole_age for one in objects], float),
        "velocity": np.array([one.velocity for one in objects], float).reshape(-1, 2),
        "colours": np.array([one.colours for one in objects], np.float32).reshape(
            -1, COLOUR_BINS**3
        ),
        "frames_hidden": np.array([one.frames_hidden for one in objects], float),
    }
    arrays |= {f"pixels_{row}": one.mask.pixels for row, one in enumerate(objects)}
    return arrays | {f"whole_pixels_{row}": one.whole.pixels for row, one in enumerate(objects)}


def sam2_from_arrays(arrays: Mapping[str, np.ndarray]) -> Sam2State:
    """Return the state of arrays that `arrays_from_sam2` gave.

    Raises:
        InputError: an array is missing or has another shape.
    """
    try:
        height, width = arrays["frame_size"].tolist()
        size = (int(height), int(width))
        track_ids = arrays["track_ids"].tolist()
        colours = arrays["colours"].reshape(len(track_ids), COLOUR_BINS**3).astype(np.float32)
        objects = tuple(
            FollowedObject(
                int(track_id),
                _mask(arrays[f"pixels_{row}"], arrays["bbox_xyxy"][row], size),
                _mask(arrays[f"whole_pixels_{row}"], arrays["whole_bbox_xyxy"][row], size),
                float(arrays["whole_age"][row]),
                (float(arrays["velocity"][row, 0]), float(arrays["velocity"][row, 1])),
                colours[row],
                float(arrays["frames_hidden"][row]),
            )
            for row, track_id in enumerate(track_ids)
        )
        return Sam2State(size, objects, int(arrays["next_id"]))
    except KeyError as error:
        raise InputError(f"state of a segmenter has no array {error}") from None
    except (ValueError, TypeError, IndexError) as error:
        raise InputError(f"state of a segmenter has an array of another shape: {error}") from None


def _boxes(masks: list[BoxedMask]) -> np.ndarray:
    return np.array([mask.bbox_xyxy for mask in masks], np.int64).reshape(-1, 4)


def _mask(pixels: np.ndarray, bbox_xyxy: np.ndarray, frame_size: tuple[int, int]) -> BoxedMask:
    x0, y0, x1, y1 = (int(side) for side in bbox_xyxy)
    height, width = frame_size
    is_inside = 0 <= x0 <= x1 <= width and 0 <= y0 <= y1 <= height
    if not is_inside or pixels.shape != (y1 - y0, x1 - x0):
        raise ValueError(f"pixels {pixels.shape} of the box {(x0, y0, x1, y1)} in {width}x{height}")
    return BoxedMask((x0, y0, x1, y1), pixels.astype(bool), frame_size)
