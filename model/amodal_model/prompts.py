"""``prompts.json``: what a client says about objects, read and held against its video.

    {"objects": [{"track_id": 1, "frame_index": 0, "bbox_xyxy": [x0, y0, x1, y1]},
                 {"track_id": 1, "frame_index": 9, "points": [[x, y, 1], [x, y, 0]]},
                 {"track_id": 2, "frame_index": 4, "rle": {"size": [h, w], "counts": ".."}},
                 {"track_id": 1, "frame_index": 30, "remove": true}]}

with ``video_id`` in each object where the prompts are for a dataset. Keys that are not known here
are passed over. Reading checks each object alone; `prompts_of` checks them against the frames
and against each other, so that whatever is wrong is said before any frame is worked on.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.errors import InputError, LimitError
from amodal_model.masks import BoxedMask, decode_rle
from amodal_model.visible_source import Prompt

MAX_PROMPT_BYTES = 64 << 20
MAX_PROMPTS = 100_000
MAX_POINTS = 256
"""Points of one object in one frame; a contour of more is a mask."""
MAX_OBJECTS = 1024
MAX_ID = 2**53

KINDS = ("bbox_xyxy", "points", "rle", "remove")

Points = tuple[tuple[float, float, bool], ...]


class PromptEntry(NamedTuple):
    """One object of the file, checked alone.

    Attributes:
        name: what messages call it, as ``objects[3]``.
        video_id: of the dataset's video, ``None`` where the file does not say.
        frame_index: from 0.
        track_id: of the object.
        kind: one of `KINDS`.
        value: a box, points, or RLE (its runs not yet read), as ``kind`` says.
    """

    name: str
    video_id: int | None
    frame_index: int
    track_id: int
    kind: str
    value: Any


def read_prompt_file(path: Path) -> tuple[PromptEntry, ...]:
    """Read a file of prompts and check each object alone.

    Raises:
        InputError: missing, not JSON, or an object that is not one prompt of one kind.
        LimitError: larger than 64 MiB, too many prompts, or too many points.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.stat().st_size > MAX_PROMPT_BYTES:
        raise LimitError(f"{path}: {path.stat().st_size} bytes, limit {MAX_PROMPT_BYTES}")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    try:
        return prompts_from_json(content)
    except InputError as error:
        raise type(error)(f"{path}: {error}") from None


def prompts_from_json(content: object) -> tuple[PromptEntry, ...]:
    """Return the prompts of a parsed JSON value.

    Raises:
        InputError: an object that is not one prompt of one kind.
        LimitError: too many prompts or points.
    """
    objects = content.get("objects") if isinstance(content, dict) else None
    if not isinstance(objects, list):
        raise InputError("prompts must be an object with a list 'objects'")
    if not objects:
        raise InputError("no prompts: its list 'objects' is empty")
    if len(objects) > MAX_PROMPTS:
        raise LimitError(f"{len(objects)} prompts, limit {MAX_PROMPTS}")
    return tuple(_entry(f"objects[{index}]", each) for index, each in enumerate(objects))


def _entry(name: str, content: object) -> PromptEntry:
    if not isinstance(content, dict):
        raise InputError(f"{name} must be an object, got {type(content).__name__}")
    kinds = [kind for kind in KINDS if content.get(kind) not in (None, False)]
    if len(kinds) != 1:
        said = " and ".join(kinds) or "none"
        raise InputError(f"{name} must have exactly one of {', '.join(KINDS)}, has {said}")
    video_id = None
    if content.get("video_id") is not None:
        video_id = _integer(name, content, "video_id", -MAX_ID)
    read = {"bbox_xyxy": _box, "points": _points, "rle": _rle, "remove": _removal}[kinds[0]]
    return PromptEntry(
        name,
        video_id,
        _integer(name, content, "frame_index", 0),
        _integer(name, content, "track_id", -MAX_ID),
        kinds[0],
        read(name, content[kinds[0]]),
    )


def _integer(name: str, content: dict[str, Any], key: str, low: int) -> int:
    value = content.get(key)
    if type(value) is not int or not low <= value <= MAX_ID:
        raise InputError(f"{name}: {key!r} must be an integer from {low} to {MAX_ID}, is {value!r}")
    return value


def _numbers(name: str, value: object, count: int, what: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, list) else []
    fit = [float(n) for n in numbers if type(n) in (int, float) and abs(n) < 1e6]  # no NaN
    if len(fit) != count or len(numbers) != count:
        raise InputError(f"{name}: {what} must be {count} numbers below 1e6, is {str(value)[:80]}")
    return tuple(fit)


def _box(name: str, value: object) -> tuple[float, ...]:
    box = _numbers(name, value, 4, "'bbox_xyxy'")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise InputError(f"{name}: 'bbox_xyxy' {list(box)} is empty, needs x0 < x1 and y0 < y1")
    return box


def _points(name: str, value: object) -> Points:
    if not isinstance(value, list) or not value:
        raise InputError(f"{name}: 'points' must be a list of [x, y, 1 or 0], not empty")
    if len(value) > MAX_POINTS:
        raise LimitError(f"{name}: {len(value)} points, limit {MAX_POINTS}")
    found = []
    for index, point in enumerate(value):
        x, y, sign = _numbers(name, point, 3, f"points[{index}]")
        if sign not in (0.0, 1.0):
            raise InputError(f"{name}: points[{index}] must end with 1 or 0, ends with {sign:g}")
        found.append((x, y, bool(sign)))
    return tuple(found)


def _rle(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{name}: 'rle' must be an object, got {type(value).__name__}")
    return value


def _removal(name: str, value: object) -> bool:
    if value is not True:
        raise InputError(f"{name}: 'remove' must be true, is {str(value)[:80]}")
    return True


def prompts_of(
    entries: Iterable[PromptEntry], frame_size: tuple[int, int], length: int
) -> dict[int, tuple[Prompt, ...]]:
    """Return the prompts of one video by frame, in the order of the file.

    Args:
        entries: those of the video.
        frame_size: ``(height, width)`` of its frames, pixels.
        length: number of its frames.

    Raises:
        InputError: a frame that does not exist, a box, point or mask that does not fit the
            frames, or prompts of one object that contradict each other.
        LimitError: more than 1024 objects, or 256 points of one object in one frame.
    """
    grouped: dict[int, dict[int, list[PromptEntry]]] = defaultdict(lambda: defaultdict(list))
    found: dict[int, list[Prompt]] = defaultdict(list)
    for entry in entries:
        if entry.frame_index >= length:
            raise InputError(
                f"{entry.name}: frame {entry.frame_index} does not exist, the video has {length}"
            )
        grouped[entry.track_id][entry.frame_index].append(entry)
        found[entry.frame_index].append(_prompt(entry, frame_size))
    if len(grouped) > MAX_OBJECTS:
        raise LimitError(f"prompts for {len(grouped)} objects, limit {MAX_OBJECTS}")
    for frames in grouped.values():
        for same_frame in frames.values():
            _check_together(same_frame)
        _check_order([frames[index] for index in sorted(frames)])
    return {index: tuple(prompts) for index, prompts in sorted(found.items())}


def frame_prompts(
    entries: Sequence[PromptEntry], frame_size: tuple[int, int]
) -> tuple[Prompt, ...]:
    """Return the prompts of one frame of a stream; their ``frame_index`` is not looked at.

    Whether a correction is of an object that is known is for the source to say.

    Args:
        entries: what is said of the frame.
        frame_size: ``(height, width)``, pixels.

    Raises:
        InputError: a box, point or mask that does not fit the frame, or prompts of one object that
            contradict each other.
        LimitError: more than 256 points of one object.
    """
    grouped: dict[int, list[PromptEntry]] = defaultdict(list)
    for entry in entries:
        grouped[entry.track_id].append(entry)
    for same_object in grouped.values():
        _check_together(same_object)
    return tuple(_prompt(entry, frame_size) for entry in entries)


def _prompt(entry: PromptEntry, frame_size: tuple[int, int]) -> Prompt:
    if entry.kind == "bbox_xyxy":
        return Prompt(entry.track_id, bbox_xyxy=_box_in_frame(entry, frame_size))
    if entry.kind == "points":
        _check_points(entry, frame_size)
        return Prompt(entry.track_id, points=entry.value)
    if entry.kind == "rle":
        return Prompt(entry.track_id, mask=_mask(entry, frame_size))
    return Prompt(entry.track_id, remove=True)


def _box_in_frame(
    entry: PromptEntry, frame_size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return the part of a box inside the frame: boxes drawn by hand reach over its edge."""
    height, width = frame_size
    x0, y0, x1, y1 = entry.value
    inside = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
        raise InputError(
            f"{entry.name}: box {list(entry.value)} has less than a pixel in the frame, "
            f"{width}x{height}"
        )
    return inside


def _check_points(entry: PromptEntry, frame_size: tuple[int, int]) -> None:
    height, width = frame_size
    for x, y, _ in entry.value:
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"{entry.name}: point ({x:g}, {y:g}) is outside the frame, {width}x{height}"
            )


def _mask(entry: PromptEntry, frame_size: tuple[int, int]) -> BoxedMask:
    height, width = frame_size
    size = entry.value.get("size")
    if size != [height, width]:  # before decoding: a wrong size may be a huge one
        raise InputError(
            f"{entry.name}: mask size {str(size)[:80]}, the frames are [{height}, {width}]"
        )
    try:
        mask = decode_rle({"size": size, "counts": entry.value.get("counts", "")})
    except InputError as error:
        raise InputError(f"{entry.name}: {error}") from None
    if not mask.area:
        raise InputError(f"{entry.name}: the mask is empty")
    return mask


def _check_together(entries: Sequence[PromptEntry]) -> None:
    """Refuse prompts of one object in one frame that cannot all be true."""
    where = f"track {entries[0].track_id}, frame {entries[0].frame_index}"
    values: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for entry in entries:
        if entry.value not in values[entry.kind]:
            values[entry.kind].append(entry.value)
    if values["remove"] and len(entries) > len(values["remove"]):
        raise InputError(f"{where}: removed and prompted in the same frame")
    for kind, what in (("bbox_xyxy", "boxes"), ("rle", "masks")):
        if len(values[kind]) > 1:
            raise InputError(f"{where}: {len(values[kind])} different {what}")
    _check_signs(where, [point for group in values["points"] for point in group])


def _check_signs(where: str, points: Sequence[tuple[float, float, bool]]) -> None:
    if len(points) > MAX_POINTS:
        raise LimitError(f"{where}: {len(points)} points, limit {MAX_POINTS}")
    signs: dict[tuple[int, int], bool] = {}
    for x, y, sign in points:
        pixel = (math.floor(x), math.floor(y))
        if signs.setdefault(pixel, sign) != sign:
            raise InputError(f"{where}: point {pixel} is both on and off the object")


def _check_order(frames: Sequence[Sequence[PromptEntry]]) -> None:
    """Refuse prompts that correct or remove an object before anything shows it."""
    is_known = False
    for entries in frames:
        first = entries[0]
        where = f"{first.name}: track {first.track_id}, frame {first.frame_index}"
        if first.kind == "remove":
            if not is_known:
                raise InputError(f"{where}: removed, but no prompt before shows it")
            is_known = False
            continue
        is_known = is_known or any(_shows_object(entry) for entry in entries)
        if not is_known:
            raise InputError(f"{where}: needs a box, a mask or a point on the object first")


def _shows_object(entry: PromptEntry) -> bool:
    return entry.kind != "points" or any(sign for _, _, sign in entry.value)
