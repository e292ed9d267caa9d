"""Prompted objects followed by a small network of our own, in ONNX Runtime.

The network is class-agnostic and trained on drawn scenes (model card in `weights/follower`).
First masks of boxes are begun by the classical method and mended by the network; what the amodal
state expects bounds what an object may grow to, and says where to look for a hidden one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.carried_map import covered, moved_to
from amodal_model.colours import BINS
from amodal_model.errors import ModelError
from amodal_model.follow_sight import MovingView, first_sight, moving_view, next_sight, sight_again
from amodal_model.followed_object import SIDE as PROMPT_SIDE
from amodal_model.followed_object import FollowConfig, Map, beyond_expected
from amodal_model.follower import NextFrame, read_rows
from amodal_model.geometry import Window
from amodal_model.image_motion import own_motion
from amodal_model.learned_object import (
    KEY_CHANNELS,
    KEYS,
    SIDE,
    SLOTS,
    LearnedObject,
    Sight,
    begun,
    gone_on,
)
from amodal_model.model_files import ModelFolder, find_helper
from amodal_model.onnx_session import open_session, requested_providers
from amodal_model.prompt_masks import Points, Said, corrected, first_mask, window_with
from amodal_model.reappearance import usual_area
from amodal_model.visible_source import Arrays, Expectation

INPUTS = ("picture", "cues", "keys", "weights")
OUTPUTS = ("logits", "new_keys")
_BOX_PASSES = 2
_SHAPES = {
    "windows": (3,),
    "probs": (SIDE, SIDE),
    "colours": (4, BINS),
    "areas": (),
    "frames_gone": (),
    "keys": (SLOTS, KEY_CHANNELS, KEYS),
    "weights": (SLOTS, 2, KEYS),
    "ages": (),
}
_NO_KEYS = np.zeros((SLOTS, KEY_CHANNELS, KEYS), np.float32)
_NO_WEIGHTS = np.zeros((SLOTS, 2, KEYS), np.float32)


class LearnedFollower:
    """A `Follower` by a network.

    Args:
        folder: its files.
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        require_gpu: fail where it ends up on the CPU.
        threads: CPU threads of one run.

    Attributes:
        name: of the network, with its version.
        provider: the execution provider that really runs.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the provider is unknown or not available, the CPU runs though a GPU is
            required, or the file is not such a network.
    """

    def __init__(
        self,
        folder: ModelFolder,
        provider: str = "auto",
        *,
        require_gpu: bool = False,
        threads: int = 1,
    ) -> None:
        self.config = FollowConfig()
        path, requested = folder.graph(), requested_providers(provider)
        opened = open_session(path, requested, require_gpu=require_gpu, threads=threads)
        self._session, self.provider = opened.session, opened.actual
        inputs = tuple(entry.name for entry in self._session.get_inputs())
        if inputs != INPUTS:
            raise ModelError(f"{path}: inputs {inputs} are not {INPUTS}")
        self.name = f"{folder.name} {folder.version}"

    def __repr__(self) -> str:
        return f"LearnedFollower({self.name})"

    def begin(self, image: UInt8[np.ndarray, "H W 3"], said: Said) -> LearnedObject:
        """Return an object as a prompt shows it: new, or anew."""
        is_box = said.box is not None and said.mask is None
        window, guess = first_mask(image, said._replace(points=()) if is_box else said)
        if not is_box:
            return self._shown(image, window, guess)
        for _ in range(_BOX_PASSES):
            sight = first_sight(image, window, guess, said.box)
            logits, _ = self._run(sight, _NO_KEYS, _NO_WEIGHTS)
            guess = _probability(logits) * sight.inside
        if said.points:
            guess = _resized(guess, PROMPT_SIDE)
            guess = corrected(image, window, guess, said.points)
        return self._shown(image, window, guess)

    def _shown(
        self, image: UInt8[np.ndarray, "H W 3"], window: Window, prob: Float32[np.ndarray, "s s"]
    ) -> LearnedObject:
        """Return an object whose map is known."""
        sight = first_sight(image, window, prob, None)
        _, keys = self._run(sight, _NO_KEYS, _NO_WEIGHTS)
        return begun(sight, sight.cues[0].copy(), keys)

    def correct(
        self, image: UInt8[np.ndarray, "H W 3"], thing: LearnedObject, points: Points
    ) -> LearnedObject:
        """Return an object in sight with points on and off it heeded."""
        window = window_with(thing.window, points)
        same = window == thing.window
        prob = thing.prob if same else moved_to(thing, window, image.shape[:2], PROMPT_SIDE)
        prob = corrected(image, window, _resized(prob, PROMPT_SIDE), points)
        fresh = self._shown(image, window, prob)
        return fresh._replace(area=max(fresh.area, thing.area))

    def advance(
        self,
        things: Mapping[int, LearnedObject],
        frame: NextFrame,
        expected: Mapping[int, Expectation],
    ) -> dict[int, LearnedObject]:
        """Return all objects in the next frame."""
        if frame.view.flow is None:
            return dict(things)
        maps = [(each.prob, each.window) for each in things.values()]
        moved = own_motion(frame.view.flow, covered(maps, frame.view.scale, frame.grey.shape))
        view = moving_view(frame.view, moved, (frame.grey, frame.before))
        return {
            track_id: self._advance_one(thing, view, expected.get(track_id))
            for track_id, thing in things.items()
        }

    def _advance_one(
        self, thing: LearnedObject, view: MovingView, expected: Expectation | None
    ) -> LearnedObject:
        """Return one object in the next frame; alone, so that no other decides its outcome."""
        is_back = thing.frames_gone > 0
        sight = sight_again(thing, view, expected) if is_back else next_sight(thing, view)
        if is_back and not sight.cues[0].any():
            keys = np.zeros((KEY_CHANNELS, KEYS), np.float32)
            return gone_on(thing, sight, sight.cues[0], keys)
        logits, keys = self._run(sight, thing.keys, thing.weights)
        if expected is not None:
            logits = logits - beyond_expected(expected, sight.window, self.config, SIDE)
        usual = usual_area(thing.area, expected)
        return gone_on(thing, sight, _probability(logits), keys, usual)

    def _run(
        self,
        sight: Sight,
        keys: Float32[np.ndarray, "M C L"],
        weights: Float32[np.ndarray, "M 2 L"],
    ) -> tuple[Map, Float32[np.ndarray, "C L"]]:
        picture = np.ascontiguousarray(sight.image.transpose(2, 0, 1), np.float32)
        feed = {
            name: array[None]
            for name, array in zip(INPUTS, (picture, sight.cues, keys, weights), strict=True)
        }
        logits, found = self._session.run(OUTPUTS, feed)
        return logits[0], found[0]

    def without(self, thing: LearnedObject, taken: Float32[np.ndarray, "S S"]) -> LearnedObject:
        """Return an object whose map lacks what others have."""
        return thing._replace(prob=thing.prob * (1 - taken))

    def save(self, things: Sequence[LearnedObject]) -> Arrays:
        """Return what is remembered as plain arrays, an object a row."""
        rows = {
            "windows": [each.window[:3] for each in things],
            "probs": [each.prob for each in things],
            "colours": [each.colours for each in things],
            "areas": [each.area for each in things],
            "frames_gone": [each.frames_gone for each in things],
            "keys": [each.keys for each in things],
            "weights": [each.weights for each in things],
            "ages": [each.age for each in things],
        }
        exact = {"windows", "areas", "frames_gone", "ages"}
        return {
            name: np.array(values, np.float64 if name in exact else np.float32).reshape(
                len(things), *_SHAPES[name]
            )
            for name, values in rows.items()
        }

    def load(self, arrays: Mapping[str, np.ndarray], count: int) -> list[LearnedObject]:
        """Return what arrays of `save` hold.

        Raises:
            InputError: an array is missing or has another shape.
        """
        rows = read_rows(arrays, _SHAPES, count)
        return [
            LearnedObject(
                Window(*window.tolist()),
                prob,
                colours,
                float(area),
                float(gone),
                keys,
                weights,
                float(age),
            )
            for window, prob, colours, area, gone, keys, weights, age in zip(*rows, strict=True)
        ]


@cache
def shipped_follower(provider: str = "auto", *, require_gpu: bool = False) -> LearnedFollower:
    """Return the follower of the package's own weights; opened once, it holds no state.

    Args:
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        require_gpu: fail where it ends up on the CPU.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the provider is unknown or not available, or the CPU runs though a GPU is
            required.
    """
    return LearnedFollower(find_helper("follower", "shipped"), provider, require_gpu=require_gpu)


def _probability(logits: Map) -> Map:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _resized(prob: Float32[np.ndarray, "s s"], side: int) -> Float32[np.ndarray, "S S"]:
    return np.asarray(cv2.resize(prob, (side, side)), np.float32)
