"""Examples for the judge of veils: drawn occluders without a mask, followed as streams do.

What a judge says decides what it will see next: a veil keeps what is usually seen. So sequences
are followed by the truth, by the present network, and by nobody, and each judge's frames are
examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.geometry import Coverage, Window, crop_masks
from amodal_model.memory import CROP_SIDE
from amodal_model.pictures import LOOK_CHANNELS
from amodal_model.veil_judge import MAPS, SCALARS, inputs_of
from amodal_model.veils import Sighting, VeilJudge, halved
from amodal_training.occluders import PastedSequence
from amodal_training.rollout import Following, follow_all

CERTAIN = 10.0
"""Logit of what is known."""
UNKNOWN_SHARE = 0.25
"""Share of a pixel's area from which it is not asked for."""
ASKED_FROM = 0.2
"""Of what is usually seen: pixels below are of no interest."""


class VeilExamples(NamedTuple):
    """M objects in frames, where the judge is asked.

    Attributes:
        maps: (M, 5, 48, 48) `veil_judge.MAPS`, 0 to 255.
        scalars: (M, 5) `veil_judge.SCALARS`, as the network sees them.
        looks: (M, 11, 48, 48) what pictures show, where there are any; else (M, 0, 48, 48).
        hidden: (M, 48, 48) whether the pixel is the object's, and hidden.
        counts: (M, 48, 48) whether that is known, and asked for.
    """

    maps: UInt8[np.ndarray, "M C 48 48"]
    scalars: Float32[np.ndarray, "M D"]
    looks: UInt8[np.ndarray, "M L 48 48"]
    hidden: Bool[np.ndarray, "M 48 48"]
    counts: Bool[np.ndarray, "M 48 48"]


class Guide(NamedTuple):
    """Who says where veils are while a sequence is followed.

    Attributes:
        judge: asked; nobody where ``None``.
        offset: taken off its logits, so that wrong veils are seen as well, and missed ones.
        knows: the truth is told instead.
    """

    judge: VeilJudge | None = None
    offset: float = 0.0
    knows: bool = False


def draw_examples(
    rng: np.random.Generator,
    sequences: Sequence[PastedSequence],
    guides: Sequence[Guide],
    kept_share: float,
) -> VeilExamples:
    """Return examples of followed sequences.

    Args:
        rng: of what is kept.
        sequences: of one length, with occluders that have no mask.
        guides: of each sequence.
        kept_share: of the examples; those of one sequence resemble each other.
    """
    sees_pictures = all(len(each.images) > 0 for each in sequences)
    found: list[VeilExamples] = [_nothing(sees_pictures)]

    def watch(index: int, rows: list[int]) -> VeilJudge:
        def judge(sighting: Sighting) -> Float32[np.ndarray, "N 48 48"]:
            if sees_pictures and not sighting.has_look.any():
                return np.full(sighting.usual.shape, -CERTAIN, np.float32)
            which = [rows[each] for each in sighting.rows.tolist()]
            examples = _examples(sighting, [sequences[row] for row in which], index)
            if not sees_pictures:
                examples = examples._replace(looks=examples.looks[:, :0])
            is_kept = rng.random(len(which)) < kept_share
            found.append(VeilExamples(*(field[is_kept] for field in examples)))
            return _said(sighting, [guides[row] for row in which], examples.hidden)

        return judge

    for _ in follow_all(sequences, Following(), watch):
        pass
    return VeilExamples(*(np.concatenate(fields) for fields in zip(*found, strict=True)))


def _said(
    sighting: Sighting, guides: Sequence[Guide], hidden: Bool[np.ndarray, "N 48 48"]
) -> Float32[np.ndarray, "N 48 48"]:
    """Return the logits of each object's guide."""
    logits = np.full(hidden.shape, -CERTAIN, np.float32)
    for row, guide in enumerate(guides):
        if guide.knows:
            logits[row, hidden[row]] = CERTAIN
    asked = [row for row, guide in enumerate(guides) if guide.judge and not guide.knows]
    if asked:
        judge = next(guides[row].judge for row in asked)
        assert judge is not None  # noqa: S101  (one network judges all)
        offsets = np.array([guides[row].offset for row in asked], np.float32)
        said = judge(Sighting(*(field[asked] for field in sighting)))
        logits[asked] = said - offsets[:, None, None]
    return logits


def _examples(sighting: Sighting, sequences: Sequence[PastedSequence], index: int) -> VeilExamples:
    answer, unknown = _answers(sequences, index, sighting.window)
    own, covered = sighting.seen[:, 0], sighting.seen[:, 1] + sighting.seen[:, 2]
    is_free = (own < 0.5) & (covered < 0.5)
    is_carried = [bool(one.is_carried and one.is_carried[index]) for one in sequences]
    # who sees pictures learns what is hidden wherever that is known
    is_asked = sighting.has_look[:, None, None] | (sighting.usual > ASKED_FROM)
    counts = is_free & (unknown < UNKNOWN_SHARE) & is_asked
    counts[is_carried] = False
    inputs = inputs_of(sighting)
    return VeilExamples(
        np.rint(inputs[:, : len(MAPS)].clip(0, 1) * 255).astype(np.uint8),
        inputs[:, len(MAPS) :, 0, 0].copy(),
        sighting.looks,
        is_free & (answer > 0.5),
        counts,
    )


def _answers(
    sequences: Sequence[PastedSequence], index: int, windows: np.ndarray
) -> tuple[Float32[np.ndarray, "N 48 48"], Float32[np.ndarray, "N 48 48"]]:
    """Return the true silhouettes in windows, and where they are not known."""
    crops = np.stack(
        [
            crop_masks(
                one.answer[index],
                Coverage(one.answer[index].full() + one.unknown[index]),
                Window(*window),
                CROP_SIDE,
            )
            for one, window in zip(sequences, windows.tolist(), strict=True)
        ]
    )
    shares = halved(np.ascontiguousarray(crops.transpose(0, 3, 1, 2), np.float32) / 255)
    return shares[:, 0], shares[:, 1]


def _nothing(sees_pictures: bool) -> VeilExamples:
    square = (48, 48)
    return VeilExamples(
        np.zeros((0, len(MAPS), *square), np.uint8),
        np.zeros((0, len(SCALARS)), np.float32),
        np.zeros((0, LOOK_CHANNELS if sees_pictures else 0, *square), np.uint8),
        np.zeros((0, *square), bool),
        np.zeros((0, *square), bool),
    )
