"""Visible masks from prompts: the objects that a client points out, followed by their looks.

A `VisibleMaskSource` that knows no classes. Prompts begin, correct and remove objects in any
frame; between them each object is brought along by a `Follower`, and where two of them claim a
pixel the surer one has it. What the amodal state expects says where to look for an object out of
sight, and bounds what an object may grow to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import InputError
from amodal_model.follower import FollowedThing, Follower, NextFrame
from amodal_model.follower_learned import shipped_follower
from amodal_model.frame_size import check_frame_size
from amodal_model.geometry import paste_values
from amodal_model.image_motion import FrameView, backward_flow, sample_mask, work_grey, work_size
from amodal_model.masks import BoxedMask, tighten
from amodal_model.prompt_masks import Said, gather
from amodal_model.visible_source import Arrays, Expectation, Prompt

Things = dict[int, FollowedThing]


class PromptedState(NamedTuple):
    """What is remembered of the prompted objects of one clip.

    Attributes:
        frame_size: ``(height, width)`` of its frames, pixels.
        grey: the last frame in grey at working size; without rows before the first.
        track_ids: ids of the objects, ascending.
        things: what the follower remembers of each.
    """

    frame_size: tuple[int, int]
    grey: UInt8[np.ndarray, "h w"]
    track_ids: tuple[int, ...]
    things: tuple[FollowedThing, ...]


class PromptedSource:
    """Follows prompted objects; a `VisibleMaskSource`.

    Args:
        follower: brings objects from frame to frame; by default the shipped network.
        provider: what the shipped network runs on: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        require_gpu: fail where it ends up on the CPU.

    Raises:
        MissingExtraError: the shipped network is wanted, and onnxruntime is not installed.
        ModelError: the provider is unknown or not available, or the CPU runs though a GPU is
            required.
    """

    def __init__(
        self,
        follower: Follower[Any] | None = None,
        *,
        provider: str = "auto",
        require_gpu: bool = False,
    ) -> None:
        self.follower: Follower[Any] = follower or shipped_follower(
            provider, require_gpu=require_gpu
        )

    def __repr__(self) -> str:
        return f"PromptedSource({self.follower!r})"

    def start(self, frame_size: tuple[int, int]) -> PromptedState:
        """Return the state before the first frame.

        Raises:
            LimitError: a side is not 1 to 16384.
        """
        check_frame_size(frame_size)
        grey = np.zeros((0, work_size(frame_size)[1]), np.uint8)
        return PromptedState(frame_size, grey, (), ())

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
        things: Things = dict(zip(state.track_ids, state.things, strict=True))
        followed = {k: v for k, v in things.items() if not _is_shown_anew(said.get(k))}
        things |= self._follow(followed, image, grey, state, expected)
        for track_id, each in said.items():
            if each.remove:
                things.pop(track_id, None)
            else:
                things[track_id] = self._heed(image, each, things.get(track_id), track_id)
        masks, things = self._share_out(things, state.frame_size)
        ids = tuple(sorted(things))
        kept = tuple(things[track_id] for track_id in ids)
        return masks, PromptedState(state.frame_size, grey, ids, kept)

    def _follow(
        self,
        things: Things,
        image: UInt8[np.ndarray, "H W 3"],
        grey: UInt8[np.ndarray, "h w"],
        state: PromptedState,
        expected: Mapping[int, Expectation],
    ) -> Things:
        if not things:
            return {}
        flow = backward_flow(grey, state.grey) if len(state.grey) else None
        view = FrameView(image, grey.shape[1] / image.shape[1], flow)
        return self.follower.advance(things, NextFrame(view, grey, state.grey), expected)

    def _heed(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        said: Said,
        known: FollowedThing | None,
        track_id: int,
    ) -> FollowedThing:
        """Return an object as a prompt shows or corrects it."""
        has_place = any(sign for _, _, sign in said.points)
        is_anew = _is_shown_anew(said)
        if known is None and not (is_anew or has_place):
            raise InputError(f"track {track_id} is corrected, but nothing has shown it yet")
        heeded: FollowedThing
        if known is None or is_anew or (known.frames_gone > 0 and has_place):
            heeded = self.follower.begin(image, said)
        else:
            heeded = self.follower.correct(image, known, said.points)
        return heeded

    def save_state(self, state: PromptedState) -> Arrays:
        """Return a state as plain arrays, to be stored by name."""
        own = {
            "frame_size": np.asarray(state.frame_size),
            "grey": state.grey,
            "track_ids": np.array(state.track_ids, np.int64),
        }
        return own | self.follower.save(state.things)

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> PromptedState:
        """Return the state of arrays that `save_state` gave.

        Raises:
            InputError: an array is missing or has another shape.
        """
        try:
            height, width = (int(side) for side in arrays["frame_size"])
            ids = tuple(int(track_id) for track_id in arrays["track_ids"])
            grey = arrays["grey"]
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"state of prompted objects: no proper array {error}") from None
        things = tuple(self.follower.load(arrays, len(ids)))
        return PromptedState((height, width), grey, ids, things)

    def _share_out(
        self, things: Things, frame_size: tuple[int, int]
    ) -> tuple[dict[int, BoxedMask], Things]:
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
                window, side = things[key].window, things[key].prob.shape[0]
                taken = sample_mask(BoxedMask(box, others, frame_size), window, side)
                left[key] = self.follower.without(things[key], taken)
        return masks, left


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
