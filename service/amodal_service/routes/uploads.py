"""Resumable uploads by tus 1.0 (tus.io): creation, termination, expiration, checksum."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from functools import partial
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, HTTPException, Path, Request, Response
from fastapi.responses import JSONResponse

from amodal_model.errors import ConflictError, LimitError
from amodal_service.access import Caller, Reader, Writer
from amodal_service.problems import Kind, problem
from amodal_service.request_bodies import media_type
from amodal_service.schemas import UploadState, problem_responses
from amodal_service.services import Services, ServicesDep
from amodal_service.uploads import (
    ALGORITHMS,
    Checksum,
    Intake,
    Upload,
    UploadPart,
    add_parts,
    create_upload,
    find_upload,
    receive,
    remove_upload,
)

VERSION = "1.0.0"
BYTES = "application/offset+octet-stream"
PROBLEM = "application/problem+json"
_CHECKSUM_MISMATCH = Kind("checksum", 460, "Checksum mismatch")

router = APIRouter(prefix="/v1/uploads", tags=["uploads"])

UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Header(ge=0, le=1 << 62)]
ChecksumHeader = Annotated[
    str | None,
    Header(max_length=200, description=f"ALGORITHM BASE64; {', '.join(ALGORITHMS)}."),
]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}},
    }
}
_OPTIONAL_BODY = {"requestBody": {**_BODY["requestBody"], "required": False}}
_VERSION_HEADER: dict[str, Any] = {
    "parameters": [
        {
            "name": "Tus-Resumable",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "const": VERSION},
        }
    ]
}


def check_version(request: Request) -> None:
    """Refuse another version of the protocol, or none: 412 by tus, not FastAPI's 422."""
    tus_resumable = request.headers.get("tus-resumable")
    if tus_resumable != VERSION:
        raise HTTPException(
            412, f"Tus-Resumable is {tus_resumable!r}, must be {VERSION}", {"Tus-Version": VERSION}
        )


_TUS = [Depends(check_version)]


@router.options("", status_code=204)
@router.options("/{upload_id}", status_code=204, include_in_schema=False)
def describe_protocol(services: ServicesDep) -> Response:
    """Say which parts of tus are spoken, and how large an upload may be."""
    return Response(
        status_code=204,
        headers={
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": "creation,creation-with-upload,termination,expiration,checksum",
            "Tus-Max-Size": str(services.settings.limits.upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


@router.post(
    "",
    status_code=201,
    dependencies=_TUS,
    response_class=Response,
    openapi_extra=_VERSION_HEADER | _OPTIONAL_BODY,
    responses=problem_responses(401, 403, 412, 413, 415, 422, 429, 507),
)
async def start_upload(
    request: Request,
    services: ServicesDep,
    caller: Writer,
    upload_length: Count,
    upload_metadata: Annotated[str, Header(max_length=4096)] = "",
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Start an upload; its address is in ``Location``. First bytes may come along."""
    limit = services.settings.limits.upload_bytes
    if upload_length > limit:
        raise LimitError(
            f"upload is {upload_length} bytes, limit {limit} (AMODAL_LIMIT_UPLOAD_BYTES)"
        )
    has_body = media_type(request) == BYTES
    upload = await run_sync(_create, services, caller, upload_length, upload_metadata)
    headers = {"Location": f"/v1/uploads/{upload.id}", **_progress(upload, upload.offset)}
    if has_body:
        return await _take(request, services, upload, upload_checksum, 201, headers)
    return Response(status_code=201, headers=headers)


def _create(services: Services, caller: Caller, size: int, metadata: str) -> Upload:
    services.room.check(size)
    with services.database.write() as connection:
        lasts_s = services.policies.upload_seconds
        return create_upload(connection, caller.owner, size, metadata, lasts_s)


@router.head(
    "/{upload_id}",
    dependencies=_TUS,
    response_class=Response,
    openapi_extra=_VERSION_HEADER,
    responses=problem_responses(401, 403, 404, 412, 422, 429),
)
def head_upload(upload_id: UploadId, services: ServicesDep, caller: Reader) -> Response:
    """Say how much of an upload is here (``Upload-Offset``)."""
    upload = _find(services, caller, upload_id)
    headers = _progress(upload, upload.offset) | {
        "Upload-Length": str(upload.size_bytes),
        "Cache-Control": "no-store",
    }
    if upload.metadata:
        headers["Upload-Metadata"] = upload.metadata
    return Response(headers=headers)


@router.get("/{upload_id}", responses=problem_responses(401, 403, 404, 422, 429))
def get_upload(upload_id: UploadId, services: ServicesDep, caller: Reader) -> UploadState:
    """Return an upload and how much of it is here."""
    upload = _find(services, caller, upload_id)
    return UploadState(
        id=upload.id,
        name=upload.name,
        size_bytes=upload.size_bytes,
        offset=upload.offset,
        expires_s=upload.expires_s,
    )


@router.patch(
    "/{upload_id}",
    status_code=204,
    dependencies=_TUS,
    response_class=Response,
    openapi_extra=_VERSION_HEADER | _BODY,
    responses=problem_responses(401, 403, 404, 409, 412, 413, 415, 422, 429, 460, 507),
)
async def continue_upload(
    request: Request,
    upload_id: UploadId,
    services: ServicesDep,
    caller: Writer,
    upload_offset: Count,
    upload_checksum: ChecksumHeader = None,
) -> Response:
    """Add bytes at the end of an upload, which must be at ``Upload-Offset``."""
    if media_type(request) != BYTES:
        raise HTTPException(415, f"content type {media_type(request)!r}: {BYTES}")
    upload = await run_sync(_find, services, caller, upload_id)
    if upload_offset != upload.offset:
        raise ConflictError(f"upload is at byte {upload.offset}, not at {upload_offset}")
    await run_sync(services.room.check, upload.size_bytes - upload.offset)
    return await _take(request, services, upload, upload_checksum, 204, {})


async def _take(
    request: Request,
    services: Services,
    upload: Upload,
    given_checksum: str | None,
    status: int,
    headers: dict[str, str],
) -> Response:
    """Store the body of a request and answer with the new offset."""
    checksum = Checksum(given_checksum) if given_checksum else None
    intake = Intake(request.stream(), upload.size_bytes - upload.offset, checksum)

    async def save(parts: Sequence[UploadPart]) -> None:
        await run_sync(partial(_save, services, upload, parts))

    offset = await receive(services.storage, upload, intake, save, checksum)
    if offset is None:
        detail = "the bytes that came do not have the checksum that was sent"
        return JSONResponse(problem(_CHECKSUM_MISMATCH, detail), 460, media_type=PROBLEM)
    with_offset = await run_sync(_find_any, services, upload)
    return Response(status_code=status, headers=headers | _progress(with_offset, offset))


def _save(services: Services, upload: Upload, parts: Sequence[UploadPart]) -> None:
    with services.database.write() as connection:
        add_parts(connection, upload, parts, services.policies.upload_seconds)


@router.delete(
    "/{upload_id}",
    status_code=204,
    dependencies=_TUS,
    openapi_extra=_VERSION_HEADER,
    responses=problem_responses(401, 403, 404, 412, 422, 429),
)
def stop_upload(upload_id: UploadId, services: ServicesDep, caller: Writer) -> None:
    """Remove an upload and its bytes."""
    upload = _find(services, caller, upload_id)
    with services.database.write() as connection:
        remove_upload(connection, upload.id)
    services.storage.delete_below(upload.prefix)


def _find(services: Services, caller: Caller, upload_id: str) -> Upload:
    with services.database.read() as connection:
        return find_upload(connection, upload_id, caller.owner)


def _find_any(services: Services, upload: Upload) -> Upload:
    with services.database.read() as connection:
        return find_upload(connection, upload.id, upload.owner)


def _progress(upload: Upload, offset: int) -> dict[str, str]:
    return {
        "Upload-Offset": str(offset),
        "Upload-Expires": formatdate(upload.expires_s, usegmt=True),
    }
