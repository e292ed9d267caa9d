"""The explicit state of the network: what is remembered of each object.

A value, passed in and returned, constant in size. Arrays are numpy, torch or device arrays,
whatever the engine works with; the axes are the same.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

CROP_SIDE = 96
"""Side S of the network's crop and of the remembered maps, pixels."""
MAP_NAMES = ("latest", "known", "average", "keyframe")
"""Channels of `MemoryState.maps`; see there."""
SCALAR_NAMES = ("keyframe_quality", "frames_hidden")
"""Columns of `MemoryState.scalars`; see there."""
CONTEXT_NAMES = ("place_std", "frame_gap", "velocity_x", "velocity_y", "growth", "misfit")
"""Columns of `StepInputs.context`; see there."""

ArrayT = TypeVar("ArrayT")


class MemoryState(NamedTuple, Generic[ArrayT]):
    """Memory of N objects, in the coordinates of their windows.

    Attributes:
        maps: (N, 4, S, S) float in [0, 1]. ``latest``: the pixel's last seen label (object 1,
            background 0). ``known``: 1 when seen now, fading with its age to .35, 0 if never
            seen. ``average``: running mean of the seen labels. ``keyframe``: the visible mask of
            the least obstructed view so far.
        scalars: (N, 2) float. ``keyframe_quality``: share of the keyframe's contour that touched
            no other object and no border, fading slowly. ``frames_hidden``: frames since any
            pixel of the object was visible, at most 35.
    """

    maps: ArrayT
    scalars: ArrayT


class StepInputs(NamedTuple, Generic[ArrayT]):
    """What one step of the network sees of N objects.

    Attributes:
        crop: (N, 3, S, S) float in [0, 1]: own visible mask, other visible masks, outside.
        theta: (N, 2, 3) float, `geometry.old_from_new`: the window's change since the last step.
        context: (N, 6) float, see `CONTEXT_NAMES`: standard deviation of the placement as a share
            of the window, frames since the last step, motion of the window's centre (x, y) as a
            share of its side and of its log side, per frame, and what the placed silhouette does
            not explain of the visible mask, as a share of it.
    """

    crop: ArrayT
    theta: ArrayT
    context: ArrayT


class StepOutputs(NamedTuple, Generic[ArrayT]):
    """What one step of the network says of N objects.

    Attributes:
        logits: (N, S, S) float, amodal silhouette where above 0.
        confidence: (N, 2) float in [0, 1]: expected IoU of the whole silhouette and of its hidden
            part with the truth.
        template: (N, 2, S/2, S/2) float in [0, 1]: remembered silhouette and how far it is known,
            for the placement in the next frame.
    """

    logits: ArrayT
    confidence: ArrayT
    template: ArrayT
