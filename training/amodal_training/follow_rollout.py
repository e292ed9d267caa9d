"""Objects followed through scenes by the network being trained, many at once.

Each stream goes on from its own last map, as served, so that the network learns to recover from
its own errors. No gradient goes through time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from amodal_model.carried_map import covered
from amodal_model.follow_sight import MovingView, first_sight, moving_view, next_sight, sight_again
from amodal_model.followed_object import Map
from amodal_model.image_motion import FrameView, own_motion, sample_mask, work_grey
from amodal_model.learned_object import KEYS, SIDE, SLOTS, LearnedObject, Sight, begun, gone_on
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.prompt_masks import Said, first_mask
from amodal_training.follow_scenes import read_scene
from amodal_training.scenes import FLOW_UNIT

_LOST_FRAMES = 4
_BOX_SHARE, _AGAIN_SHARE = 0.65, 0.4


class Batch(NamedTuple):
    """What the network takes for some streams.

    Attributes:
        pictures: (B, S, S, 3) RGB.
        cues: (B, C, S, S).
        remembered: (B, slots, S, S, 3) pictures of the remembered frames.
        weights: (B, slots, 2, L) of their keys.
        truth: (B, S, S) true map.
        counts: (B,) whether the answer is asked for.
    """

    pictures: UInt8[np.ndarray, "B S S 3"]
    cues: Float32[np.ndarray, "B C S S"]
    remembered: UInt8[np.ndarray, "B M S S 3"]
    weights: Float32[np.ndarray, "B M 2 L"]
    truth: Float32[np.ndarray, "B S S"]
    counts: Float32[np.ndarray, " B"]


class Score(NamedTuple):
    """How a map compares with the truth: a frame of a stream."""

    is_first: bool
    iou: float


class Stream:
    """One object of one scene, followed; then another.

    Args:
        files: scenes; the list may grow.
        rng: source of chance.
        only_begins: whether to go on to another object after the first mask.
    """

    def __init__(
        self, files: Sequence[Path], rng: np.random.Generator, *, only_begins: bool = False
    ) -> None:
        self._files, self._rng, self._only_begins = files, rng, only_begins
        self.is_over = False
        self._begin()

    def _begin(self) -> None:
        stored = read_scene(self._files[int(self._rng.integers(len(self._files)))])
        self._scene = stored.scene
        prompt = stored.prompts[int(self._rng.integers(len(stored.prompts)))]
        self._index, self._label = prompt.frame_index, prompt.label
        self._thing: LearnedObject | None = None
        self._remembered = np.zeros((SLOTS, SIDE, SIDE, 3), np.uint8)
        self._lost = 0
        self._again = self._rng.random() < _AGAIN_SHARE
        mask, image = self._true_mask(), self._scene.images[self._index]
        if self._only_begins or self._rng.random() < _BOX_SHARE:
            self._asked: tuple[float, float, float, float] | None = prompt.box
            window, prob = prompt.window, np.float32(1 / 255) * prompt.guess
        else:
            self._asked = None
            window, prob = first_mask(image, Said(None, mask, (), remove=False))
        self._sight = first_sight(image, window, prob, self._asked)
        self._truth = sample_mask(mask, window, SIDE)

    def _true_mask(self) -> BoxedMask:
        return box_mask(self._scene.labels[self._index] == self._label)

    @property
    def sight(self) -> Sight:
        """What is seen now."""
        return self._sight

    @property
    def weights(self) -> Float32[np.ndarray, "M 2 L"]:
        """Of the remembered keys."""
        return (
            np.zeros((SLOTS, 2, KEYS), np.float32) if self._thing is None else self._thing.weights
        )

    @property
    def remembered(self) -> UInt8[np.ndarray, "M S S 3"]:
        """The remembered pictures."""
        return self._remembered

    @property
    def truth(self) -> Map:
        """The true map."""
        return self._truth

    @property
    def counts(self) -> bool:
        """Whether the answer is asked for: not where a true mask is the prompt."""
        return self._thing is not None or self._asked is not None

    def take(self, prob: Map, keys: Float32[np.ndarray, "C L"]) -> Score | None:
        """Go on with the network's answer; return how good it was, if it was asked for."""
        true = self._truth > 0.5
        found = (prob > 0.5) & (self._sight.inside > 0)
        union = int((true | found).sum())
        iou = int((true & found).sum()) / union if union else 1.0
        score = Score(self._thing is None, iou) if self.counts else None
        if self._thing is None:
            if self._asked is not None and self._again:
                self._again = False
                image = self._scene.images[self._index]
                self._sight = first_sight(image, self._sight.window, prob, self._asked)
                return score
            if self._only_begins:
                self._begin()
                return score
            prob = prob if self._asked is not None else self._truth
            self._thing = begun(self._sight, prob, keys)
            self._remembered[:] = self._sight.image
        else:
            weights = self._thing.weights
            self._thing = gone_on(self._thing, self._sight, prob, keys)
            if self._thing.weights is not weights:
                self._remembered = self._remembered.copy()
                self._remembered[1] = self._sight.image
        self._lost = 0 if iou > 0.05 or not true.any() else self._lost + 1
        self._go_on()
        return score

    def _go_on(self) -> None:
        self._index += 1
        thing = self._thing
        if self._index >= len(self._scene.images) or self._lost >= _LOST_FRAMES or thing is None:
            self.is_over = True
            self._begin()
            return
        self.is_over = False
        view = self._view(thing)
        is_back = thing.frames_gone > 0
        self._sight = sight_again(thing, view, None) if is_back else next_sight(thing, view)
        mask = self._true_mask()
        self._truth = sample_mask(mask, self._sight.window, SIDE)

    def _view(self, thing: LearnedObject) -> MovingView:
        scene, index = self._scene, self._index
        flow = scene.flows[index].astype(np.float32) * np.float32(FLOW_UNIT)
        greys = work_grey(scene.images[index]), work_grey(scene.images[index - 1])
        is_object = covered([(thing.prob, thing.window)], 1.0, greys[0].shape)
        frame = FrameView(scene.images[index], 1.0, flow)
        return moving_view(frame, own_motion(flow, is_object), greys)


def batch_of(streams: Sequence[Stream]) -> Batch:
    """Return what the network takes for all streams."""
    return Batch(
        np.stack([each.sight.image for each in streams]),
        np.stack([each.sight.cues for each in streams]),
        np.stack([each.remembered for each in streams]),
        np.stack([each.weights for each in streams]),
        np.stack([each.truth for each in streams]),
        np.array([each.counts for each in streams], np.float32),
    )
