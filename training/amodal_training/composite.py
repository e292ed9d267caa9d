"""The davis-composite benchmark: real objects with another sequence's object passing over them.

The annotated silhouette of the target is whole, so that pasting an occluder over it leaves exact
amodal truth on real pixels. Nothing of the source pixels is kept in this project: the benchmark is
built on demand from a folder of the user.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, empty_mask
from amodal_model.video import open_clip
from amodal_model.youtube_vis import MaskFile, VideoEntry, read_mask_file
from amodal_training.composite_plan import plan_pass
from amodal_training.labeled_clip import LabeledClip, box_masks
from amodal_training.occluder_pass import (
    Cutout,
    OccluderPass,
    PassKind,
    Target,
    feather,
    target_of,
)

TARGET_ID = 1
OCCLUDER_ID = 2

USUAL_KINDS: tuple[PassKind, ...] = ("cover", "linger", "cross")
RARE_KINDS: tuple[PassKind, ...] = (
    "behind",
    "early",
    "twice",
    "parked",
    "behind",
    "early",
    "beside",
)

LICENSE = """# davis-composite: origin and terms

Composites of DAVIS 2016 sequences (Perazzi et al., CVPR 2016): the object of one sequence pasted
over another. DAVIS is licensed CC BY-NC 4.0, and so is this dataset. **Evaluation only**: never
train shipped weights on it, never redistribute it with the project.
"""


@dataclass(frozen=True, eq=False)
class Sequences:
    """A folder of annotated sequences: where its videos are and what its masks say.

    Attributes:
        folder: holds ``videos/``, ``visible.json`` and ``tags.json``.
        masks: the content of ``visible.json``.
        whole: names of the sequences whose mask is the whole silhouette on every frame.
    """

    folder: Path
    masks: MaskFile
    whole: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Names of all sequences, in file order."""
        return [Path(video.file_name).stem for video in self.masks.videos]

    def video(self, name: str) -> VideoEntry:
        """Return the entry of a sequence."""
        for video in self.masks.videos:
            if Path(video.file_name).stem == name:
                return video
        raise DatasetError(f"{self.folder}: tags.json names {name!r}, visible.json does not")

    def masks_of(self, name: str) -> list[BoxedMask]:
        """Return the mask of the (only) object of a sequence on each frame."""
        video = self.video(name)
        tracks = self.masks.tracklets_of(video.video_id)
        if len(tracks) != 1:
            raise DatasetError(f"{self.folder}: {name} has {len(tracks)} objects, limit 1")
        found = [tracks[0].mask(index) for index in range(video.length)]
        return [empty_mask(video.frame_size) if mask is None else mask for mask in found]

    def frames_of(self, name: str) -> UInt8[np.ndarray, "T H W 3"]:
        """Return the frames of a sequence, uint8 RGB (T, H, W, 3)."""
        video = self.video(name)
        clip = open_clip(self.folder / "videos" / video.file_name)
        frames = np.stack([frame.image for frame in clip.frames()])
        if frames.shape[:3] != (video.length, video.height, video.width):
            raise DatasetError(
                f"{video.file_name}: decodes to {frames.shape[:3]}, visible.json says "
                f"{(video.length, video.height, video.width)}"
            )
        return frames


def read_sequences(folder: Path) -> Sequences:
    """Read a folder of annotated sequences.

    Raises:
        DatasetError: ``visible.json`` or ``tags.json`` is missing, broken, or names no target.
    """
    masks = read_mask_file(folder / "visible.json")
    try:
        whole = json.loads((folder / "tags.json").read_bytes())["whole_silhouette"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{folder / 'tags.json'}: no list 'whole_silhouette': {error}") from None
    if not whole or len(masks.videos) < 2:
        raise DatasetError(f"{folder}: {len(whole)} targets of {len(masks.videos)} sequences")
    return Sequences(folder, masks, tuple(whole))


def cutout_of(sequences: Sequences, name: str) -> Cutout:
    """Return the object of a sequence, on the frames where enough of it is in view to be pasted.

    Raises:
        DatasetError: the sequence has no mask at all.
    """
    masks = sequences.masks_of(name)
    areas = [mask.area for mask in masks]
    enough = 0.4 * float(np.median(areas))
    kept = [index for index, area in enumerate(areas) if area > enough]
    if not kept:
        raise DatasetError(f"{sequences.folder}: {name} has no mask on any frame")
    return Cutout(name, tuple(masks[index] for index in kept), tuple(kept))


def pass_kind(target_index: int, copy: int) -> PassKind:
    """Return the kind of pass of a composite: three usual kinds, then one of the rare ones."""
    kind = copy % (len(USUAL_KINDS) + 1)
    if kind < len(USUAL_KINDS):
        return USUAL_KINDS[kind]
    return RARE_KINDS[(target_index + copy // (len(USUAL_KINDS) + 1)) % len(RARE_KINDS)]


def composite_name(target: str, copy: int) -> str:
    """Return the name of a composite."""
    return f"{target}-{copy}"


def make_composite(
    sequences: Sequences, cutouts: Sequence[Cutout], target_name: str, copy: int, seed: int
) -> LabeledClip:
    """Return one composite; the same arguments give the same clip.

    Args:
        sequences: the annotated sequences.
        cutouts: the objects that may be pasted (the target's own is left out).
        target_name: the sequence to paste over.
        copy: which composite of this target.
        seed: of the benchmark.
    """
    target_index = sequences.whole.index(target_name)
    rng = np.random.default_rng([seed, target_index, copy])
    target = target_of(target_name, sequences.masks_of(target_name))
    others = [cutout for cutout in cutouts if cutout.name != target_name]
    passing = plan_pass(pass_kind(target_index, copy), target, others, rng)
    frames = paste(
        sequences.frames_of(target_name), target, passing, sequences.frames_of(passing.cutout.name)
    )
    return LabeledClip(
        name=composite_name(target_name, copy),
        source=target_name,
        frames=frames,
        fps=sequences.video(target_name).fps,
        visible=_visible_masks(target, passing),
        amodal={TARGET_ID: box_masks(target.masks)},
    )


def _visible_masks(target: Target, passing: OccluderPass) -> dict[int, tuple[BoxedMask, ...]]:
    """Return the visible masks of target and occluder: whoever is behind loses the overlap."""
    wholes = list(target.masks)
    overs = [passing.silhouette(index, target.frame_size) for index in range(len(wholes))]
    if passing.in_front:
        wholes = [whole & ~over for whole, over in zip(wholes, overs, strict=True)]
    else:
        overs = [over & ~whole for whole, over in zip(wholes, overs, strict=True)]
    return {TARGET_ID: box_masks(wholes), OCCLUDER_ID: box_masks(overs)}


def paste(
    frames: UInt8[np.ndarray, "T H W 3"],
    target: Target,
    passing: OccluderPass,
    occluder_frames: UInt8[np.ndarray, "U H2 W2 3"],
) -> UInt8[np.ndarray, "T H W 3"]:
    """Return the frames with the occluder pasted, its rim feathered by 1 px.

    Args:
        frames: of the target's sequence.
        target: its silhouette stays in front of an occluder that passes behind.
        passing: the occluder and its path.
        occluder_frames: all frames of the occluder's own sequence.
    """
    height, width = target.frame_size
    pasted = []
    for index, frame in enumerate(frames):
        image = cv2.warpAffine(
            occluder_frames[passing.source_frame(index)],
            passing.frame_from_source(index),
            (width, height),
            borderMode=cv2.BORDER_REPLICATE,
        )
        alpha = passing.alpha(index, (height, width))
        if not passing.in_front:
            alpha = alpha * (1 - feather(target.masks[index].astype(np.float32)))
        mixed = frame + alpha[..., None] * (image.astype(np.float32) - frame)
        pasted.append(np.round(mixed).astype(np.uint8))
    return np.stack(pasted)
