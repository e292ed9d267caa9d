"""What is kept for how long: ended jobs, uploads, and files that nothing refers to any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from amodal_service import job_transitions, jobs
from amodal_service.address_guard import AddressGuard
from amodal_service.ingest_tables import uploads
from amodal_service.job_queue import JobQueue
from amodal_service.job_tables import jobs as jobs_table
from amodal_service.uploads import expired_uploads, remove_upload
from amodal_service.webhook_outbox import drop_old
from amodal_service.webhooks import deliver_due
from amodal_service.workplace import Workplace

SWEEP_S = 60.0
ORPHANS_S = 3600.0
ORPHAN_AGE_S = 24 * 3600.0
"""Files without an owner are younger while a request still brings them."""
WEBHOOKS_S = 1.0
_MESSAGES_KEPT_S = 7 * 24 * 3600.0

_log = structlog.get_logger()


class Swept(NamedTuple):
    """What a sweep removed."""

    jobs: int = 0
    uploads: int = 0
    orphans: int = 0


def sweep(place: Workplace, queue: JobQueue, *, with_orphans: bool = False) -> Swept:
    """Remove what has expired; of each thing first the record, then the files.

    A crash in between leaves files that nothing refers to: they are never seen, and removed as
    orphans.
    """
    swept = Swept(_sweep_jobs(place, queue), _sweep_uploads(place))
    with place.database.write() as connection:
        drop_old(connection, time.time() - _MESSAGES_KEPT_S)
    if with_orphans:
        swept = swept._replace(orphans=_sweep_orphans(place))
    if any(swept):
        _log.info("swept", **swept._asdict())
    return swept


def _sweep_jobs(place: Workplace, queue: JobQueue) -> int:
    keep_s = place.policies.keep_seconds
    if not keep_s:
        return 0
    ended = sa.select(jobs_table.c.id).where(
        jobs_table.c.state.not_in(tuple(jobs.ACTIVE)),
        jobs_table.c.finished_s < time.time() - keep_s,
    )
    with place.database.read() as connection:
        expired = [jobs.find_job(connection, key) for key in connection.scalars(ended.limit(100))]
    for job in expired:
        with place.database.write() as connection:
            job_transitions.delete(connection, job)
        queue.forget(job.id, job.runs)
        place.storage.delete_below(job.prefix)
    return len(expired)


def _sweep_uploads(place: Workplace) -> int:
    with place.database.read() as connection:
        expired = expired_uploads(connection)
    for upload_id in expired:
        with place.database.write() as connection:
            remove_upload(connection, upload_id)
        place.storage.delete_below(f"uploads/{upload_id}")
    return len(expired)


def _sweep_orphans(place: Workplace) -> int:
    """Remove old files below ``jobs/`` and ``uploads/`` whose record is not there."""
    newest: dict[tuple[str, str], float] = {}
    for kind in ("jobs", "uploads"):
        for file in place.storage.list(kind):
            owner = (kind, file.key.split("/")[1])
            newest[owner] = max(newest.get(owner, 0.0), file.modified_s)
    old = [owner for owner, at_s in newest.items() if at_s < time.time() - ORPHAN_AGE_S]
    with place.database.read() as connection:
        orphans = [owner for owner in old if not _is_known(connection, *owner)]
    for kind, name in orphans:
        place.storage.delete_below(f"{kind}/{name}")
    return len(orphans)


def _is_known(connection: Connection, kind: str, name: str) -> bool:
    table = jobs_table if kind == "jobs" else uploads
    query = sa.select(table.c.id).where(table.c.id == name)
    return connection.execute(query).first() is not None


class Housekeeping:
    """Delivers webhooks and sweeps in threads of this process; use it in a ``with`` block."""

    def __init__(self, place: Workplace, queue: JobQueue) -> None:
        self._place = place
        self._queue = queue
        self._guard = AddressGuard(place.policies.hosts)
        self._is_over = threading.Event()
        self._orphans_due_s = time.monotonic() + ORPHANS_S
        self._threads = [
            threading.Thread(target=self._repeat, args=task, daemon=True)
            for task in ((self._deliver, WEBHOOKS_S), (self._tidy, SWEEP_S))
        ]

    def __enter__(self) -> Housekeeping:
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, after the attempts that are under way."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, task: Callable[[], None], every_s: float) -> None:
        while not self._is_over.wait(every_s):
            try:
                task()
            except Exception as error:  # the next round may do better, and there must be one
                reason = str(error).splitlines()[:1]
                _log.warning("housekeeping_failed", task=task.__name__, error=reason)

    def _deliver(self) -> None:
        keep_s = self._place.policies.webhook_seconds
        while deliver_due(self._place.database, self._guard, for_s=keep_s):
            if self._is_over.is_set():
                return

    def _tidy(self) -> None:
        with_orphans = time.monotonic() >= self._orphans_due_s
        if with_orphans:
            self._orphans_due_s = time.monotonic() + ORPHANS_S
        sweep(self._place, self._queue, with_orphans=with_orphans)
