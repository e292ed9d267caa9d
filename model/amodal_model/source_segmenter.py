"""Visible masks from a segmenter that the user brings: ONNX files and a TOML file of settings.

    source = open_segmenter(Path("my.toml"))
    state = source.start((480, 640))
    visible, state = source.find(image, prompts, state, expected)

`DetectorSource` finds all objects of each frame by itself (``yolo``, ``generic``); ids over time
are the model's or come from `GivenSource`. `Sam2Source` follows what is prompted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import InputError, LimitError
from amodal_model.frame_size import check_frame_size, check_image
from amodal_model.given_state import GivenState
from amodal_model.masks import BoxedMask, empty_mask
from amodal_model.model_files import file_sha256
from amodal_model.segmenter_generic import GenericSegmenter
from amodal_model.segmenter_graph import Graph
from amodal_model.segmenter_prompts import ObjectPrompt, gather_prompts
from amodal_model.segmenter_propagation import (
    FollowedObject,
    Found,
    Gate,
    best_candidate,
    choose_candidate,
    colours_of,
    hint_at,
    miss,
    place_of,
    see,
    share_pixels,
)
from amodal_model.segmenter_sam2 import MASK_LOGIT, Encoded, Hint, Sam2Pair
from amodal_model.segmenter_settings import SegmenterSettings, read_settings
from amodal_model.segmenter_state import Sam2State, arrays_from_sam2, sam2_from_arrays
from amodal_model.segmenter_yolo import YoloSegmenter
from amodal_model.source_given import GivenSource
from amodal_model.visible_source import Arrays, Expectation, Prompt, StateT, VisibleMaskSource


class SegmenterSource(VisibleMaskSource[StateT], Protocol[StateT]):
    """A source that runs a user's models."""

    @property
    def needs_prompts(self) -> bool:
        """Whether it finds nothing without prompts."""
        ...

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The models, for what runs them."""
        ...


def open_segmenter(path: Path) -> SegmenterSource[Any]:
    """Return the source that a TOML file describes, its models loaded.

    Args:
        path: the settings; docs/segmenters.md describes them.

    Raises:
        InputError: the settings do not hold: see `read_settings`.
        MissingExtraError: onnxruntime is not installed.
        ModelError: a model cannot be loaded, or a tensor of it does not fit.
    """
    settings = read_settings(path)
    return Sam2Source(settings) if settings.kind == "sam2" else DetectorSource(settings)


class DetectorSource:
    """Finds all objects of each frame; takes no prompts.

    Args:
        settings: of kind ``yolo`` or ``generic``.

    Attributes:
        needs_prompts: false; one is an error.
        graphs: the models, for what runs them.
    """

    needs_prompts = False

    def __init__(self, settings: SegmenterSettings) -> None:
        self._settings = settings
        self._segmenter: YoloSegmenter | GenericSegmenter
        if settings.kind == "yolo":
            self._segmenter = YoloSegmenter(settings)
        else:
            self._segmenter = GenericSegmenter(settings)
        self._given = GivenSource()
        self.graphs: tuple[Graph, ...] = (self._segmenter.graph,)

    def __repr__(self) -> str:
        return _shown(self._settings)

    def start(self, frame_size: tuple[int, int]) -> GivenState:
        """Return the state before the first frame.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        return self._given.start(frame_size)

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: GivenState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], GivenState]:
        """Return the visible mask of each object that the model finds, and the new state.

        Args:
            image: RGB.
            prompts: none.
            state: as the last call returned it.
            expected: where the amodal state expects the objects: a hidden one keeps its id.

        Raises:
            InputError: no image, one of another size, or a prompt.
            ModelError: the model fails, or what comes out does not fit together.
        """
        image = _needed(image, state.frame_size)
        if prompts:
            raise InputError(
                f"{self._settings.path}: kind '{self._settings.kind}' finds objects by itself and "
                f"takes no prompts, got {len(prompts)}"
            )
        found = self._segmenter.find(image)
        given = [Prompt(one.track_id, mask=one.mask) for one in found]
        return self._given.find(image, given, state, expected)

    def save_state(self, state: GivenState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        return self._given.save_state(state)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> GivenState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        return self._given.load_state(arrays)


class Sam2Source:
    """Follows the objects that are prompted, by prompting the model again in each frame.

    Args:
        settings: of kind ``sam2``.

    Attributes:
        needs_prompts: true: without any it finds nothing.
        graphs: the models, for what runs them.
    """

    needs_prompts = True

    def __init__(self, settings: SegmenterSettings) -> None:
        self._settings = settings
        self._pair = Sam2Pair(settings)
        self._gate = Gate(settings.thresholds.score, settings.thresholds.mask)
        self.graphs: tuple[Graph, ...] = (self._pair.encoder, self._pair.decoder)

    def __repr__(self) -> str:
        return _shown(self._settings)

    def start(self, frame_size: tuple[int, int]) -> Sam2State:
        """Return the state before the first frame.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        check_frame_size(frame_size)
        return Sam2State(frame_size, (), 1)

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: Sam2State,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], Sam2State]:
        """Return the visible mask of each followed object that shows, and the new state.

        Args:
            image: RGB.
            prompts: new objects, corrections and removals.
            state: as the last call returned it.
            expected: where the amodal state expects the objects: a hidden one is looked for there.

        Raises:
            InputError: no image, one of another size, a prompt that does not fit the frame, or at
                which the model finds nothing.
            LimitError: more objects than the settings allow.
            ModelError: a model fails, or what comes out does not fit together.
        """
        image = _needed(image, state.frame_size)
        said, next_id = gather_prompts(prompts, state.frame_size, state.next_id)
        removed = {prompt.track_id for prompt in said if prompt.remove}
        said = [prompt for prompt in said if not prompt.remove]
        known = {one.track_id: one for one in state.objects if one.track_id not in removed}
        self._check_count(len(known.keys() | {prompt.track_id for prompt in said}))
        if not known and not said:
            return {}, Sam2State(state.frame_size, (), next_id)
        encoded = self._pair.encode(image)
        found = {prompt.track_id: self._begin(encoded, prompt, known) for prompt in said}
        self._follow(image, encoded, known, expected, found)
        visible = {key: mask for key, mask in share_pixels(found).items() if mask.area}
        for prompt in said:
            if prompt.track_id not in visible:
                raise InputError(f"what object {prompt.track_id} is prompted as is another's")
        objects = _remember(image, known, visible)
        return dict(sorted(visible.items())), Sam2State(state.frame_size, objects, next_id)

    def _check_count(self, count: int) -> None:
        if count > self._settings.max_objects:
            raise LimitError(
                f"{count} objects, {self._settings.path} says max_objects "
                f"{self._settings.max_objects}"
            )

    def _begin(
        self, encoded: Encoded, prompt: ObjectPrompt, known: Mapping[int, FollowedObject]
    ) -> Found:
        """Return the mask that a prompt means; points alone correct the mask of a known object."""
        mask = prompt.mask
        if mask is not None and not len(prompt.points):
            sure = np.full(mask.pixels.shape, 2 * MASK_LOGIT, np.float32)
            return Found(mask, sure)
        before = known.get(prompt.track_id)
        if mask is None and before is not None and (prompt.labels <= 1).all():
            place = place_of(before, None)
            mask = None if place is None else place.reference
        answer = self._pair.decode(encoded, Hint(prompt.points, prompt.labels, mask))
        found = best_candidate(answer, encoded.fit, self._gate.mask)
        if not found.mask.area:
            raise InputError(f"the model finds nothing at the prompt of object {prompt.track_id}")
        return found

    def _follow(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        encoded: Encoded,
        known: Mapping[int, FollowedObject],
        expected: Mapping[int, Expectation],
        found: dict[int, Found],
    ) -> None:
        """Add the masks of known objects, those that were visible first."""
        for one in sorted(known.values(), key=lambda one: (one.frames_hidden, one.track_id)):
            place = place_of(one, expected.get(one.track_id))
            if one.track_id in found or place is None:
                continue
            answer = self._pair.decode(encoded, hint_at(place))
            others = [other.mask for other in found.values()]
            chosen = choose_candidate(answer, encoded.fit, image, place, others, self._gate)
            if chosen is not None:
                found[one.track_id] = chosen

    def save_state(self, state: Sam2State) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        return arrays_from_sam2(state)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> Sam2State:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        return sam2_from_arrays(arrays)


def _remember(
    image: UInt8[np.ndarray, "H W 3"],
    known: Mapping[int, FollowedObject],
    visible: Mapping[int, BoxedMask],
) -> tuple[FollowedObject, ...]:
    """Return the objects after a frame, by ascending id."""
    objects = []
    for key in sorted(known.keys() | visible.keys()):
        mask = visible.get(key, empty_mask((0, 0)))
        before = known.get(key)
        if before is not None and not mask.area:
            objects.append(miss(before))
        elif before is not None:
            objects.append(see(before, mask, colours_of(image, mask)))
        else:
            colours = colours_of(image, mask)
            objects.append(FollowedObject(key, mask, mask, 0.0, (0.0, 0.0), colours, 0.0))
    return tuple(objects)


def _shown(settings: SegmenterSettings) -> str:
    """Return what a source is made of: runs that are to agree must agree in this."""
    files = {role: file_sha256(path) for role, path in settings.models.items()}
    return f"{settings} of {files}"


def _needed(
    image: UInt8[np.ndarray, "H W 3"] | None, frame_size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    if image is None:
        raise InputError("a segmenter needs the images of the video, got none")
    check_image(image, frame_size)
    return image
