"""Short clips: sent, segmented and answered in one request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Request, Response

from amodal_model.clip import Mode
from amodal_model.errors import InputError, UnavailableError
from amodal_model.video import DEFAULT_FPS, Clip
from amodal_service.access import Writer
from amodal_service.job_files import clean_name, hiding_folder
from amodal_service.mask_choice import check_mask_files
from amodal_service.mask_sources import finders_for
from amodal_service.metrics import SEGMENT_FRAMES
from amodal_service.multipart import Counted, Part, read_parts, read_small
from amodal_service.rate_limits import charge
from amodal_service.request_bodies import (
    JSON,
    MSGPACK,
    MULTIPART,
    body_schema,
    decode_body,
    media_type,
    read_body,
    validate,
)
from amodal_service.routes.models import describe_model
from amodal_service.schemas import (
    SegmentFiles,
    SegmentFrames,
    SegmentOptions,
    problem_responses,
)
from amodal_service.services import Services, ServicesDep
from amodal_service.short_clips import (
    MaskFrames,
    ObjectMask,
    check_short,
    segment_short,
    source_of_masks,
)
from amodal_service.sources import CheckedClip, ClipSource, find_sources

router = APIRouter(tags=["clips"])

MAX_WAITING = 16
"""Requests that wait for their turn; the next is told to come again."""

_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    JSON: msgspec.json.encode,
    MSGPACK: msgspec.msgpack.encode,
}


class _Clip(NamedTuple):
    """What a request asks for; ``open`` reads and checks it, in a thread."""

    owner: str
    mode: Mode
    open: Callable[[], ClipSource]


@router.post(
    "/v1/segment",
    openapi_extra=body_schema(json=SegmentFrames, msgpack=SegmentFrames, multipart=SegmentFiles),
    response_class=Response,
    responses={
        200: {
            "description": "The whole silhouettes, frame by frame.",
            "content": {
                JSON: {"schema": {"$ref": "#/components/schemas/Segmented"}},
                MSGPACK: {"schema": {"$ref": "#/components/schemas/Segmented"}},
            },
        },
        **problem_responses(401, 403, 406, 413, 415, 422, 429, 503),
    },
)
async def segment(request: Request, services: ServicesDep, caller: Writer) -> Response:
    """Complete the silhouettes of a short clip.

    The clip is a file (multipart part ``video``) with a YouTube-VIS file of its visible masks
    (part ``visible``), with prompts that say where its objects are (part ``prompts``, and
    ``"masks": "prompted"`` in the part ``request``) or with neither (``"masks": "motion"``); or it
    is visible masks alone, frame by frame (JSON or MessagePack). The answer is JSON, or MessagePack
    where ``Accept`` asks for it; its frames are the lines of the command line's ``coco-rle``
    format.
    """
    answer_type = _answer_type(request.headers.get("accept", "*/*"))
    with ExitStack() as stack:
        clip = await _read_clip(request, services, caller.owner, stack)
        slots: CapacityLimiter = request.app.state.segment_slots
        if slots.statistics().tasks_waiting >= MAX_WAITING:
            raise UnavailableError(f"{MAX_WAITING} clips wait already")
        content = await run_sync(_segment, services, clip, answer_type, limiter=slots)
    return Response(content, media_type=answer_type)


def _answer_type(accept: str) -> str:
    """Return the media type to answer in.

    Raises:
        HTTPException: the client accepts neither.
    """
    given = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    for each in given:
        if each in _ENCODERS:
            return each
        if each in {"*/*", "application/*"}:
            return JSON
    raise HTTPException(406, f"cannot answer in {accept!r}: {' or '.join(_ENCODERS)}")


def _segment(services: Services, clip: _Clip, answer_type: str) -> bytes:
    """Do the work, in a thread."""
    segmenter = services.place.segmenter
    source = clip.open()
    with hiding_folder(source.clip.path.parent):
        records = segment_short(source, segmenter, clip.mode, services.settings.limits)
    with services.database.write() as connection:
        charge(connection, clip.owner, "video_seconds", source.video.length / source.clip.fps)
    SEGMENT_FRAMES.inc(len(records))
    video = source.video
    answer = {
        "model": describe_model(segmenter.engine.info).model_dump(),
        "video": {
            "file_name": video.file_name,
            "width": video.width,
            "height": video.height,
            "length": video.length,
            "fps": video.fps,
        },
        "frames": records,
    }
    return _ENCODERS[answer_type](answer)


async def _read_clip(request: Request, services: Services, owner: str, stack: ExitStack) -> _Clip:
    kind = media_type(request)
    limits = services.settings.limits
    if kind == MULTIPART:
        return await _read_files(request, services, owner, stack)
    if kind not in _ENCODERS:
        raise HTTPException(415, f"content type {kind!r}: {JSON}, {MSGPACK} or {MULTIPART}")
    body = await read_body(request, limits.segment_bytes, "AMODAL_LIMIT_SEGMENT_BYTES")
    given = await run_sync(lambda: validate(SegmentFrames, decode_body(body, kind)))
    frames = [
        [
            ObjectMask(each.track_id, {"size": list(each.rle.size), "counts": each.rle.counts})
            for each in frame.objects
        ]
        for frame in given.frames
    ]
    masks = MaskFrames((given.height, given.width), given.fps, frames)
    return _Clip(owner, given.mode, lambda: source_of_masks(masks))


async def _read_files(request: Request, services: Services, owner: str, stack: ExitStack) -> _Clip:
    limits = services.settings.limits
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="amodal-clip-")))
    options, name, found = SegmentOptions(), None, set()
    async for part in read_parts(request):
        if part.name in found:
            raise InputError(f"two parts are named {part.name!r}")
        found.add(part.name)
        if part.name == "request":
            content = await read_small(part, limits.json_bytes)
            options = validate(SegmentOptions, decode_body(content, JSON), "request")
        elif part.name in {"video", "visible", "prompts"}:
            name = part.filename if part.name == "video" else name
            await _save(part, folder / part.name, limits.segment_bytes)
        else:
            raise InputError(f"unknown part {part.name!r}: request, video, visible, prompts")
    if "video" not in found:
        raise InputError("the part 'video' is needed")
    check_mask_files(options.masks, found)
    video = folder / "input" / clean_name(options.video_name or name)
    video.parent.mkdir()
    (folder / "video").rename(video)
    return _Clip(owner, options.mode, lambda: _open(services, video, folder, options))


def _open(services: Services, video: Path, folder: Path, options: SegmentOptions) -> ClipSource:
    masks = options.masks
    prompts = folder / "prompts" if masks == "prompted" else None
    runtime = services.place.runtime
    with hiding_folder(folder):
        sources = find_sources(
            video,
            folder / "visible" if masks == "given" else None,
            lambda line: None,
            make_finders=None if masks == "given" else finders_for(prompts, masks, runtime),
            open_clip=partial(_open_short, services),
            pictures=options.pictures,
        )
    return sources.clips[0]


def _open_short(services: Services, path: Path, *, folder_fps: float = DEFAULT_FPS) -> Clip:
    """Return a clip whose reading ends where it proves not to be short."""
    clip = services.place.open_clip(path, folder_fps=folder_fps)
    return CheckedClip(clip, partial(check_short, clip, services.settings.limits))


async def _save(part: Part, path: Path, limit_bytes: int) -> None:
    name = f"part {part.name!r} (AMODAL_LIMIT_SEGMENT_BYTES)"
    with path.open("wb") as out:
        async for data in Counted(part.data, limit_bytes, name):
            out.write(data)
