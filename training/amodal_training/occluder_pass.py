"""A real object pasted into another clip: what passes, where it is, what it covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask

PassKind = Literal["cover", "linger", "cross", "behind", "twice", "early", "beside", "parked"]

_FEATHER_SIGMA = 0.7


@dataclass(frozen=True, eq=False)
class Cutout:
    """A moving object to paste: its masks and the frames of its own clip that they are from.

    Attributes:
        name: the sequence it comes from.
        masks: one mask a frame, all with pixels.
        frame_indices: the frame of each mask in the sequence.
    """

    name: str
    masks: tuple[BoxedMask, ...]
    frame_indices: tuple[int, ...]

    @property
    def mean_area(self) -> float:
        """Mean number of pixels a frame."""
        return float(np.mean([mask.area for mask in self.masks]))

    @property
    def largest_extent(self) -> Float[np.ndarray, " 2"]:
        """Largest width and largest height over all frames, pixels."""
        boxes = np.array([mask.bbox_xyxy for mask in self.masks], float)
        return np.asarray((boxes[:, 2:] - boxes[:, :2]).max(axis=0))

    def position(self, frame_index: int) -> int:
        """Return the position in ``masks`` at a time, looping there and back again."""
        last = len(self.masks) - 1
        return last - abs(frame_index % (2 * last) - last) if last else 0


@dataclass(frozen=True, eq=False)
class Target:
    """The object to be hidden.

    Attributes:
        name: the sequence.
        masks: (T, H, W), whole silhouettes.
        centers: (T, 2), centres of their boxes, x and y, pixels.
        extents: (T, 2), width and height of their boxes, pixels.
    """

    name: str
    masks: Bool[np.ndarray, "T H W"]
    centers: Float[np.ndarray, "T 2"]
    extents: Float[np.ndarray, "T 2"]

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.masks.shape[1], self.masks.shape[2]

    @property
    def last(self) -> int:
        """The last frame."""
        return len(self.masks) - 1

    @property
    def mean_area(self) -> float:
        """Mean number of pixels a frame."""
        return float(np.count_nonzero(self.masks) / len(self.masks))

    def clamp(self, frame_index: int) -> int:
        """Return the frame of the clip nearest to a frame before or after it."""
        return min(max(frame_index, 0), self.last)


def target_of(name: str, masks: Sequence[BoxedMask]) -> Target:
    """Return the target of a sequence, from its whole silhouettes.

    Raises:
        DatasetError: a frame without a mask: then the truth is not known there.
    """
    for frame_index, mask in enumerate(masks):
        if not mask.area:
            raise DatasetError(f"{name}, frame {frame_index}: no mask, a target needs one a frame")
    boxes = np.array([mask.bbox_xyxy for mask in masks], float)
    extents = boxes[:, 2:] - boxes[:, :2]
    return Target(name, np.stack([m.full() for m in masks]), boxes[:, :2] + extents / 2, extents)


@dataclass(frozen=True, eq=False)
class OccluderPass:
    """One occluder and its path.

    Attributes:
        kind: what the pass does to the target.
        cutout: the object that passes.
        phase: where in its own clip the occluder starts, frames.
        flipped: mirrored left to right.
        scale: size in the composite over size in its own clip.
        centers: (T, 2), where the centre of its box is on each frame, x and y, pixels.
    """

    kind: PassKind
    cutout: Cutout
    phase: int
    flipped: bool
    scale: float
    centers: Float[np.ndarray, "T 2"]

    @property
    def in_front(self) -> bool:
        """Whether it hides the target."""
        return self.kind != "behind"

    def source_frame(self, frame_index: int) -> int:
        """Return which frame of the occluder's own clip is shown on a frame."""
        return self.cutout.frame_indices[self.cutout.position(self.phase + frame_index)]

    def frame_from_source(self, frame_index: int) -> Float[np.ndarray, "2 3"]:
        """Return the affine map from the occluder's own frame into the composite's.

        Here pixel centres are at integer coordinates, as OpenCV's warps take them.
        """
        x0, y0, x1, y1 = self._mask(frame_index).bbox_xyxy
        scale_x = -self.scale if self.flipped else self.scale
        shift_x, shift_y = self.centers[frame_index] - 0.5
        return np.array(
            [
                [scale_x, 0.0, shift_x - scale_x * (x0 + x1 - 1) / 2],
                [0.0, self.scale, shift_y - self.scale * (y0 + y1 - 1) / 2],
            ]
        )

    def alpha(self, frame_index: int, frame_size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
        """Return the opacity of the occluder on a frame, float32 (H, W), feathered by 1 px."""
        height, width = frame_size
        pixels = self._mask(frame_index).full().astype(np.float32)
        warped = cv2.warpAffine(pixels, self.frame_from_source(frame_index), (width, height))
        return feather(np.asarray(warped, np.float32))

    def silhouette(self, frame_index: int, frame_size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """Return the pixels that the occluder covers on a frame, bool (H, W)."""
        return np.asarray(self.alpha(frame_index, frame_size) >= 0.5)

    def _mask(self, frame_index: int) -> BoxedMask:
        return self.cutout.masks[self.cutout.position(self.phase + frame_index)]


def feather(opacity: Float[np.ndarray, "H W"]) -> Float[np.ndarray, "H W"]:
    """Return an opacity in [0, 1] whose rim falls off over about a pixel: no seam to be found."""
    return np.asarray(cv2.GaussianBlur(opacity, (3, 3), _FEATHER_SIGMA), np.float32)


def covered_rate(passing: OccluderPass, target: Target, frame_index: int) -> float:
    """Return the part of the target that lies under the occluder on a frame, in [0, 1].

    Of an occluder that passes behind, this is how much it would hide in front.
    """
    mask = target.masks[frame_index]
    covered = mask & passing.silhouette(frame_index, target.frame_size)
    return float(np.count_nonzero(covered) / np.count_nonzero(mask))


def covered_rates(passing: OccluderPass, target: Target) -> Float[np.ndarray, " T"]:
    """Return ``covered_rate`` on every frame."""
    return np.array([covered_rate(passing, target, index) for index in range(target.last + 1)])
