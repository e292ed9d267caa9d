"""Visible masks from prompts: the objects that a client points out, followed by their looks.

A `VisibleMaskSource` that needs no trained weights and knows no classes. Prompts begin, correct
and remove objects in any frame; between them each object is carried along (`propagation`), and
where two of them claim a pixel the surer one has it. What the amodal state expects says where to
look for an object out of sight, and bounds what an object may grow to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from amodal_model.colours import BINS
from amodal_model.errors import InputError
from amodal_model.followed_object import LOOSE, SIDE, TIGHT, FollowConfig, Followed, begin
from amodal_model.frame_size import check_frame_size
from amodal_model.geometry import Window, paste_values
from amodal_model.image_motion import (
    FrameView,
    backward_flow,
    own_motion,
    sample_mask,
    work_grey,
    work_size,
)
from amodal_model.masks import BoxedMask, tighten
from amodal_model.prompt_masks import Said, corrected, first_mask, gather, window_with
from amodal_model.propagation import advance
from amodal_model.visible_source import Arrays, Expectation, Prompt


class PromptedState(NamedTuple):
    """What is remembered of the prompted objects of one clip; N of them.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        grey: the last frame in grey at working size; without rows before the first.
        track_ids: ids of the objects.
        windows: (N, 3) where each one's map lies: centre and side, frame pixels.
        probs: (N, S, S) how surely each pixel of the window was its object's.
        colours: (N, 4, K) colour models.
        areas: (N,) usual visible area, frame pixels.
        frames_gone: (N,) frames since each was in sight.
        bands: (N,) how far from the carried contour the next cut may lie.
    """

    frame_size: tuple[int, int]
    grey: UInt8[np.ndarray, "h w"]
    track_ids: tuple[int, ...]
    windows: Float64[np.ndarray, "N 3"]
    probs: Float32[np.ndarray, "N S S"]
    colours: Float32[np.ndarray, "N 4 K"]
    areas: Float64[np.ndarray, " N"]
    frames_gone: Float64[np.ndarray, " N"]
    bands: Float64[np.ndarray, " N"]


class PromptedSource:
    """Follows prompted objects; a `VisibleMaskSource`."""

    def __init__(self, config: FollowConfig | None = None) -> None:
        self.config = config or FollowConfig()

    def __repr__(self) -> str:
        return f"PromptedSource({self.config})"

    def start(self, frame_size: tuple[int, int]) -> PromptedState:
        """Return the state before the first frame.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        check_frame_size(frame_size)
        grey = np.zeros((0, work_size(frame_size)[1]), np.uint8)
        return _state(frame_size, grey, {})

    def find(
        self,
        image: UInt8[np.ndarray, "H W 3"] | None,
        prompts: Sequence[Prompt],
        state: PromptedState,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], PromptedState]:
        """Return the visible mask of each prompted object that shows, and the new state.

        Raises:
            InputError: no image, an image or a mask of another size than the frames, or a
                correction of an object that nothing has shown yet.
        """
        _check(image, prompts, state)
        assert image is not None  # noqa: S101  checked above, said for the type checker
        said = gather(prompts)
        grey = work_grey(image)
        things = _things(state)
        followed = {k: v for k, v in things.items() if not _is_shown_anew(said.get(k))}
        things |= self._follow(followed, image, grey, state, expected)
        for track_id, each in said.items():
            if each.remove:
                things.pop(track_id, None)
            else:
                things[track_id] = _heed(image, each, things.get(track_id), track_id)
        masks, things = _share_out(things, state.frame_size)
        return masks, _state(state.frame_size, grey, things)

    def _follow(
        self,
        things: Mapping[int, Followed],
        image: UInt8[np.ndarray, "H W 3"],
        grey: UInt8[np.ndarray, "h w"],
        state: PromptedState,
        expected: Mapping[int, Expectation],
    ) -> dict[int, Followed]:
        if not things:
            return {}
        flow = backward_flow(grey, state.grey) if len(state.grey) else None
        view = FrameView(image, grey.shape[1] / image.shape[1], flow)
        moved = None if flow is None else own_motion(flow, _covered(things, view, grey.shape))
        return {
            track_id: advance(thing, view, moved, expected.get(track_id), self.config)
            for track_id, thing in things.items()
        }

    def save_state(self, state: PromptedState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        arrays = {name: np.asarray(value) for name, value in state._asdict().items()}
        arrays["track_ids"] = np.array(state.track_ids, np.int64)
        return arrays

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> PromptedState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        try:
            height, width = (int(side) for side in arrays["frame_size"])
            ids = tuple(int(track_id) for track_id in arrays["track_ids"])
            rest = [arrays[name] for name in PromptedState._fields[3:]]
            shapes = [array.shape for array in rest]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"state of prompted objects: no proper array {error}") from None
        n = len(ids)
        if shapes != [(n, 3), (n, SIDE, SIDE), (n, 4, BINS), (n,), (n,), (n,)]:
            raise InputError(f"state of {n} prompted objects has arrays of shapes {shapes}")
        return PromptedState((height, width), arrays["grey"], ids, *rest)


def _check(
    image: UInt8[np.ndarray, "H W 3"] | None, prompts: Sequence[Prompt], state: PromptedState
) -> None:
    height, width = state.frame_size
    if image is None:
        raise InputError("prompted objects are followed in images, got none")
    sizes = {"image": image.shape[:2]} | {
        f"mask of track {p.track_id}": p.mask.frame_size for p in prompts if p.mask is not None
    }
    for name, size in sizes.items():
        if size != (height, width):
            raise InputError(f"{name} is {size[1]}x{size[0]}, the frames are {width}x{height}")


def _is_shown_anew(said: Said | None) -> bool:
    return said is not None and (said.box is not None or said.mask is not None or said.remove)


def _heed(
    image: UInt8[np.ndarray, "H W 3"], said: Said, known: Followed | None, track_id: int
) -> Followed:
    """Return an object as a prompt shows or corrects it."""
    if known is None or _is_shown_anew(said):
        if not (_is_shown_anew(said) or any(sign for _, _, sign in said.points)):
            raise InputError(f"track {track_id} is corrected, but nothing has shown it yet")
        window, prob = first_mask(image, said)
        return begin(image, window, prob, TIGHT if said.mask is not None else LOOSE)
    if known.frames_gone > 0 and any(sign for _, _, sign in said.points):
        return begin(image, *first_mask(image, said), LOOSE)
    window = window_with(known.window, said.points)
    prob = known.prob if window == known.window else _moved_to(known, window, image.shape[:2])
    prob = corrected(image, window, prob, said.points)
    fresh = begin(image, window, prob, known.band)
    return fresh._replace(area=max(fresh.area, known.area))


def _moved_to(
    thing: Followed, window: Window, frame_size: tuple[int, int]
) -> Float32[np.ndarray, "S S"]:
    box, values = paste_values(thing.prob, thing.window, frame_size, outside=0.0)
    return sample_mask(BoxedMask(box, values > 0.5, frame_size), window, SIDE)


def _covered(
    things: Mapping[int, Followed], view: FrameView, work_shape: tuple[int, ...]
) -> Bool[np.ndarray, "h w"]:
    """Return where objects were in the last frame, at working size."""
    covered = np.zeros(work_shape, bool)
    for thing in things.values():
        window = Window(*(value * view.scale for value in thing.window))
        (x0, y0, x1, y1), values = paste_values(
            thing.prob, window, (work_shape[0], work_shape[1]), outside=0.0
        )
        if values.size:
            covered[y0:y1, x0:x1] |= values > 0.2
    return covered


def _share_out(
    things: dict[int, Followed], frame_size: tuple[int, int]
) -> tuple[dict[int, BoxedMask], dict[int, Followed]]:
    """Return the masks, no pixel in two of them, and the objects without what others have."""
    pasted = {
        track_id: paste_values(thing.prob, thing.window, frame_size, outside=0.0)
        for track_id, thing in sorted(things.items())
        if thing.frames_gone == 0
    }
    if len(pasted) < 2:
        masks = {k: tighten(BoxedMask(b, v > 0.5, frame_size)) for k, (b, v) in pasted.items()}
        return {k: mask for k, mask in masks.items() if mask.area}, things
    best = np.full(frame_size, 0.5, np.float32)
    owner = np.full(frame_size, -1, np.int32)
    keys = list(pasted)
    for number, key in enumerate(keys):
        (x0, y0, x1, y1), values = pasted[key]
        is_surer = values > best[y0:y1, x0:x1]
        owner[y0:y1, x0:x1][is_surer] = number
        best[y0:y1, x0:x1][is_surer] = values[is_surer]
    masks, left = {}, dict(things)
    for number, key in enumerate(keys):
        x0, y0, x1, y1 = box = pasted[key][0]
        part = owner[y0:y1, x0:x1]
        mask = tighten(BoxedMask(box, part == number, frame_size))
        if mask.area:
            masks[key] = mask
        others = (part >= 0) & (part != number)
        if others.any():
            taken = sample_mask(BoxedMask(box, others, frame_size), things[key].window, SIDE)
            left[key] = things[key]._replace(prob=things[key].prob * (1 - taken))
    return masks, left


def _things(state: PromptedState) -> dict[int, Followed]:
    return {
        track_id: Followed(Window(*window), prob, colours, float(area), float(gone), float(band))
        for track_id, window, prob, colours, area, gone, band in zip(
            state.track_ids,
            state.windows.tolist(),
            state.probs,
            state.colours,
            state.areas,
            state.frames_gone,
            state.bands,
            strict=True,
        )
    }


def _state(
    frame_size: tuple[int, int], grey: UInt8[np.ndarray, "h w"], things: Mapping[int, Followed]
) -> PromptedState:
    rows = [things[key] for key in sorted(things)]
    n = len(rows)
    return PromptedState(
        frame_size,
        grey,
        tuple(sorted(things)),
        np.array([row.window for row in rows], np.float64).reshape(n, 3),
        np.array([row.prob for row in rows], np.float32).reshape(n, SIDE, SIDE),
        np.array([row.colours for row in rows], np.float32).reshape(n, 4, BINS),
        np.array([row.area for row in rows], np.float64),
        np.array([row.frames_gone for row in rows], np.float64),
        np.array([row.band for row in rows], np.float64),
    )
