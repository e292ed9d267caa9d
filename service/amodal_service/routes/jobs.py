"""Jobs: made, listed, looked at, stopped, started again, removed."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response

from amodal_model.errors import LimitError
from amodal_service import job_transitions, jobs
from amodal_service.access import Caller, Reader, Writer
from amodal_service.job_requests import make_job_of_files, make_job_of_sources
from amodal_service.job_wire import describe_job
from amodal_service.request_bodies import (
    JSON,
    MULTIPART,
    body_schema,
    decode_body,
    media_type,
    read_body,
    validate,
)
from amodal_service.schemas import Job, JobFiles, JobId, JobList, JobRequest, problem_responses
from amodal_service.services import Services, ServicesDep
from amodal_service.tracing import bind_to_span

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="A request that repeats a key is answered with the job that the first made.",
    ),
]


@router.post(
    "",
    status_code=201,
    openapi_extra=body_schema(multipart=JobFiles, json=JobRequest),
    responses={
        200: {"model": Job, "description": "The job that an earlier request with the key made."},
        **problem_responses(401, 403, 404, 409, 413, 415, 422, 429, 507),
    },
)
async def create_job(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: Writer,
    idempotency_key: IdempotencyKey = None,
) -> Job:
    """Make a job of a clip, and of its visible masks or of what they are found from.

    The files come with the request (multipart parts ``video``, ``visible`` or ``prompts``, and,
    with options, ``request``), or JSON says where they are. ``masks`` among the options says which
    file there is. Answered as soon as the files are stored.
    """
    kind, limits = media_type(request), services.settings.limits
    if kind == MULTIPART:
        room = limits.upload_bytes + limits.visible_bytes + limits.prompt_bytes + limits.json_bytes
        _check_length(request, room)
        made = await make_job_of_files(request, services, caller, idempotency_key)
    elif kind == JSON:
        body = await read_body(request, limits.json_bytes, "AMODAL_LIMIT_JSON_BYTES")
        wanted = validate(JobRequest, decode_body(body, JSON))
        made = await run_sync(make_job_of_sources, services, caller, wanted, idempotency_key)
    else:
        raise HTTPException(415, f"content type {kind!r}: {MULTIPART} or {JSON}")
    bind_to_span(job_id=made.job.id)
    response.status_code = 201 if made.is_new else 200
    response.headers["Location"] = f"/v1/jobs/{made.job.id}"
    return await run_sync(describe_job, services.database, made.job)


def _check_length(request: Request, limit_bytes: int) -> None:
    """Refuse a body that says it is too large before it is read."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit_bytes:
        raise LimitError(f"request is {length} bytes, limit {limit_bytes}")


@router.get("", responses=problem_responses(401, 403, 422))
def list_jobs(
    services: ServicesDep,
    caller: Reader,
    state: jobs.JobState | None = None,
    before: Annotated[JobId | None, Query(description="Id of a job: only older ones.")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> JobList:
    """List the caller's jobs, newest first."""
    with services.database.read() as connection:
        found = jobs.list_jobs(
            connection, caller.owner, state=state, before=before, limit=limit + 1
        )
    page = [describe_job(services.database, job) for job in found[:limit]]
    return JobList(jobs=page, next_before=page[-1].id if len(found) > limit else None)


@router.get("/{job_id}", responses=problem_responses(401, 403, 404, 422))
def get_job(job_id: JobId, services: ServicesDep, caller: Reader) -> Job:
    """Return a job and how far it is."""
    return describe_job(services.database, find_own(services, caller, job_id))


@router.post("/{job_id}/cancel", responses=problem_responses(401, 403, 404, 422))
def cancel_job(job_id: JobId, services: ServicesDep, caller: Writer) -> Job:
    """Stop a job at its next frame; one that has ended stays as it is."""
    job = find_own(services, caller, job_id)
    with services.database.write() as connection:
        job_transitions.cancel(connection, job)
    services.queue.cancel(job.id, job.runs)
    return describe_job(services.database, find_own(services, caller, job_id))


@router.post("/{job_id}/retry", responses=problem_responses(401, 403, 404, 409, 422))
def retry_job(job_id: JobId, services: ServicesDep, caller: Writer) -> Job:
    """Queue a job that failed or was cancelled again; it goes on after its finished frames."""
    job = find_own(services, caller, job_id)
    with services.database.write() as connection:
        run = job_transitions.retry(connection, job)
        services.queue.add(connection, job.id, run, owner=job.owner, priority=job.priority)
    return describe_job(services.database, find_own(services, caller, job_id))


@router.delete("/{job_id}", status_code=204, responses=problem_responses(401, 403, 404, 422))
def delete_job(job_id: JobId, services: ServicesDep, caller: Writer) -> None:
    """Remove a job and its files; a running one stops first."""
    job = find_own(services, caller, job_id)
    with services.database.write() as connection:
        job_transitions.delete(connection, job)
    services.queue.cancel(job.id, job.runs)
    services.queue.forget(job.id, job.runs)
    services.storage.delete_below(job.prefix)


def _job_of_reader(job_id: JobId, services: ServicesDep, caller: Reader) -> jobs.Job:
    return find_own(services, caller, job_id)


def find_own(services: Services, caller: Caller, job_id: str) -> jobs.Job:
    """Return a job of the caller.

    Raises:
        MissingItemError: no such job, or another's.
    """
    with services.database.read() as connection:
        return jobs.find_job(connection, job_id, caller.owner)


OwnJob = Annotated[jobs.Job, Depends(_job_of_reader)]
"""The job of the path, found before the answer begins."""
