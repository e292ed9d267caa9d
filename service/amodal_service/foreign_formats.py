"""Other layouts for the same results, one file (davis: a folder) for a whole call.

``coco-rle`` (``coco-rle.jsonl``)
    One JSON line a frame, as described in `amodal_service.records`.

``cocoa`` (``cocoa.json``)
    COCOA, Zhu et al. 2017, as read by the amodalAPI: ``images``; one annotation an image with
    ``id, image_id, author, url, size, depth_constraint`` ("front-back,front-back", by ``order``)
    and ``regions`` from near to far, each ``order`` (from 1), ``segmentation`` (amodal),
    ``area``, ``name`` (category), ``isStuff``, ``occlude_rate`` and, where occluded,
    ``visible_mask`` and ``invisible_mask``. The data set draws ``segmentation`` as a polygon; here
    it is RLE, which its API reads too and which loses nothing.

``kins`` (``kins.json``)
    KINS, Qi et al. 2019, COCO-like: one annotation an object and image, under the names of both
    releases: ``segmentation, bbox, area`` amodal with ``inmodal_seg, inmodal_bbox`` (2019), and
    ``a_segm, a_bbox, a_area, i_segm, i_bbox, i_area`` (2020); ``oco_id`` numbers the groups of
    objects that hide each other, ``ico_id`` is the depth order in the group, 1 nearest, both 0
    for an object alone.

``tao-amodal`` (``tao-amodal.json``)
    TAO-Amodal, Hsieh et al. 2023: ``videos, images, tracks, annotations, categories``; an
    annotation has ``bbox`` and ``area`` of the visible part (zeros where there is none),
    ``amodal_bbox``, ``visibility`` (1 - occlusion rate), ``amodal_is_uncertain`` (confidence in
    the hidden part under 0.5) and our ``score``. Track ids are unique over the file there: where
    two clips share one, all are numbered anew and ``given_track_id`` keeps ours.

``davis`` (``davis/``)
    A palette PNG holds one label a pixel and whole silhouettes overlap, so there are two trees:
    ``visible/NAME/00000.png`` with all objects, and ``amodal/NAME/TRACK/00000.png`` with one.
    Labels are the track ids, or 1, 2, ... where an id is not within 1 to 255 (``labels.json``).

Boxes are ``[x, y, width, height]``. ``lost`` objects have no mask and are left out. Added to
all: ``track_id``, ``frame_index`` and, in images, ``pts_s``. The images of a video are named
``NAME/00000.jpg`` on, those of a folder by their own names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.masks import decode_rle, empty_mask, encode_rle
from amodal_model.youtube_vis import VideoEntry, bbox_xywh
from amodal_service.amodal_json import DEFAULT_CATEGORIES, Segmented
from amodal_service.depth_order import depth_ranks, occlusion_groups
from amodal_service.palette_masks import write_davis
from amodal_service.records import Record, compact_json


class Export(NamedTuple):
    """What is written: the clips and the categories of the mask file."""

    clips: list[Segmented]
    categories: list[dict[str, Any]]


class _Image(NamedTuple):
    """One frame of one clip, numbered over the whole call."""

    image_id: int
    file_name: str
    clip: Segmented
    record: Record

    @property
    def objects(self) -> list[Record]:
        return [each for each in self.record["objects"] if each["segmentation"]]


def write_coco_rle(path: Path, export: Export) -> None:
    """Write one JSON line a frame."""
    with path.open("w", encoding="utf-8") as out:
        for clip in export.clips:
            for record in clip.journal.records():
                out.write(compact_json(record) + "\n")


def write_cocoa(path: Path, export: Export) -> None:
    """Write COCOA."""
    names = {each.get("id"): each.get("name", "object") for each in export.categories}
    annotations = (_cocoa_annotation(image, names) for image in _images(export))
    _write_sections(path, images=_image_entries(export), annotations=annotations)


def _cocoa_annotation(image: _Image, names: dict[Any, Any]) -> Record:
    objects = image.objects
    ranks = depth_ranks([each["track_id"] for each in objects], image.record["order"])
    categories = image.clip.source.category_ids
    regions = [
        _cocoa_region(each, ranks[each["track_id"]], names.get(categories[each["track_id"]]))
        for each in sorted(objects, key=lambda each: ranks[each["track_id"]])
    ]
    pairs = [(ranks[a], ranks[b]) for a, b in image.record["order"] if a in ranks and b in ranks]
    return {
        "id": image.image_id,
        "image_id": image.image_id,
        "author": "amodal",
        "url": image.file_name,
        "size": len(regions),
        "depth_constraint": ",".join(f"{front}-{back}" for front, back in pairs),
        "regions": regions,
    }


def _cocoa_region(each: Record, order: int, name: Any) -> Record:
    occluded = each["inferred_segmentation"] is not None
    size = each["segmentation"]["size"]
    hidden = {
        "visible_mask": each["visible_segmentation"] or encode_rle(empty_mask(tuple(size))),
        "invisible_mask": each["inferred_segmentation"],
    }
    return {
        "order": order,
        "name": str(name or "object"),
        "segmentation": each["segmentation"],
        "area": each["area"],
        "isStuff": 0,
        "occlude_rate": each["occlusion_rate"],
        **(hidden if occluded else {}),
        "track_id": each["track_id"],
        "score": each["score"],
    }


def write_kins(path: Path, export: Export) -> None:
    """Write KINS."""
    numbers = count(1)
    annotations = (
        {"id": next(numbers), **annotation}
        for image in _images(export)
        for annotation in _kins_annotations(image)
    )
    _write_sections(
        path,
        images=_image_entries(export),
        annotations=annotations,
        categories=export.categories or DEFAULT_CATEGORIES,
    )


def _kins_annotations(image: _Image) -> Iterator[Record]:
    ids = [each["track_id"] for each in image.objects]
    groups = occlusion_groups(ids, image.record["order"])
    categories = image.clip.source.category_ids
    for each in image.objects:
        group, order = groups[each["track_id"]]
        visible, box, area = _visible_part(each)
        yield {
            "image_id": image.image_id,
            "category_id": categories[each["track_id"]],
            "iscrowd": 0,
            "segmentation": each["segmentation"],
            "bbox": each["bbox"],
            "area": each["area"],
            "inmodal_seg": visible,
            "inmodal_bbox": box,
            "a_segm": each["segmentation"],
            "a_bbox": each["bbox"],
            "a_area": each["area"],
            "i_segm": visible,
            "i_bbox": box,
            "i_area": area,
            "oco_id": group,
            "ico_id": order,
            "track_id": each["track_id"],
            "frame_index": image.record["frame_index"],
            "score": each["score"],
        }


def write_tao_amodal(path: Path, export: Export) -> None:
    """Write TAO-Amodal."""
    numbers, track_numbers = count(1), _track_numbers(export)
    annotations = (
        {"id": next(numbers), **_tao_annotation(image, each, track_numbers)}
        for image in _images(export)
        for each in image.objects
    )
    videos = [clip.source.video for clip in export.clips]
    _write_sections(
        path,
        info=None,
        licenses=[],
        videos=(_tao_video(video) for video in videos),
        images=_image_entries(export),
        tracks=_tao_tracks(export, track_numbers),
        annotations=annotations,
        categories=export.categories or DEFAULT_CATEGORIES,
    )


def _tao_annotation(image: _Image, each: Record, numbers: dict[tuple[int, int], int]) -> Record:
    video_id = image.record["video_id"]
    _, box, _ = _visible_part(each)
    occluded = each["inferred_segmentation"] is not None
    return {
        "image_id": image.image_id,
        "video_id": video_id,
        "track_id": numbers[video_id, each["track_id"]],
        "given_track_id": each["track_id"],
        "category_id": image.clip.source.category_ids[each["track_id"]],
        "bbox": box,
        "area": box[2] * box[3],
        "amodal_bbox": each["bbox"],
        "amodal_is_uncertain": occluded and each["confidence_occluded"] < 0.5,
        "visibility": round(1.0 - each["occlusion_rate"], 6),
        "score": each["score"],
    }


def _tao_video(video: VideoEntry) -> Record:
    return {
        "id": video.video_id,
        "name": video.file_name,
        "width": video.width,
        "height": video.height,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "metadata": {"length": video.length, "fps": video.fps},
    }


def _tao_tracks(export: Export, numbers: dict[tuple[int, int], int]) -> Iterator[Record]:
    for clip in export.clips:
        for track in clip.source.tracklets:
            yield {
                "id": numbers[track.video_id, track.track_id],
                "given_track_id": track.track_id,
                "category_id": track.category_id,
                "video_id": track.video_id,
            }


def _track_numbers(export: Export) -> dict[tuple[int, int], int]:
    """Return a number for every (video id, track id), unique over the call."""
    keys = [(t.video_id, t.track_id) for clip in export.clips for t in clip.source.tracklets]
    if len({track_id for _, track_id in keys}) == len(keys):
        return {key: key[1] for key in keys}
    return {key: number for number, key in enumerate(keys, start=1)}


def _visible_part(each: Record) -> tuple[Any, list[int], int]:
    """Return RLE, ``[x, y, w, h]`` and area of what is visible; empty ones where nothing is."""
    rle = each["visible_segmentation"]
    if rle is None:
        return encode_rle(empty_mask(tuple(each["segmentation"]["size"]))), [0, 0, 0, 0], 0
    mask = decode_rle(rle)
    return rle, bbox_xywh(mask), mask.area


def _images(export: Export) -> Iterator[_Image]:
    numbers = count(1)
    for clip in export.clips:
        for record in clip.journal.records():
            name = clip.source.frame_names[record["frame_index"]]
            yield _Image(next(numbers), f"{clip.source.name}/{name}", clip, record)


def _image_entries(export: Export) -> Iterator[Record]:
    for image in _images(export):
        video = image.clip.source.video
        yield {
            "id": image.image_id,
            "video_id": video.video_id,
            "file_name": image.file_name,
            "width": video.width,
            "height": video.height,
            "frame_index": image.record["frame_index"],
            "pts_s": image.record["pts_s"],
        }


def _write_sections(path: Path, **sections: Iterable[Any] | None) -> None:
    """Write a JSON object of lists without holding any of them; ``None`` becomes ``{}``."""
    with path.open("w", encoding="utf-8") as out:
        out.write("{")
        for number, (name, values) in enumerate(sections.items()):
            out.write(f"{',' if number else ''}{json.dumps(name)}:")
            if values is None:
                out.write("{}")
                continue
            out.write("[")
            for place, value in enumerate(values):
                out.write(("," if place else "") + compact_json(value))
            out.write("]")
        out.write("}")


WRITERS: dict[str, tuple[str, Callable[[Path, Export], None]]] = {
    "coco-rle": ("coco-rle.jsonl", write_coco_rle),
    "cocoa": ("cocoa.json", write_cocoa),
    "kins": ("kins.json", write_kins),
    "tao-amodal": ("tao-amodal.json", write_tao_amodal),
    "davis": ("davis", lambda path, export: write_davis(path, export.clips)),
}
"""Name of each format: what it writes in OUT, and the function that writes it."""
