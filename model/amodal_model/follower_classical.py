"""Prompted objects followed without trained weights: by flow, colours and a cut along edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.carried_map import covered, moved_to
from amodal_model.colours import BINS
from amodal_model.followed_object import LOOSE, SIDE, TIGHT, FollowConfig, Followed, begin
from amodal_model.follower import NextFrame, read_rows
from amodal_model.geometry import Window
from amodal_model.image_motion import own_motion
from amodal_model.prompt_masks import Points, Said, corrected, first_mask, window_with
from amodal_model.propagation import advance
from amodal_model.visible_source import Arrays, Expectation

_SHAPES = {
    "windows": (3,),
    "probs": (SIDE, SIDE),
    "colours": (4, BINS),
    "areas": (),
    "frames_gone": (),
    "bands": (),
}


class ClassicalFollower:
    """A `Follower` by `propagation` and `reappearance`."""

    def __init__(self, config: FollowConfig | None = None) -> None:
        self.config = config or FollowConfig()

    def __repr__(self) -> str:
        return f"ClassicalFollower({self.config})"

    def begin(self, image: UInt8[np.ndarray, "H W 3"], said: Said) -> Followed:
        """Return an object as a prompt shows it: new, or anew."""
        window, prob = first_mask(image, said)
        return begin(image, window, prob, TIGHT if said.mask is not None else LOOSE)

    def correct(
        self, image: UInt8[np.ndarray, "H W 3"], thing: Followed, points: Points
    ) -> Followed:
        """Return an object in sight with points on and off it heeded."""
        window = window_with(thing.window, points)
        same = window == thing.window
        prob = thing.prob if same else moved_to(thing, window, image.shape[:2], SIDE)
        fresh = begin(image, window, corrected(image, window, prob, points), thing.band)
        return fresh._replace(area=max(fresh.area, thing.area))

    def advance(
        self,
        things: Mapping[int, Followed],
        frame: NextFrame,
        expected: Mapping[int, Expectation],
    ) -> dict[int, Followed]:
        """Return all objects in the next frame."""
        flow, view = frame.view.flow, frame.view
        maps = [(each.prob, each.window) for each in things.values()]
        moved = None
        if flow is not None:
            moved = own_motion(flow, covered(maps, view.scale, frame.grey.shape))
        return {
            track_id: advance(thing, view, moved, expected.get(track_id), self.config)
            for track_id, thing in things.items()
        }

    def without(self, thing: Followed, taken: Float32[np.ndarray, "S S"]) -> Followed:
        """Return an object whose map lacks what others have."""
        return thing._replace(prob=thing.prob * (1 - taken))

    def save(self, things: Sequence[Followed]) -> Arrays:
        """Return what is remembered as plain arrays, an object a row."""
        n = len(things)
        return {
            "windows": np.array([each.window[:3] for each in things], np.float64).reshape(n, 3),
            "probs": np.array([each.prob for each in things], np.float32).reshape(n, SIDE, SIDE),
            "colours": np.array([each.colours for each in things], np.float32).reshape(n, 4, BINS),
            "areas": np.array([each.area for each in things], np.float64),
            "frames_gone": np.array([each.frames_gone for each in things], np.float64),
            "bands": np.array([each.band for each in things], np.float64),
        }

    def load(self, arrays: Mapping[str, np.ndarray], count: int) -> list[Followed]:
        """Return what arrays of `save` hold.

        Raises:
            InputError: an array is missing or has another shape.
        """
        windows, probs, colours, areas, gone, bands = read_rows(arrays, _SHAPES, count)
        return [
            Followed(
                Window(*windows[i].tolist()),
                probs[i],
                colours[i],
                float(areas[i]),
                float(gone[i]),
                float(bands[i]),
            )
            for i in range(count)
        ]
