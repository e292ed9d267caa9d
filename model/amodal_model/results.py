"""What the segmenter says about one object and one frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from amodal_model.masks import BoxedMask, subtract

ObjectState = Literal["visible", "partial", "hidden", "lost"]

PARTIAL_FROM = 0.05
"""Occlusion rate from which an object counts as partially visible (formats.md)."""


@dataclass(frozen=True, eq=False)
class ObjectResult:
    """One object in one frame.

    Attributes:
        track_id: the id given with the visible masks.
        visible: the visible mask as given; empty while the object is hidden.
        amodal: the whole silhouette, clipped to the frame; contains ``visible``. Empty when lost.
        occlusion_rate: 1 - |visible| / |amodal|, in [0, 1]; 1 when hidden or lost.
        state: ``visible`` (rate under 0.05), ``partial``, ``hidden`` (no visible pixel) or
            ``lost`` (given up).
        occluded_by: track ids of the objects whose visible masks lie over the hidden part,
            largest overlap first; none where what hides it has no mask.
        score: expected IoU of ``amodal`` with the truth, in [0, 1].
        confidence_visible: confidence in the visible mask, in [0, 1]; 1 for masks given.
        confidence_occluded: expected IoU of the hidden part with the truth, in [0, 1]; 0 where
            nothing is taken to be hidden.
        remembered: the part of ``inferred`` that another frame showed as the object: an earlier
            one, offline a later one too. The rest of ``inferred`` was never seen. Known to about
            1/48 of the object's window.
    """

    track_id: int
    visible: BoxedMask
    amodal: BoxedMask
    occlusion_rate: float
    state: ObjectState
    occluded_by: tuple[int, ...]
    score: float
    confidence_visible: float
    confidence_occluded: float
    remembered: BoxedMask

    @cached_property
    def inferred(self) -> BoxedMask:
        """The hidden part that the model filled in: amodal minus visible."""
        return subtract(self.amodal, self.visible)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All known objects of one frame.

    Attributes:
        objects: one entry for every object seen so far, by ascending track id, ``lost`` ones too.
        order: (front, back) pairs of track ids, where front hides part of back; of two objects
            with hidden parts under each other's masks, the pair of the larger one.
    """

    objects: tuple[ObjectResult, ...]
    order: tuple[tuple[int, int], ...]
