"""One frame's results as a JSON value, and back.

    {"video_id": 1, "file_name": "a.mp4", "frame_index": 0, "pts_s": 0.0,
     "objects": [{"track_id", "state", "occlusion_rate", "score", "confidence_visible",
                  "confidence_occluded", "occluded_by", "bbox", "area",
                  "segmentation", "visible_segmentation", "inferred_segmentation",
                  "remembered_segmentation"}],
     "order": [[front, back], ...]}

Masks are COCO RLE or null where there is no pixel, ``bbox`` is the amodal ``[x, y, w, h]``. This
is the line of the ``coco-rle`` format and of the journal: everything else is made from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from amodal_model.masks import BoxedMask, Rle, decode_rle, empty_mask, encode_rle
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.youtube_vis import VideoEntry, bbox_xywh

Record = dict[str, Any]

compact_json = json.JSONEncoder(separators=(",", ":")).encode
"""Encodes a value without blanks; made once, because making an encoder costs more than using it."""

_DIGITS = 6


def frame_record(
    video: VideoEntry, index: int, pts_s: float, result: FrameResult, given: Mapping[int, Rle]
) -> Record:
    """Return the record of a frame.

    Args:
        video: the clip's entry.
        index: number of the frame, from 0.
        pts_s: its time, seconds.
        result: what the segmenter says.
        given: the visible masks as they were given, kept as they are.
    """
    return {
        "video_id": video.video_id,
        "file_name": video.file_name,
        "frame_index": index,
        "pts_s": round(pts_s, _DIGITS),
        "objects": [_object_record(each, given.get(each.track_id)) for each in result.objects],
        "order": [list(pair) for pair in result.order],
    }


def _object_record(each: ObjectResult, given: Rle | None) -> Record:
    area = each.amodal.area
    visible = (given or encode_rle(each.visible)) if each.visible.area else None
    inferred = encode_rle(each.inferred) if each.inferred.area else None
    amodal = encode_rle(each.amodal) if inferred else visible
    return {
        "track_id": each.track_id,
        "state": each.state,
        "occlusion_rate": round(float(each.occlusion_rate), _DIGITS),
        "score": round(float(each.score), _DIGITS),
        "confidence_visible": round(float(each.confidence_visible), _DIGITS),
        "confidence_occluded": round(float(each.confidence_occluded), _DIGITS),
        "occluded_by": list(each.occluded_by),
        "bbox": bbox_xywh(each.amodal) if area else None,
        "area": area if area else None,
        "segmentation": amodal,
        "visible_segmentation": visible,
        "inferred_segmentation": inferred,
        "remembered_segmentation": encode_rle(each.remembered) if each.remembered.area else None,
    }


def frame_result(record: Record, frame_size: tuple[int, int]) -> FrameResult:
    """Return the result that a record was made from, masks decoded."""
    objects = tuple(_object_result(each, frame_size) for each in record["objects"])
    return FrameResult(objects, tuple((front, back) for front, back in record["order"]))


def _object_result(each: Record, frame_size: tuple[int, int]) -> ObjectResult:
    visible = _mask(each["visible_segmentation"], frame_size)
    whole = each["inferred_segmentation"] is None and each["visible_segmentation"] is not None
    return ObjectResult(
        track_id=each["track_id"],
        visible=visible,
        amodal=visible if whole else _mask(each["segmentation"], frame_size),
        occlusion_rate=each["occlusion_rate"],
        state=each["state"],
        occluded_by=tuple(each["occluded_by"]),
        score=each["score"],
        confidence_visible=each["confidence_visible"],
        confidence_occluded=each["confidence_occluded"],
        remembered=_mask(each["remembered_segmentation"], frame_size),
    )


def _mask(rle: Rle | None, frame_size: tuple[int, int]) -> BoxedMask:
    return decode_rle(rle) if rle else empty_mask(frame_size)
