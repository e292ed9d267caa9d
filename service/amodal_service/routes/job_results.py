"""What a job gives: events and records while it runs, result files when it has succeeded."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, HTTPException, Path
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from amodal_model.errors import MissingItemError
from amodal_service import job_history, jobs
from amodal_service.job_history import Chunk, Event
from amodal_service.job_results import MEDIA_TYPES, OTHER_MEDIA_TYPE
from amodal_service.routes.jobs import OwnJob
from amodal_service.schemas import problem_responses
from amodal_service.services import Services, ServicesDep
from amodal_service.storage import Storage

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["jobs"])

POLL_S = 0.5
KEEP_ALIVE_S = 15.0
EVENTS = "text/event-stream"
_NOT_STORED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_JSON = {"schema": {"description": "A file of the format that its name says."}}
_EVENT_SCHEMA = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {
            "enum": ["queued", "started", "progress", "succeeded", "failed", "cancelled"],
        },
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}

RangeHeader = Annotated[str | None, Header(description="A single range: bytes=FIRST-[LAST].")]


class Span(NamedTuple):
    """A range of bytes of a file: from ``start`` up to, not including, ``end``."""

    start: int
    end: int
    is_part: bool


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events; the data of each is a JSON object.",
            "content": {EVENTS: {"itemSchema": _EVENT_SCHEMA}},
        },
        **problem_responses(401, 403, 404, 422),
    },
)
async def job_events(
    job: OwnJob,
    services: ServicesDep,
    last_event_id: Annotated[
        str | None, Header(description="Id of the last event seen; those after it follow.")
    ] = None,
) -> StreamingResponse:
    """Stream what happens to a job, from its beginning or after the last event that was seen.

    Events are ``queued``, ``started``, ``progress``, ``succeeded``, ``failed`` and ``cancelled``.
    The stream ends when the job has ended and everything is told.
    """
    last_id = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
    # FastAPI's own event stream logs a crash whenever a client leaves while an event waits.
    return StreamingResponse(
        _tell(services, job.id, last_id), headers=_NOT_STORED, media_type=EVENTS
    )


async def _tell(services: Services, job_id: str, last_id: int) -> AsyncIterator[bytes]:
    """Yield the events after one as they happen, until the job has ended."""
    quiet_s = 0.0
    while True:
        found, is_active = await run_sync(_news, services, job_id, last_id)
        for event in found:
            last_id = event.id
            yield _sse(event)
        if not found and not is_active:
            return
        if not found:
            await asyncio.sleep(POLL_S)
        quiet_s = 0.0 if found else quiet_s + POLL_S
        if quiet_s >= KEEP_ALIVE_S:
            quiet_s = 0.0
            yield format_sse_event(comment="still here")


def _news(services: Services, job_id: str, last_id: int) -> tuple[list[Event], bool]:
    """Return the events after one, and whether more may come."""
    with services.database.read() as connection:
        try:
            is_active = jobs.find_job(connection, job_id).is_active
        except MissingItemError:  # deleted while somebody listens
            return [], False
        return job_history.events_after(connection, job_id, last_id), is_active


def _sse(event: Event) -> bytes:
    data = {"at_s": round(event.created_s, 3), **event.data}
    return format_sse_event(data_str=json.dumps(data), event=event.kind, id=str(event.id))


def _file_responses(*media_types: str) -> dict[int | str, dict[str, Any]]:
    content = {each: _JSON if each == "application/json" else _BINARY for each in media_types}
    return {
        200: {"description": "The whole of it.", "content": content},
        206: {"description": "The range that was asked for.", "content": content},
        **problem_responses(401, 403, 404, 416, 422),
    }


@router.get(
    "/results", response_class=StreamingResponse, responses=_file_responses("application/jsonl")
)
def job_results(job: OwnJob, services: ServicesDep, range: RangeHeader = None) -> StreamingResponse:
    """Return the records of the finished frames, one JSON line a frame.

    It can be read while the job runs: it only grows, by whole lines. ``Amodal-Complete`` says
    whether it is the whole clip; a range from the length read so far gives what is new.
    """
    with services.database.read() as connection:
        chunks = job_history.chunks_of(connection, job.id)
    span = parse_range(range, sum(chunk.size_bytes for chunk in chunks))
    size = sum(chunk.size_bytes for chunk in chunks) if job.state == "succeeded" else None
    headers = _span_headers(span, size)
    headers["Amodal-Complete"] = "true" if job.state == "succeeded" else "false"
    return StreamingResponse(
        _read_chunks(services.storage, chunks, span),
        206 if span.is_part else 200,
        headers,
        media_type="application/jsonl",
    )


def _read_chunks(storage: Storage, chunks: Sequence[Chunk], span: Span) -> Iterator[bytes]:
    offset = 0
    for chunk in chunks:
        start, end = max(span.start - offset, 0), min(span.end - offset, chunk.size_bytes)
        if start < end:
            yield from storage.parts(chunk.key, start, end)
        offset += chunk.size_bytes


@router.get(
    "/artifacts/{name}",
    response_class=StreamingResponse,
    responses=_file_responses(*MEDIA_TYPES.values(), OTHER_MEDIA_TYPE),
)
def job_artifact(
    job: OwnJob,
    name: Annotated[str, Path(max_length=255)],
    services: ServicesDep,
    range: RangeHeader = None,
) -> StreamingResponse:
    """Return a result file of a job that has succeeded."""
    with services.database.read() as connection:
        artifacts = {each.name: each for each in job_history.artifacts_of(connection, job.id)}
    artifact = artifacts.get(name)
    if artifact is None:
        raise MissingItemError(f"job {job.id} is {job.state} and has no file {name!r}")
    span = parse_range(range, artifact.size_bytes)
    headers = _span_headers(span, artifact.size_bytes)
    headers["ETag"] = f'"{artifact.sha256}"'
    return StreamingResponse(
        services.storage.parts(artifact.key, span.start, span.end),
        206 if span.is_part else 200,
        headers,
        media_type=artifact.media_type,
    )


def parse_range(header: str | None, size: int) -> Span:
    """Return the bytes that a ``Range`` header asks for; all, where it is none we know.

    Raises:
        HTTPException: 416, a range that starts beyond the end.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header or "")
    if match is None or not any(match.groups()):
        return Span(0, size, is_part=False)
    first, last = match.groups()
    if not first:  # the last so many bytes
        return Span(max(size - int(last), 0), size, is_part=True)
    start, end = int(first), int(last) + 1 if last else size
    if last and end <= start:
        return Span(0, size, is_part=False)
    if start >= size:
        raise HTTPException(416, f"range from {start}, there are {size} bytes", _unsatisfied(size))
    return Span(start, min(end, size), is_part=True)


def _unsatisfied(size: int) -> dict[str, str]:
    return {"Content-Range": f"bytes */{size}"}


def _span_headers(span: Span, size: int | None) -> dict[str, str]:
    """Return the headers of an answer; a size that is not known yet is ``*``."""
    headers = {"Accept-Ranges": "bytes", "Content-Length": str(span.end - span.start)}
    if span.is_part:
        whole = "*" if size is None else str(size)
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{whole}"
    return headers
