"""Making jobs: the files into storage, then job and queue entry in one transaction.

Two requests with one ``Idempotency-Key`` make one job: the second is answered with the first one's
job where it says the same, and refused where it does not.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from anyio.to_thread import run_sync
from fastapi import Request
from sqlalchemy.exc import IntegrityError

from amodal_model.errors import ConflictError, InputError
from amodal_service import job_transitions, jobs
from amodal_service.access import Caller
from amodal_service.job_files import clean_name, prompts_key, video_key, visible_key
from amodal_service.job_sources import name_of, take_source
from amodal_service.jobs import Job, NewJob, new_job_id
from amodal_service.mask_choice import check_mask_files
from amodal_service.multipart import Counted, Part, read_parts, read_small
from amodal_service.policies import Allowance
from amodal_service.rate_limits import check_jobs
from amodal_service.records import compact_json
from amodal_service.request_bodies import JSON, decode_body, validate
from amodal_service.schemas import FileSource, JobOptions, JobRequest, Prompts
from amodal_service.services import Services


class Made(NamedTuple):
    """A job, and whether the request made it or found it."""

    job: Job
    is_new: bool


async def make_job_of_files(
    request: Request, services: Services, caller: Caller, idempotency_key: str | None
) -> Made:
    """Make a job of a multipart request, whose files go to storage as they arrive.

    Raises:
        InputError: a part is missing, unknown, there twice, or not what it should be.
        LimitError: a part is too large.
        ConflictError: the idempotency key was used for something else.
    """
    length = request.headers.get("content-length", "")
    await run_sync(services.room.check, int(length) if length.isdecimal() else 0)
    job_id = new_job_id()
    try:
        options, name, digests = await _store_parts(request, services, job_id)
        content = options.model_dump(mode="json", exclude_none=True)
        content["video_name"] = clean_name(options.video_name or name)
        digest = _digest({**content, **digests})
        new = NewJob(job_id, caller.owner, content, digest, options.priority, idempotency_key)
        made = await run_sync(insert, services, new, caller.allowance)
    except BaseException:
        await run_sync(services.storage.delete_below, f"jobs/{job_id}")
        raise
    if not made.is_new:
        await run_sync(services.storage.delete_below, f"jobs/{job_id}")
    return made


async def _store_parts(
    request: Request, services: Services, job_id: str
) -> tuple[JobOptions, str | None, dict[str, str]]:
    limits = services.settings.limits
    files = {
        "video": (video_key(job_id), limits.upload_bytes, "AMODAL_LIMIT_UPLOAD_BYTES"),
        "visible": (visible_key(job_id), limits.visible_bytes, "AMODAL_LIMIT_VISIBLE_BYTES"),
        "prompts": (prompts_key(job_id), limits.prompt_bytes, "AMODAL_LIMIT_PROMPT_BYTES"),
    }
    options, name = JobOptions(), None
    digests: dict[str, str] = {}
    async for part in read_parts(request):
        if part.name in digests:
            raise InputError(f"two parts are named {part.name!r}")
        if part.name == "request":
            content = await read_small(part, limits.json_bytes)
            options = validate(JobOptions, decode_body(content, JSON), "request")
            digests["request"] = ""
        elif part.name in files:
            name = part.filename if part.name == "video" else name
            digests[part.name] = await _store(services, part, *files[part.name])
        else:
            raise InputError(f"unknown part {part.name!r}: request, {', '.join(files)}")
    if "video" not in digests:
        raise InputError("the part 'video' is needed")
    check_mask_files(options.masks, digests)
    digests.pop("request", None)
    return options, name, digests


async def _store(services: Services, part: Part, key: str, limit_bytes: int, limit: str) -> str:
    """Stream a part into storage and return its digest."""
    counted = Counted(part.data, limit_bytes, f"part {part.name!r} ({limit})")
    await services.storage.put_stream(key, aiter(counted))
    return counted.sha256


def make_job_of_sources(
    services: Services, caller: Caller, wanted: JobRequest, idempotency_key: str | None
) -> Made:
    """Make a job whose files are elsewhere already.

    Raises:
        MissingItemError: a file that is not there.
        ConflictError: the idempotency key was used for something else.
    """
    content = wanted.model_dump(mode="json", exclude_none=True)
    name = wanted.video_name or name_of(services, caller, wanted.video)
    content["video_name"] = clean_name(name)
    digest = _digest(content)
    if isinstance(wanted.prompts, Prompts):
        del content["prompts"]  # they are a file of the job, as others are
    new = NewJob(new_job_id(), caller.owner, content, digest, wanted.priority, idempotency_key)
    known = _find_known(services, new)
    if known is not None:
        return known
    try:
        take_source(services, caller, wanted.video, video_key(new.id))
        if wanted.visible is not None:
            take_source(services, caller, wanted.visible, visible_key(new.id))
        _take_prompts(services, caller, wanted.prompts, prompts_key(new.id))
        made = insert(services, new, caller.allowance)
    except BaseException:
        services.storage.delete_below(f"jobs/{new.id}")
        raise
    if not made.is_new:
        services.storage.delete_below(f"jobs/{new.id}")
    return made


def _take_prompts(
    services: Services, caller: Caller, prompts: FileSource | Prompts | None, target: str
) -> None:
    if isinstance(prompts, FileSource):
        take_source(services, caller, prompts, target)
    elif prompts is not None:
        content = compact_json(prompts.as_json()).encode()
        services.room.check(len(content))
        services.storage.put(target, content)


def insert(services: Services, new: NewJob, allowance: Allowance) -> Made:
    """Make a job and its queue entry; where its idempotency key is known, find that job.

    Raises:
        ConflictError: the key was used for something else.
        QuotaError: its owner has as many jobs as it may.
    """
    known = _find_known(services, new)
    if known is not None:
        return known
    try:
        with services.database.write() as connection:
            check_jobs(connection, new.owner, allowance)
            job_transitions.insert_job(connection, new)
            services.queue.add(connection, new.id, 1, owner=new.owner, priority=new.priority)
            return Made(jobs.find_job(connection, new.id), is_new=True)
    except IntegrityError:  # another request with the key was quicker
        known = _find_known(services, new)
        if known is None:
            raise
        return known


def _find_known(services: Services, new: NewJob) -> Made | None:
    if new.idempotency_key is None:
        return None
    with services.database.read() as connection:
        found = jobs.find_by_idempotency_key(connection, new.owner, new.idempotency_key)
    if found is None:
        return None
    if found.request_sha256 != new.request_sha256:
        raise ConflictError(
            f"Idempotency-Key {new.idempotency_key!r} made job {found.id} of another request"
        )
    return Made(found, is_new=False)


_LATER = {"pictures": False}
"""Options that were added later: not used, they are no part of a digest, as before."""


def _digest(content: dict[str, Any]) -> str:
    """Return the digest of a request, the same whatever version of ours it was sent to."""
    content = {name: each for name, each in content.items() if (name, each) not in _LATER.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
