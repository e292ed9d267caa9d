"""Transitions of jobs: every change of one is a single guarded statement.

    queued ──► running ──► succeeded
      │  ▲        │  └───► failed
      │  └─retry──┼──────────┘
      └───────────┴──────► cancelled

A worker works on a job under an *epoch*, a number that rises with every start, takeover and
cancellation. Its writes are conditional on the epoch, so a worker that was thought dead and wakes
up again changes nothing: its first write fails with `Superseded`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import ConflictError
from amodal_service.job_history import Artifact, Chunk, add_event
from amodal_service.job_tables import job_artifacts, job_chunks, job_events, jobs
from amodal_service.jobs import ACTIVE, Job, NewJob, find_job
from amodal_service.webhook_outbox import add_message


class Superseded(BaseException):
    """This execution of a job no longer owns it; not an error, and nothing may swallow it."""


def insert_job(connection: Connection, new: NewJob) -> None:
    """Add a queued job.

    Raises:
        sqlalchemy.exc.IntegrityError: its owner has used the idempotency key before.
    """
    now_s = time.time()
    connection.execute(
        jobs.insert().values(
            **new._asdict(),
            state="queued",
            frames_done=0,
            runs=1,
            attempts=0,
            epoch=0,
            created_s=now_s,
            updated_s=now_s,
        )
    )
    add_event(connection, new.id, "queued", {})


def claim(connection: Connection, job_id: str, run: int, worker: str) -> Job | None:
    """Begin to work on a job and return it with its new epoch.

    Returns ``None`` where there is nothing to do any more: it ended, was cancelled, deleted, or a
    later run of it has begun.
    """
    now_s = time.time()
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job_id, jobs.c.runs == run, jobs.c.state.in_(ACTIVE))
        .values(
            state="running",
            epoch=jobs.c.epoch + 1,
            attempts=jobs.c.attempts + 1,
            worker=worker,
            started_s=sa.func.coalesce(jobs.c.started_s, now_s),
            updated_s=now_s,
        )
    )
    if not changed.rowcount:
        return None
    job = find_job(connection, job_id)
    add_event(connection, job_id, "started", {"attempt": job.attempts})
    return job


def release(connection: Connection, job: Job) -> None:
    """Give a running job back to the queue; the start does not count as an attempt."""
    connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.epoch == job.epoch, jobs.c.state == "running")
        .values(state="queued", worker=None, attempts=jobs.c.attempts - 1, updated_s=time.time())
    )


def restart(connection: Connection, job: Job) -> int | None:
    """Begin a new run of a job whose run is lost; ``None`` where something has happened to it."""
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.epoch == job.epoch, jobs.c.runs == job.runs)
        .where(jobs.c.state.in_(ACTIVE), jobs.c.updated_s == job.updated_s)
        .values(
            state="queued",
            runs=jobs.c.runs + 1,
            epoch=jobs.c.epoch + 1,
            worker=None,
            updated_s=time.time(),
        )
    )
    return job.runs + 1 if changed.rowcount else None


def set_total(connection: Connection, job: Job, frames_total: int) -> None:
    """Record the number of a job's frames.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    _update_own(connection, job, {"frames_total": frames_total})


def add_chunk(
    connection: Connection, job: Job, chunk: Chunk, checkpoint_key: str, fps: float
) -> None:
    """Add finished frames to a job, together with the state to go on from.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    values = {
        "frames_done": jobs.c.frames_done + chunk.frames,
        "checkpoint_key": checkpoint_key,
        "fps": fps,
    }
    _update_own(connection, job, values)
    connection.execute(job_chunks.insert().values(job_id=job.id, **chunk._asdict()))
    done = find_job(connection, job.id)
    progress = {"frames_done": done.frames_done, "frames_total": done.frames_total, "fps": fps}
    add_event(connection, job.id, "progress", progress)


def drop_chunks(connection: Connection, job: Job) -> None:
    """Forget the finished frames of a job, to start it afresh.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    _update_own(connection, job, {"frames_done": 0, "checkpoint_key": None})
    connection.execute(job_chunks.delete().where(job_chunks.c.job_id == job.id))


def succeed(connection: Connection, job: Job, artifacts: Sequence[Artifact]) -> None:
    """End a job with its result files.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    _end(connection, job, "succeeded", {"checkpoint_key": None})
    for artifact in artifacts:
        connection.execute(job_artifacts.insert().values(job_id=job.id, **artifact._asdict()))
    add_event(connection, job.id, "succeeded", {"artifacts": [each.name for each in artifacts]})
    add_message(connection, job.id, job.runs, "succeeded", job.request.get("webhook"))


def fail(connection: Connection, job: Job, problem: Mapping[str, Any]) -> None:
    """End a job with a problem.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    _end(connection, job, "failed", {"error": dict(problem)})
    add_event(connection, job.id, "failed", {"error": dict(problem)})
    add_message(connection, job.id, job.runs, "failed", job.request.get("webhook"))


def cancel(connection: Connection, job: Job) -> None:
    """Stop a job that waits or runs; one that has ended stays as it is."""
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.runs == job.runs, jobs.c.state.in_(ACTIVE))
        .values(state="cancelled", epoch=jobs.c.epoch + 1, worker=None, **_ended())
    )
    if changed.rowcount:
        add_event(connection, job.id, "cancelled", {})
        add_message(connection, job.id, job.runs, "cancelled", job.request.get("webhook"))


def retry(connection: Connection, job: Job) -> int:
    """Queue a job that failed or was cancelled again and return the number of its new run.

    Finished frames stay; the new run goes on after them.

    Raises:
        ConflictError: it waits, runs or has succeeded.
    """
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.runs == job.runs)
        .where(jobs.c.state.in_(("failed", "cancelled")))
        .values(
            state="queued",
            runs=jobs.c.runs + 1,
            epoch=jobs.c.epoch + 1,
            attempts=0,
            error=sa.null(),
            started_s=None,
            finished_s=None,
            updated_s=time.time(),
        )
    )
    if not changed.rowcount:
        raise ConflictError(f"job {job.id} is {job.state}: only a failed or cancelled job restarts")
    add_event(connection, job.id, "queued", {"run": job.runs + 1})
    return job.runs + 1


def delete(connection: Connection, job: Job) -> None:
    """Remove a job with everything the database knows of it; a running one is superseded."""
    for table in (job_chunks, job_artifacts, job_events):
        connection.execute(table.delete().where(table.c.job_id == job.id))
    connection.execute(jobs.delete().where(jobs.c.id == job.id))


def _end(connection: Connection, job: Job, state: str, values: Mapping[str, Any]) -> None:
    _update_own(connection, job, {"state": state, "worker": None, **values, **_ended()})


def _ended() -> dict[str, float]:
    now_s = time.time()
    return {"finished_s": now_s, "updated_s": now_s}


def _update_own(connection: Connection, job: Job, values: Mapping[str, Any]) -> None:
    """Change a job that this execution owns."""
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.epoch == job.epoch, jobs.c.state == "running")
        .values({"updated_s": time.time(), **values})
    )
    if not changed.rowcount:
        raise Superseded(f"job {job.id}, epoch {job.epoch}")
