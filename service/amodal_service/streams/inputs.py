"""What a client says of a frame, checked and made the prompts that sources take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amodal_client.stream_messages import BoxPx, GivenObject, MaskRle, PromptObject
from amodal_model.errors import InputError, LimitError
from amodal_model.given_prompts import MAX_ID, mask_from_polygons
from amodal_model.masks import BoxedMask, decode_crop_rle, decode_rle, encode_rle
from amodal_model.prompts import PromptEntry, frame_prompts, prompts_from_json
from amodal_model.visible_source import Prompt


def given_prompts(
    objects: Sequence[GivenObject], frame_size: tuple[int, int], limit: int
) -> list[Prompt]:
    """Return the visible masks of a frame, as prompts of the given source; empty ones left out.

    Args:
        objects: as the client sent them.
        frame_size: ``(height, width)``, pixels.
        limit: objects that the stream may have.

    Raises:
        InputError: not one thing, or a mask that does not fit the frame.
        LimitError: too many objects.
    """
    if len(objects) > limit:
        raise LimitError(f"{len(objects)} objects in a frame, limit {limit} (max_objects)")
    prompts = []
    for index, each in enumerate(objects):
        name = f"object {index}" if each.track_id is None else f"track {each.track_id}"
        try:
            prompt = _given(each, frame_size)
        except InputError as error:
            raise type(error)(f"{name}: {error}") from None
        if prompt.mask is None or prompt.mask.area:
            prompts.append(prompt)
    return prompts


def _given(each: GivenObject, frame_size: tuple[int, int]) -> Prompt:
    if each.track_id is not None and not -MAX_ID <= each.track_id <= MAX_ID:
        raise InputError(f"the id must be from {-MAX_ID} to {MAX_ID}")
    stated = [name for name in ("rle", "polygon", "box") if getattr(each, name) is not None]
    if len(stated) != 1:
        raise InputError(f"has {' and '.join(stated) or 'nothing'}, must be rle, polygon or box")
    if each.box is not None:
        return Prompt(each.track_id, bbox_xyxy=_corners(each.box))
    if each.polygon is not None:
        return Prompt(each.track_id, mask=mask_from_polygons(each.polygon, frame_size))
    return Prompt(each.track_id, mask=_mask(each.rle, each.bbox, frame_size))


def client_prompts(objects: Sequence[PromptObject], frame_size: tuple[int, int]) -> list[Prompt]:
    """Return the prompts of a prompt message.

    Raises:
        InputError: not one thing, something outside the frame, or a contradiction.
        LimitError: too many points.
    """
    return list(frame_prompts([_entry(each, frame_size) for each in objects], frame_size))


def _entry(each: PromptObject, frame_size: tuple[int, int]) -> PromptEntry:
    """Return a prompt as an entry of a prompt file, whose checks it then goes through."""
    said: dict[str, Any] = {"track_id": each.track_id, "frame_index": 0}
    if each.box is not None:
        said["bbox_xyxy"] = list(_corners(each.box))
    if each.points:
        said["points"] = [list(point) for point in each.points]
    if each.rle is not None:
        said["rle"] = dict(encode_rle(_mask(each.rle, each.bbox, frame_size)))
    if each.remove:
        said["remove"] = True
    try:
        (entry,) = prompts_from_json({"objects": [said]})
        return entry._replace(name=f"track {each.track_id}")
    except InputError as error:
        raise type(error)(f"track {each.track_id}: {error}") from None


def _mask(rle: MaskRle | None, bbox: BoxPx | None, frame_size: tuple[int, int]) -> BoxedMask:
    if rle is None:
        raise InputError("has no rle")
    size = list(rle.size)
    if bbox is not None:
        return decode_crop_rle(bbox, {"size": size, "counts": rle.counts}, frame_size)
    if rle.size != frame_size:
        raise InputError(
            f"mask is of a frame {rle.size[1]}x{rle.size[0]}, this one is "
            f"{frame_size[1]}x{frame_size[0]}"
        )
    return decode_rle({"size": size, "counts": rle.counts})


def _corners(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x, y, x + width, y + height
