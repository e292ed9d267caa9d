"""Rollout: follow pasted sequences as the stream does, and keep what the network needs to learn.

Uses the stream's own placement and the network's own memory; nothing here is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8

from amodal_model.geometry import Coverage, Window, crop_masks
from amodal_model.memory import (
    CONTEXT_NAMES,
    CROP_SIDE,
    MAP_NAMES,
    SCALAR_NAMES,
    MemoryState,
    StepInputs,
)
from amodal_model.network import remember
from amodal_model.pictures import Picture
from amodal_model.placement import PlacementConfig
from amodal_model.track_state import MotionConfig, new_tracks, template_of
from amodal_model.tracks import Placed, follow
from amodal_model.veils import VeilJudge, recall
from amodal_model.views import View
from amodal_training.occluders import PastedSequence

VeilWatch = Callable[[int, list[int]], VeilJudge]
"""Returns the judge of a frame, from its index and the rows of the sequences that are in it."""


class Batch(NamedTuple):
    """M crops of objects in frames, from whole sequences; images as uint8 coverage.

    Attributes:
        crop: (M, 3, S, S) own, others, outside.
        maps: (M, 4, S, S) the memory moved into the frame's window, before it is written.
        scalars: (M, 2) see `MemoryState.scalars`, also before.
        context: (M, 6) see `StepInputs.context`.
        answer: (M, S, S) the target before pasting.
        unknown: (M, S, S) where the answer is not known, outside included.
        is_carried: (M,) see `PastedSequence`: the answer teaches how sure one can be, not shapes.
    """

    crop: UInt8[np.ndarray, "M 3 S S"]
    maps: UInt8[np.ndarray, "M 4 S S"]
    scalars: Float32[np.ndarray, "M 2"]
    context: Float32[np.ndarray, "M 6"]
    answer: UInt8[np.ndarray, "M S S"]
    unknown: UInt8[np.ndarray, "M S S"]
    is_carried: Bool[np.ndarray, " M"]


class Following(NamedTuple):
    """How objects are followed; anything but the default is an ablation.

    Attributes:
        placement: weights of the registration.
        motion: what is expected of the motion.
        shows_others: whether the memory is told where other visible masks are.
    """

    placement: PlacementConfig = PlacementConfig()
    motion: MotionConfig = MotionConfig()
    shows_others: bool = True


class Followed(NamedTuple):
    """One frame of the sequences whose target was seen by then.

    Attributes:
        frame_index: of all sequences.
        rows: which of the sequences they are.
        placed: their targets in it.
        moved: their memory in the frame's windows, before the frame is written into it.
    """

    frame_index: int
    rows: list[int]
    placed: Placed
    moved: MemoryState[torch.Tensor]


def roll_out(sequences: Sequence[PastedSequence], following: Following | None = None) -> Batch:
    """Follow all sequences side by side; frames before a target was first seen are left out.

    The batch is empty where no target is ever seen.
    """
    parts = [_nothing()]
    for frame in follow_all(sequences, following or Following()):
        shown = [sequences[row] for row in frame.rows]
        answers = _crop_answers(shown, frame.frame_index, frame.placed.tracks.window)
        carried = [bool(one.is_carried and one.is_carried[frame.frame_index]) for one in shown]
        parts.append(_quantise(frame.placed.inputs, frame.moved, answers, np.array(carried)))
    return Batch(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def follow_all(
    sequences: Sequence[PastedSequence], following: Following, watch: VeilWatch | None = None
) -> Iterator[Followed]:
    """Follow the targets of sequences side by side, as streams do but for the network's answer.

    Args:
        sequences: of one length.
        following: how.
        watch: gives the judge of veils of a frame, from its index and the sequences that are in
            it; without one everything that hides a target has a mask.
    """
    count = len(sequences)
    tracks = new_tracks(count)
    maps = torch.zeros(count, len(MAP_NAMES), CROP_SIDE, CROP_SIDE)
    scalars = torch.zeros(count, len(SCALAR_NAMES))
    for index in range(len(sequences[0].own)):
        ready = [
            row
            for row, sequence in enumerate(sequences)
            if not tracks.is_new[row] or sequence.own[index].area > 0
        ]
        if not ready:
            continue
        views = [
            View(
                sequences[row].own[index],
                Coverage(sequences[row].coverage[index]),
                picture=_picture(sequences[row], index),
            )
            for row in ready
        ]
        chosen = type(tracks)(*(field[ready] for field in tracks))
        judge = None if watch is None else watch(index, ready)
        placed = follow(chosen, views, 1.0, following.placement, following.motion, judge)
        _soften(placed.inputs.crop, [sequences[row].softness for row in ready])
        goes_on = torch.from_numpy(~placed.has_begun).float()
        memory = MemoryState(
            maps[ready] * goes_on[:, None, None, None], scalars[ready] * goes_on[:, None]
        )
        recall(memory.maps.numpy(), placed.recalled)
        tensors = StepInputs(*(torch.from_numpy(array) for array in placed.inputs))
        if not following.shows_others:
            tensors = tensors._replace(crop=without_others(tensors.crop))
        moved, memory, template = remember(tensors, memory)
        maps[ready], scalars[ready] = memory
        chosen = placed.tracks._replace(template=template_of(template.numpy()))
        for before, after in zip(tracks, chosen, strict=True):
            before[ready] = after
        yield Followed(index, ready, placed._replace(tracks=chosen), moved)


def _picture(sequence: PastedSequence, index: int) -> Picture | None:
    return Picture(sequence.images[index]) if len(sequence.images) else None


def without_others(crop: Float32[torch.Tensor, "N 3 S S"]) -> Float32[torch.Tensor, "N 3 S S"]:
    """Return crops that do not tell where other visible masks are."""
    return crop * crop.new_tensor([1, 0, 1])[:, None, None]


def _soften(crops: Float32[np.ndarray, "N 3 S S"], softness: Sequence[float]) -> None:
    """Blur own and other masks, in place, as large masks look when they are averaged down."""
    for crop, sigma in zip(crops, softness, strict=True):
        if sigma > 0:
            for channel in crop[:2]:
                channel[:] = cv2.GaussianBlur(np.ascontiguousarray(channel), (0, 0), sigma)


def _nothing() -> Batch:
    """Return a batch without any crop."""
    square = (CROP_SIDE, CROP_SIDE)
    return Batch(
        np.zeros((0, 3, *square), np.uint8),
        np.zeros((0, len(MAP_NAMES), *square), np.uint8),
        np.zeros((0, len(SCALAR_NAMES)), np.float32),
        np.zeros((0, len(CONTEXT_NAMES)), np.float32),
        np.zeros((0, *square), np.uint8),
        np.zeros((0, *square), np.uint8),
        np.zeros(0, bool),
    )


def _crop_answers(
    sequences: Sequence[PastedSequence], index: int, windows: np.ndarray
) -> UInt8[np.ndarray, "N S S 4"]:
    return np.stack(
        [
            crop_masks(
                sequence.answer[index],
                Coverage(sequence.answer[index].full() + sequence.unknown[index]),
                Window(*window),
                CROP_SIDE,
            )
            for sequence, window in zip(sequences, windows.tolist(), strict=True)
        ]
    )


def _quantise(
    inputs: StepInputs[np.ndarray],
    moved: MemoryState[torch.Tensor],
    answers: UInt8[np.ndarray, "N S S 4"],
    is_carried: Bool[np.ndarray, " N"],
) -> Batch:
    return Batch(
        np.rint(inputs.crop * 255).astype(np.uint8),
        (moved.maps * 255).round().to(torch.uint8).numpy(),
        moved.scalars.numpy().copy(),
        inputs.context,
        answers[..., 0],
        np.maximum(answers[..., 1], answers[..., 2]),
        is_carried,
    )
