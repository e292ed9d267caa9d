"""Identity: whether an object that was hidden comes back under the id that it had.

The visible masks of a dataset are given without their ids, in an order that says nothing, and
ids come from `amodal_model.source_given`: with the amodal state, which says where hidden objects
are, and without it. A *return* is a frame that shows an object which no pixel of was to be seen
in at least one frame since it was last seen. No amodal truth is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.pair_evidence import AssociationConfig
from amodal_model.pictures import Picture
from amodal_model.source_given import GivenConfig, GivenSource
from amodal_model.stream import AmodalSegmenter
from amodal_model.video import open_clip
from amodal_model.visible_source import Expectation, Prompt
from amodal_training.evaluation_clip import EvaluationClip, open_evaluation_set

SAME_FROM = 0.5
"""IoU from which a mask with an id is one of the true masks."""

OVERLAP_ONLY = GivenConfig(association=AssociationConfig(like_weight=0.0, near_weight=0.0))
"""A mask is an object's where it overlaps it, and else a new one: association as it is usual."""

FrameIds = Mapping[int, int]
"""In one frame, the id that each true track got, by true track id; those that show alone."""


class IdentityCounts(NamedTuple):
    """How ids were kept over some frames.

    Attributes:
        source: the source sequence of the clip.
        returns: how often an object came back after frames without a pixel.
        return_switches: how often under another id than it had before.
        switches: how often an object got another id than when it was last seen, returns included.
        mistaken: how often an object got an id, not its own before, that had been another's.
    """

    source: str
    returns: int
    return_switches: int
    switches: int
    mistaken: int


def count_identity(source: str, frames: Iterable[FrameIds]) -> IdentityCounts:
    """Count how the ids of true tracks change over the frames of a clip.

    Args:
        source: of the clip.
        frames: the ids of every frame, in order. A track that shows without an id is counted as
            one with an id of its own, which differs from all others: leave none out.

    Track 1 is away in one frame and comes back as 8; track 2 is then taken for the old 7:

    >>> count_identity("s", [{1: 7, 2: 9}, {2: 9}, {1: 8, 2: 7}])
    IdentityCounts(source='s', returns=1, return_switches=1, switches=2, mistaken=1)
    """
    returns = return_switches = switches = mistaken = 0
    last: dict[int, tuple[int, int]] = {}
    owner: dict[int, int] = {}
    for index, ids in enumerate(frames):
        for true_id, given_id in ids.items():
            seen, before = last.get(true_id, (index - 1, given_id))
            is_return, is_switch = seen < index - 1, given_id != before
            returns += is_return
            switches += is_switch
            return_switches += is_return and is_switch
            is_first = true_id not in last
            mistaken += (is_switch or is_first) and owner.get(given_id, true_id) != true_id
            last[true_id] = (index, given_id)
        owner |= {given_id: true_id for true_id, given_id in ids.items()}
    return IdentityCounts(source, returns, return_switches, switches, mistaken)


def ids_of(true: Mapping[int, BoxedMask], found: Mapping[int, BoxedMask]) -> dict[int, int]:
    """Return the id that each true mask got: that of the found mask which overlaps it most.

    Greedy, the largest IoU first, each id once; a true mask that nothing overlaps by an IoU of
    0.5 has no entry.

    Args:
        true: the masks of a frame by true track id.
        found: the same masks, more or less, by the id that they got.
    """
    overlaps = sorted(
        (
            (mask_iou(mask, other), true_id, given_id)
            for true_id, mask in true.items()
            for given_id, other in found.items()
        ),
        key=lambda entry: (-entry[0], entry[1], entry[2]),
    )
    ids: dict[int, int] = {}
    taken: set[int] = set()
    for overlap, true_id, given_id in overlaps:
        if overlap >= SAME_FROM and true_id not in ids and given_id not in taken:
            ids[true_id] = given_id
            taken.add(given_id)
    return ids


def associate_clip(
    frames: Sequence[Mapping[int, BoxedMask]],
    frame_size: tuple[int, int],
    segmenter: AmodalSegmenter | None,
    source: GivenSource | None = None,
    images: Iterable[UInt8[np.ndarray, "H W 3"] | None] = repeat(None),
) -> list[dict[int, int]]:
    """Return the ids that the masks of a clip get where their own are held back.

    Args:
        frames: the visible masks of every frame by true track id.
        frame_size: ``(height, width)`` of the frames, pixels.
        segmenter: gives the amodal state, fed with the ids that were found; ``None`` for none.
        source: gives the ids.
        images: of the frames, where colours are to help.

    Returns:
        A frame an entry, the id of each true track that shows.
    """
    source = source or GivenSource()
    state = source.start(frame_size)
    stream = None if segmenter is None else segmenter.start(frame_size)
    rng, ids = np.random.default_rng(0), []
    for true, image in zip(frames, images, strict=False):
        shown = [mask for _, mask in sorted(true.items())]
        prompts = [Prompt(None, mask=shown[index]) for index in rng.permutation(len(shown))]
        expected: dict[int, Expectation] = {}
        if segmenter is not None and stream is not None:
            expected = segmenter.expect(stream)
        found, state = source.find(image, prompts, state, expected)
        if segmenter is not None and stream is not None:
            picture = None if image is None else Picture(image)
            _, stream = segmenter.advance(found, stream, picture=picture)
        ids.append(ids_of(true, found))
    return ids


class IdentityMethod(NamedTuple):
    """A way to give ids.

    Attributes:
        name: as the table shows it.
        segmenter: gives the amodal state; ``None`` for none.
        source: gives the ids.
        sees_images: whether it is given the frames beside the masks.
    """

    name: str
    segmenter: AmodalSegmenter | None
    source: GivenSource
    sees_images: bool = True


def identity_methods(
    segmenters: Iterable[tuple[str, AmodalSegmenter]],
) -> list[IdentityMethod]:
    """Return association with the amodal state of each segmenter, and without any.

    Each with the images, and from masks alone.
    """
    states = [*segmenters, ("without amodal state", None)]
    return [
        *(IdentityMethod(name, segmenter, GivenSource()) for name, segmenter in states),
        *(
            IdentityMethod(f"{name}, masks alone", segmenter, GivenSource(), sees_images=False)
            for name, segmenter in states
        ),
        IdentityMethod("by overlap only", None, GivenSource(OVERLAP_ONLY), sees_images=False),
    ]


@dataclass(frozen=True, eq=False)
class IdentityEvaluation:
    """How ids were kept on one dataset.

    Attributes:
        dataset: name of its folder.
        counts: by method, one entry a clip.
    """

    dataset: str
    counts: Mapping[str, Sequence[IdentityCounts]]


def evaluate_identity(
    dataset: Path, methods: Sequence[IdentityMethod], limit_clips: int | None = None
) -> IdentityEvaluation:
    """Measure how ids are kept on a dataset folder whose own ids are held back.

    Args:
        dataset: as for `evaluate_dataset`.
        methods: what to measure.
        limit_clips: only the first so many videos.

    Raises:
        DatasetError: the folder does not hold such a dataset.
    """
    clip_set = open_evaluation_set(dataset, limit_clips)
    counts: dict[str, list[IdentityCounts]] = {method.name: [] for method in methods}
    for clip in clip_set.clips():
        frames, size = clip.visible_frames, clip.video.frame_size
        for name, segmenter, source, sees_images in methods:
            images = _images(dataset, clip) if sees_images else repeat(None)
            ids = associate_clip(frames, size, segmenter, source, images)
            counts[name].append(count_identity(clip.source, ids))
    return IdentityEvaluation(dataset.resolve().name, counts)


def _images(dataset: Path, clip: EvaluationClip) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Yield the frames of a clip."""
    for frame in open_clip(dataset / "videos" / clip.video.file_name).frames():
        yield frame.image
