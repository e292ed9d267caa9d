"""Pictures of the best, the median and the worst case of a method on a benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import BoxedMask, empty_mask, enclose_boxes, mask_iou, subtract, union
from amodal_training.evaluation import pair_keys
from amodal_training.evaluation_clip import EvaluationClip, EvaluationSet, open_evaluation_set
from amodal_training.evaluation_method import Method
from amodal_training.metrics import OCCLUDED_FROM
from amodal_training.results_records import DatasetRecord
from amodal_training.results_report import CASES

SHOWN_PX = 420
"""Height of a picture."""
TRUTH, PREDICTED, VISIBLE = (60, 210, 90), (235, 60, 210), (70, 150, 255)
"""RGB."""


class Case(NamedTuple):
    """One object in the frame that is shown.

    Attributes:
        title: what is written under it.
        image: uint8 (H, W, 3), the frame.
        visible: V.
        amodal: A.
        predicted: P.
    """

    title: str
    image: UInt8[np.ndarray, "H W 3"]
    visible: BoxedMask
    amodal: BoxedMask
    predicted: BoxedMask


def draw_cases(benchmark: Path, record: DatasetRecord, method: Method, images: Path) -> list[Path]:
    """Write ``results-best.png``, ``-median`` and ``-worst`` and return their paths.

    Args:
        benchmark: dataset folder that the record was measured on.
        record: of the method; its ``miou_occ`` of each track says which tracks are shown.
        method: what was measured.
        images: folder of the pictures.

    Raises:
        DatasetError: the folder does not have the record's tracks.
        InputError: no track of the record has a hidden part.
    """
    chosen = choose_tracks(record)
    clip_set = open_evaluation_set(benchmark, record.clips)
    images.mkdir(parents=True, exist_ok=True)
    written = []
    for name, track in chosen.items():
        clip, track_id = find_track(clip_set, len(record.sources), track)
        value = float(record.figures["miou_occ"][track])
        path = images / f"results-{name}.png"
        picture = draw_case(find_case(clip, track_id, method, f"{name}: track {value:.2f}"))
        if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise InputError(f"{path}: cannot be written")
        written.append(path)
    return written


def choose_tracks(record: DatasetRecord) -> dict[str, int]:
    """Return the tracks of the highest, the median and the lowest ``miou_occ``.

    Raises:
        InputError: no track has one.
    """
    values = record.figures["miou_occ"]
    known = np.flatnonzero(~np.isnan(values))
    if not known.size:
        raise InputError("no track has a hidden part, there is no case to draw")
    ranked = known[np.argsort(-values[known], kind="stable")]
    places = (0, (len(ranked) - 1) // 2, len(ranked) - 1)
    return {name: int(ranked[place]) for name, place in zip(CASES, places, strict=True)}


def find_track(clip_set: EvaluationSet, tracks: int, track: int) -> tuple[EvaluationClip, int]:
    """Return the clip and the track id of a track, counted as evaluation counts them.

    Raises:
        DatasetError: the dataset has more or fewer tracks than ``tracks``.
    """
    ids = [
        (index, one.track_id)
        for index, video in enumerate(clip_set.videos)
        for one in clip_set.amodal_file.tracklets_of(video.video_id)
    ]
    if len(ids) != tracks:
        raise DatasetError(f"{clip_set.folder}: {len(ids)} tracks, the record has {tracks}")
    index, track_id = ids[track]
    return next(islice(clip_set.clips(), index, None)), track_id


def find_case(clip: EvaluationClip, track_id: int, method: Method, title: str) -> Case:
    """Return the frame of a track whose hidden part is completed as well as its mean says."""
    one = dict(clip.objects())[track_id]
    masks = method.predict(clip)[track_id].masks
    nothing = empty_mask(clip.video.frame_size)
    frames, found = [], []
    for key in pair_keys(one):
        if key.hidden >= OCCLUDED_FROM:
            seen, whole, given = (
                part[key.frame_index] or nothing for part in (one.visible, one.amodal, masks)
            )
            frames.append((key.frame_index, seen, whole, union(seen, given)))
            found.append(mask_iou(subtract(given, seen), subtract(whole, seen)))
    row = int(np.argmin(np.abs(np.array(found) - np.mean(found))))
    index, seen, whole, predicted = frames[row]
    image = _frame(clip.frames(), index)
    return Case(f"{title}, frame {found[row]:.2f}", image, seen, whole, predicted)


def _frame(frames: Iterator[UInt8[np.ndarray, "H W 3"]], index: int) -> UInt8[np.ndarray, "H W 3"]:
    return next(islice(frames, index, None))


def draw_case(case: Case) -> UInt8[np.ndarray, "h w 3"]:
    """Return the object's surroundings with its visible part, its truth and what was predicted."""
    image = case.image.copy()
    seen = case.visible.full()
    image[seen] = (0.6 * image[seen] + 0.4 * np.array(VISIBLE)).astype(np.uint8)
    height, width = image.shape[:2]
    scale = SHOWN_PX / height
    size = (round(width * scale), SHOWN_PX)
    large = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    for mask, color in ((case.amodal, TRUTH), (case.predicted, PREDICTED)):
        _outline(large, mask, scale, color)
    box = enclose_boxes(case.amodal.bbox_xyxy, case.predicted.bbox_xyxy)
    return _titled(_surroundings(large, box, scale), case.title)


def _outline(
    image: UInt8[np.ndarray, "H W 3"], mask: BoxedMask, scale: float, color: tuple[int, int, int]
) -> None:
    """Draw the contour of a mask, in place."""
    full = mask.full().astype(np.uint8) * 255
    smooth = cv2.resize(full, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    contours, _ = cv2.findContours(
        (np.asarray(smooth) > 127).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(image, contours, -1, color, max(round(scale), 1), cv2.LINE_AA)


def _surroundings(
    image: UInt8[np.ndarray, "H W 3"], box: tuple[int, int, int, int], scale: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the part of a picture around a box of the frame, at least half its height."""
    height, width = image.shape[:2]
    x, y = (box[0] + box[2]) / 2 * scale, (box[1] + box[3]) / 2 * scale
    side = max(1.6 * max(box[2] - box[0], box[3] - box[1]) * scale, SHOWN_PX / 2)
    side = min(side, height, width)
    left = round(min(max(x - side / 2, 0), width - side))
    top = round(min(max(y - side / 2, 0), height - side))
    part = image[top : top + round(side), left : left + round(side)]
    large = cv2.resize(part, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.uint8)


def _titled(image: UInt8[np.ndarray, "h w 3"], title: str) -> UInt8[np.ndarray, "h2 w 3"]:
    strip = np.full((28, image.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, title, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([image, strip])
