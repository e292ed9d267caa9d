"""The files of a job that come by URL: fetched by the worker that starts it, once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from amodal_service.address_guard import AddressGuard
from amodal_service.job_files import prompts_key, video_key, visible_key
from amodal_service.jobs import Job
from amodal_service.url_fetch import FetchLimits, fetch_url
from amodal_service.workplace import Workplace


def fetch_inputs(place: Workplace, job: Job, scratch: Path, check: Callable[[], None]) -> None:
    """Put the files that a job's request names by URL into the storage, where they are not yet.

    Args:
        place: storage and policies.
        job: whose.
        scratch: a folder for what is on its way.
        check: called often; raises where the job is to stop.

    Raises:
        InputError: not public, not there, not reachable, or no plain file.
        LimitError: too large or too slow.
        StorageError: no room.
    """
    policies, limits = place.policies, place.settings.limits
    for name, key, limit in (
        ("video", video_key(job.id), min(policies.fetch_bytes, limits.upload_bytes)),
        ("visible", visible_key(job.id), limits.visible_bytes),
        ("prompts", prompts_key(job.id), limits.prompt_bytes),
    ):
        url = (job.request.get(name) or {}).get("url")
        if url is None or place.storage.exists(key):
            continue
        guard = AddressGuard(policies.hosts)
        allowed = FetchLimits(limit, policies.fetch_seconds)
        fetched = fetch_url(url, scratch / f"fetched-{name}", guard, allowed, check=check)
        place.room.check(fetched.size_bytes)
        place.storage.put(key, fetched.path)
        fetched.path.unlink()
