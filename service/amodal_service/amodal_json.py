"""``amodal.json``: from one record a frame to one annotation a tracklet, in flat memory.

The journal is read once per clip and its objects are sorted into one file a track. Of those one
at a time is in memory: a clip of 10,000 frames and 64 objects never is.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from amodal_model.youtube_vis import MaskFile, Tracklet, video_json
from amodal_service.journal import Journal
from amodal_service.records import Record, compact_json
from amodal_service.sources import ClipSource

LISTS = {
    "states": "state",
    "occlusion_rates": "occlusion_rate",
    "scores": "score",
    "confidence_visible": "confidence_visible",
    "confidence_occluded": "confidence_occluded",
    "occluded_by": "occluded_by",
    "bboxes": "bbox",
    "areas": "area",
    "segmentations": "segmentation",
    "visible_segmentations": "visible_segmentation",
    "inferred_segmentations": "inferred_segmentation",
    "remembered_segmentations": "remembered_segmentation",
}
"""The lists of an annotation, one entry a frame, and the key of a record each is made of."""

DEFAULT_CATEGORIES = [{"id": 1, "name": "object"}]

_BLOCK = 256


class Segmented(NamedTuple):
    """A clip and its finished frames."""

    source: ClipSource
    journal: Journal

    def with_found_tracks(self) -> Segmented:
        """Return the clip with the objects that its finder found, where it has one."""
        if self.source.finder is None:
            return self
        records = self.journal.records()
        found = {each["track_id"] for record in records for each in record["objects"]}
        return self._replace(source=self.source.with_tracks(found))


def write_amodal_json(path: Path, masks: MaskFile, clips: list[Segmented], scratch: Path) -> None:
    """Write the result file of a call.

    Args:
        path: the file to write.
        masks: the mask file given; its categories and unknown keys pass through.
        clips: the annotated clips, all frames finished.
        scratch: a folder for intermediate files, removed afterwards.
    """
    with path.open("w", encoding="utf-8") as out:
        out.write("{")
        for key, value in masks.other.items():
            out.write(f"{json.dumps(key)}:{json.dumps(value)},")
        out.write('"videos":[')
        for number, clip in enumerate(clips):
            out.write("," if number else "")
            _write_video(out, clip)
        categories = list(masks.categories) or DEFAULT_CATEGORIES
        out.write(f'],"categories":{json.dumps(categories)},"annotations":[')
        separator = ""
        for clip in clips:
            _split_by_track(clip.journal.records(), scratch)
            for track in clip.source.tracklets:
                out.write(separator)
                _write_annotation(out, track, _track_records(scratch, track))
                separator = ","
            shutil.rmtree(scratch)
        out.write("]}")


def _write_video(out: TextIO, clip: Segmented) -> None:
    entry = json.dumps({k: v for k, v in video_json(clip.source.video).items() if k != "order"})
    out.write(f'{entry[:-1]},"order":')
    _write_list(out, (record["order"] for record in clip.journal.records()))
    out.write("}")


def _split_by_track(records: Iterable[Record], scratch: Path) -> None:
    """Sort the objects of all frames into one file a track, a line an object."""
    scratch.mkdir(parents=True, exist_ok=True)
    waiting: dict[int, list[str]] = defaultdict(list)
    for number, record in enumerate(records, start=1):
        for each in record["objects"]:
            line = compact_json([record["frame_index"], each])
            waiting[each["track_id"]].append(line + "\n")
        if number % _BLOCK == 0:
            _append(scratch, waiting)
    _append(scratch, waiting)


def _append(scratch: Path, waiting: dict[int, list[str]]) -> None:
    for track_id, lines in waiting.items():
        with (scratch / f"{track_id}.jsonl").open("a", encoding="ascii") as out:
            out.writelines(lines)
    waiting.clear()


def _track_records(scratch: Path, track: Tracklet) -> list[Record | None]:
    """Return a track's objects, one entry a frame, ``None`` where it was not yet seen."""
    found: list[Record | None] = [None] * len(track.segmentations)
    path = scratch / f"{track.track_id}.jsonl"
    if path.exists():
        with path.open(encoding="ascii") as lines:
            for line in lines:
                frame_index, each = json.loads(line)
                found[frame_index] = each
    return found


def _write_annotation(out: TextIO, track: Tracklet, objects: list[Record | None]) -> None:
    own = {"iscrowd": 0, **{k: v for k, v in track.other.items() if k not in LISTS}}
    own |= {"id": track.track_id, "video_id": track.video_id, "category_id": track.category_id}
    out.write(json.dumps(own)[:-1])
    for name, key in LISTS.items():
        out.write(f',"{name}":')
        _write_list(out, (each[key] if each else None for each in objects))
    out.write("}")


def _write_list(out: TextIO, values: Iterable[Any]) -> None:
    out.write("[")
    separator = ""
    for text in _texts(values):
        out.write(separator + text)
        separator = ","
    out.write("]")


def _texts(values: Iterable[Any]) -> Iterator[str]:
    return (compact_json(value) for value in values)
