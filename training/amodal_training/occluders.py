"""Occluders pasted over sequences: hide what is known, and ask for it back.

An occluder is another tracklet's silhouette, or a plain bar, blob or wall, that comes, lingers
and leaves on a path of its own. It passes in front, or behind for the network to learn restraint.
What happens to each pixel is the taxonomy of method.md: hidden by the occluder and known -> 1;
under the occluder and known background -> 0; where other objects were seen -> unknown. A sequence
that brings its own answers has no unknown pixel: the measuring stick of the supervised bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_training.sequences import MaskSequence, SequenceSource, centers_and_size


class PasteConfig(NamedTuple):
    """How often occluders do what.

    Attributes:
        none_share: sequences without any occluder.
        second_share: sequences with a second occluder.
        behind_share: occluders that pass behind the target.
        full_share: occluders in front that cover the target entirely for some frames.
        standing_share: occluders that are there from the first frame to the last: what they hide
            was never seen, so shape alone must tell.
        carried_share: targets hidden entirely that come out elsewhere, turned or of another size:
            what is remembered of them must not outlive what is seen.
        unseen_share: occluders that no visible mask shows: the segmenter did not know them.
        plain_share: occluders that are bars, blobs and walls instead of real silhouettes.
        noise_share: sequences whose masks are disturbed as a segmenter's are.
        drop_rate: frames in which a disturbed target has no mask at all.
        soft_share: sequences whose crops are softened, as those of large objects are.
    """

    none_share: float = 0.08
    second_share: float = 0.4
    behind_share: float = 0.35
    full_share: float = 0.25
    standing_share: float = 0.3
    carried_share: float = 0.15
    unseen_share: float = 0.04
    plain_share: float = 0.35
    noise_share: float = 0.5
    drop_rate: float = 0.04
    soft_share: float = 0.5


class PastedSequence(NamedTuple):
    """A sequence as the network will see it, and the answer.

    Attributes:
        own: the target's visible mask after pasting; empty where nothing shows.
        coverage: uint8 (H, W) a frame, how many visible masks hold each pixel, ``own`` included.
        answer: the target's mask before pasting, or the sequence's own answer.
        unknown: uint8 (H, W) a frame: 1 where the answer is not known.
        softness: standard deviation of the blur of its crops, crop pixels; 0 for none.
        is_carried: a frame each: hidden entirely, and carried to where nothing tells.
        images: of the frames, RGB, all of them or none.
    """

    own: list[BoxedMask]
    coverage: list[UInt8[np.ndarray, "H W"]]
    answer: list[BoxedMask]
    unknown: list[UInt8[np.ndarray, "H W"]]
    softness: float = 0.0
    is_carried: Sequence[bool] = ()
    images: Sequence[UInt8[np.ndarray, "H W 3"]] = ()


class Occluder(NamedTuple):
    """Frames of a pasted silhouette: uint8 (H, W) each, and how it relates to the target."""

    masks: list[UInt8[np.ndarray, "H W"]]
    is_behind: bool
    is_unseen: bool


def paste_occluders(
    rng: np.random.Generator,
    sequence: MaskSequence,
    shapes: SequenceSource,
    config: PasteConfig,
) -> PastedSequence:
    """Return the sequence with occluders from ``shapes`` pasted over it."""
    count = 0 if rng.random() < config.none_share else 1 + int(rng.random() < config.second_share)
    occluders = [_draw_occluder(rng, sequence, shapes, config) for _ in range(count)]
    carried_from = None
    if rng.random() < config.carried_share:
        sequence, carried_from = _carry(rng, sequence, occluders)
    is_noisy = rng.random() < config.noise_share
    own, coverage, answers, unknowns = [], [], [], []
    for index, given in enumerate(sequence.target):
        shown = given or empty_mask(sequence.frame_size)
        visible, covered = _composite(shown, sequence.others[index], occluders, index)
        if is_noisy:
            visible, covered = disturb(rng, visible, covered, config.drop_rate)
        own.append(box_mask(visible.astype(bool)))
        coverage.append(visible + covered)
        answers.append(_answer(sequence, shown, index))
        unknowns.append(_unknown(sequence, given, index))
    softness = rng.uniform(0.4, 1.0) if rng.random() < config.soft_share else 0.0
    is_carried = _carried_frames(own, carried_from)
    return PastedSequence(own, coverage, answers, unknowns, softness, is_carried)


def _carried_frames(own: Sequence[BoxedMask], carried_from: int | None) -> list[bool]:
    """Return for each frame whether the target was carried away and has not shown since."""
    if carried_from is None:
        return [False] * len(own)
    shown = (t for t in range(carried_from, len(own)) if own[t].area)
    seen_again = next(shown, len(own))
    return [carried_from <= t < seen_again for t in range(len(own))]


def _carry(
    rng: np.random.Generator, sequence: MaskSequence, occluders: list[Occluder]
) -> tuple[MaskSequence, int | None]:
    """Return the sequence with its target moved, turned and scaled from where it is hidden on.

    The frame of that is returned as well, ``None`` where the target is never hidden entirely.
    """
    hidden = (t for t in range(len(sequence.target)) if _hides(sequence, occluders, t))
    first = next(hidden, None)
    center, size = centers_and_size(sequence)
    shift = rng.normal(0, 0.25, 2) * size
    angle, scale = rng.normal(0, 35), np.exp(rng.normal(0, 0.12))
    if first is None:
        return sequence, None
    middle = (float(center[first, 0]), float(center[first, 1]))
    turn = np.asarray(cv2.getRotationMatrix2D(middle, float(angle), float(scale)), np.float64)
    turn[:, 2] += shift

    def moved(masks: list[BoxedMask | None]) -> list[BoxedMask | None]:
        later = [None if mask is None else _warp(mask, turn) for mask in masks[first:]]
        return masks[:first] + later

    answers = None if sequence.answers is None else moved(sequence.answers)
    return sequence._replace(target=moved(sequence.target), answers=answers), first


def _hides(sequence: MaskSequence, occluders: list[Occluder], index: int) -> bool:
    """Return whether occluders hide all of what shows of the target in a frame."""
    target = sequence.target[index]
    if target is None or target.area == 0:
        return False
    x0, y0, x1, y1 = target.bbox_xyxy
    shown = target.pixels.copy()
    for occluder in occluders:
        if not occluder.is_behind:
            shown &= occluder.masks[index][y0:y1, x0:x1] == 0
    return not shown.any()


def _warp(mask: BoxedMask, matrix: Float64[np.ndarray, "2 3"]) -> BoxedMask | None:
    """Return a mask moved within its frame, ``None`` where nothing of it is left there."""
    smooth = cv2.warpAffine(mask.full().astype(np.uint8) * 255, matrix, mask.frame_size[::-1])
    moved = box_mask(np.asarray(smooth) > 127)
    return moved if moved.area else None


def _answer(sequence: MaskSequence, shown: BoxedMask, index: int) -> BoxedMask:
    """Return what is asked for in a frame: what shows before pasting, or the answer brought."""
    if sequence.answers is None:
        return shown
    return sequence.answers[index] or empty_mask(sequence.frame_size)


def _unknown(
    sequence: MaskSequence, given: BoxedMask | None, index: int
) -> UInt8[np.ndarray, "H W"]:
    """Mark where the answer is not known: under others, and everywhere in frames without it.

    With answers brought nothing is unknown.
    """
    if sequence.answers is not None:
        return np.zeros(sequence.frame_size, np.uint8)
    if given is None:
        return np.ones(sequence.frame_size, np.uint8)
    return cv2.dilate(sequence.others[index], np.ones((3, 3), np.uint8)).astype(np.uint8)


def _composite(
    shown: BoxedMask,
    others: UInt8[np.ndarray, "H W"],
    occluders: list[Occluder],
    index: int,
) -> tuple[UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    """Return the target's visible pixels and those of all others, after pasting."""
    visible = shown.full().astype(np.uint8)
    covered = others.copy()
    for occluder in occluders:
        mask = occluder.masks[index]
        if occluder.is_behind:
            covered |= mask & ~visible & 1
            continue
        visible &= ~mask & 1
        covered &= ~mask & 1
        if not occluder.is_unseen:
            covered |= mask
    covered &= ~visible & 1
    return visible, covered


def _draw_occluder(
    rng: np.random.Generator, sequence: MaskSequence, shapes: SequenceSource, config: PasteConfig
) -> Occluder:
    frames = len(sequence.target)
    is_behind = bool(rng.random() < config.behind_share)
    is_full = not is_behind and bool(rng.random() < config.full_share)
    is_unseen = not is_behind and bool(rng.random() < config.unseen_share)
    if rng.random() < config.plain_share:
        outlines = [_plain_shape(rng)] * frames
    else:
        outlines = _outlines(shapes.sample(rng, frames))
    center, size = centers_and_size(sequence)
    ratio = rng.uniform(1.3, 2.5) if is_full else np.exp(rng.uniform(np.log(0.4), np.log(2.5)))
    if not is_full and rng.random() < config.standing_share:
        path = stand_beside(rng, center, size)
    else:
        path = plan_path(rng, center, size, is_full)
    longest = max(max(outline.shape) for outline in outlines)
    scale = ratio * size / longest
    masks = [
        _draw(outline, scale, place, sequence.frame_size)
        for outline, place in zip(outlines, path, strict=True)
    ]
    return Occluder(masks, is_behind, is_unseen)


def _outlines(sequence: MaskSequence) -> list[UInt8[np.ndarray, "h w"]]:
    """Return the silhouettes of a sequence on their boxes; gaps hold the last one."""
    last = next(mask for mask in sequence.target if mask is not None)
    outlines = []
    for mask in sequence.target:
        last = mask or last
        outlines.append(last.pixels.astype(np.uint8))
    return outlines


def _plain_shape(rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Return a bar, a box, a blob or a wall."""
    kind = rng.integers(4)
    canvas = np.zeros((96, 96), np.uint8)
    if kind == 0:
        half = int(rng.integers(4, 14))
        canvas[:, 48 - half : 48 + half] = 1
    elif kind == 1:
        height, width = rng.integers(20, 47, 2)
        canvas[48 - height : 48 + height, 48 - width : 48 + width] = 1
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(22, 47, 12)
        points = 48 + np.stack([np.cos(angles) * radii, np.sin(angles) * radii], 1)
        cv2.fillPoly(canvas, [points.astype(np.int32)], 1)
    else:
        canvas[:, :] = 1
    turn = cv2.getRotationMatrix2D((48, 48), float(rng.uniform(0, 180)), 0.72)
    return np.asarray(cv2.warpAffine(canvas, turn, (96, 96)), np.uint8)


def plan_path(
    rng: np.random.Generator, center: Float64[np.ndarray, "T 2"], size: float, is_full: bool
) -> Float64[np.ndarray, "T 2"]:
    """Return the occluder's centre in each frame: it comes, lingers near the target and leaves.

    Half of the occluders keep to the target, half stand in the world and the target passes them.
    """
    frames = len(center)
    arrive, leave = np.sort(rng.uniform(-0.3 * frames, 1.3 * frames, 2))
    if rng.random() < 0.7:
        arrive = max(arrive, rng.uniform(0.1, 0.7) * frames)
        leave = max(leave, arrive + 2)
    angle_in, angle_out, angle_near = rng.uniform(0, 2 * np.pi, 3)
    near = 0.15 * rng.random() if is_full else 0.9 * np.sqrt(rng.random())
    drift = rng.normal(0, 0.15, 2)
    speed = np.exp(rng.uniform(np.log(0.03), np.log(0.4)))
    time = np.arange(frames)
    before, after = np.maximum(arrive - time, 0), np.maximum(time - leave, 0)
    held = np.clip((time - arrive) / max(leave - arrive, 1), 0, 1)
    offset = near * np.array([np.cos(angle_near), np.sin(angle_near)]) + held[:, None] * drift
    offset = offset + speed * before[:, None] * np.array([np.cos(angle_in), np.sin(angle_in)])
    offset = offset + speed * after[:, None] * np.array([np.cos(angle_out), np.sin(angle_out)])
    anchor = center
    if rng.random() < 0.5:
        moment = int(np.clip((arrive + leave) / 2, 0, frames - 1))
        anchor = np.broadcast_to(center[moment], center.shape)
    return np.asarray(anchor + offset * size)


def stand_beside(
    rng: np.random.Generator, center: Float64[np.ndarray, "T 2"], size: float
) -> Float64[np.ndarray, "T 2"]:
    """Return the path of an occluder that keeps beside the target, or that the target passes."""
    angle, near = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.1)
    offset = near * np.array([np.cos(angle), np.sin(angle)])
    drift = np.linspace(-0.5, 0.5, len(center))[:, None] * rng.normal(0, 0.12, 2)
    anchor = center
    if rng.random() < 0.3:
        anchor = np.broadcast_to(center[len(center) // 2], center.shape)
    return np.asarray(anchor + (offset + drift) * size)


def _draw(
    outline: UInt8[np.ndarray, "h w"],
    scale: float,
    place: Float64[np.ndarray, " 2"],
    frame_size: tuple[int, int],
) -> UInt8[np.ndarray, "H W"]:
    """Return an outline scaled and centred at a place of the frame."""
    height, width = outline.shape
    matrix = np.array(
        [[scale, 0, place[0] - scale * width / 2], [0, scale, place[1] - scale * height / 2]]
    )
    smooth = cv2.warpAffine(
        outline * 255, matrix, frame_size[::-1], flags=cv2.INTER_LINEAR, borderValue=(0,)
    )
    return (np.asarray(smooth) > 127).astype(np.uint8)


def disturb(
    rng: np.random.Generator,
    visible: UInt8[np.ndarray, "H W"],
    covered: UInt8[np.ndarray, "H W"],
    drop_rate: float = PasteConfig().drop_rate,
) -> tuple[UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    """Return masks as a segmenter gives them: shrunk, grown, shifted, or missing."""
    if rng.random() < drop_rate:
        return np.zeros_like(visible), covered
    visible, covered = _jitter(rng, visible), _jitter(rng, covered)
    return visible, covered & ~visible & 1


def _jitter(rng: np.random.Generator, mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    """Return a mask whose contour is moved by up to two pixels."""
    kind = rng.integers(5)
    if kind < 2:
        return mask
    reach = int(rng.choice([1, 1, 2]))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    if kind == 2:
        return np.asarray(cv2.erode(mask, kernel), np.uint8)
    if kind == 3:
        return np.asarray(cv2.dilate(mask, kernel), np.uint8)
    shift_y, shift_x = rng.integers(-reach, reach + 1, 2)
    matrix = np.array([[1, 0, shift_x], [0, 1, shift_y]], np.float64)
    return np.asarray(cv2.warpAffine(mask, matrix, mask.shape[::-1]), np.uint8)
