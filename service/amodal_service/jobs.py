"""Jobs in the database: every change of one is a single guarded statement.

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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import ConflictError, MissingItemError
from amodal_service.job_tables import job_artifacts, job_chunks, job_events, jobs
from amodal_service.webhook_outbox import add_message

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ACTIVE: frozenset[str] = frozenset(("queued", "running"))


class Superseded(BaseException):
    """This execution of a job no longer owns it; not an error, and nothing may swallow it."""


@dataclass(frozen=True)
class Job:
    """One row of the table of jobs; its docstring there says what is counted."""

    id: str
    owner: str
    state: JobState
    request: Mapping[str, Any]
    priority: int
    idempotency_key: str | None
    request_sha256: str
    frames_done: int
    frames_total: int | None
    runs: int
    attempts: int
    epoch: int
    worker: str | None
    fps: float | None
    checkpoint_key: str | None
    error: Mapping[str, Any] | None
    created_s: float
    started_s: float | None
    finished_s: float | None
    updated_s: float

    @property
    def prefix(self) -> str:
        """Where its files are stored."""
        return f"jobs/{self.id}"

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE


class Chunk(NamedTuple):
    """Finished frames of a job: where their records are stored, and how many they are."""

    number: int
    key: str
    frames: int
    size_bytes: int
    overlap_frames: int
    overlap_pixels: int


class Artifact(NamedTuple):
    """A result file of a job."""

    name: str
    key: str
    size_bytes: int
    sha256: str
    media_type: str


class Event(NamedTuple):
    """Something that happened to a job."""

    id: int
    kind: str
    data: Mapping[str, Any]
    created_s: float


class NewJob(NamedTuple):
    """What a job is made from; the id is chosen before its files are stored."""

    id: str
    owner: str
    request: Mapping[str, Any]
    request_sha256: str
    priority: int
    idempotency_key: str | None = None


def new_job_id() -> str:
    """Return a fresh id; ids sort by the time they were made."""
    return f"{time.time_ns() // 1_000_000:012x}{token_hex(10)}"


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


def find_job(connection: Connection, job_id: str, owner: str | None = None) -> Job:
    """Return a job; with an owner, only where it is the owner's.

    Raises:
        MissingItemError: no such job, or another's: the answer does not tell which.
    """
    query = sa.select(jobs).where(jobs.c.id == job_id)
    if owner is not None:
        query = query.where(jobs.c.owner == owner)
    row = connection.execute(query).mappings().first()
    if row is None:
        raise MissingItemError(f"no job {job_id!r}")
    return Job(**row)


def find_by_idempotency_key(connection: Connection, owner: str, key: str) -> Job | None:
    """Return the job that an owner made with an idempotency key."""
    query = sa.select(jobs).where(jobs.c.owner == owner, jobs.c.idempotency_key == key)
    row = connection.execute(query).mappings().first()
    return Job(**row) if row else None


def list_jobs(
    connection: Connection,
    owner: str,
    *,
    state: str | None = None,
    before: str | None = None,
    limit: int = 50,
) -> list[Job]:
    """Return an owner's jobs, newest first.

    Args:
        connection: to read with.
        owner: whose jobs.
        state: only jobs in this state.
        before: id of a job; only older ones.
        limit: how many at most.
    """
    query = sa.select(jobs).where(jobs.c.owner == owner)
    if state is not None:
        query = query.where(jobs.c.state == state)
    if before is not None:
        query = query.where(jobs.c.id < before)
    rows = connection.execute(query.order_by(jobs.c.id.desc()).limit(limit)).mappings()
    return [Job(**row) for row in rows]


def count_by_state(connection: Connection) -> dict[str, int]:
    """Return the number of jobs in each state that has any."""
    query = sa.select(jobs.c.state, sa.func.count().label("number")).group_by(jobs.c.state)
    return {row.state: row.number for row in connection.execute(query)}


def add_event(connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Record that something happened to a job."""
    connection.execute(
        job_events.insert().values(job_id=job_id, kind=kind, data=dict(data), created_s=time.time())
    )


def events_after(
    connection: Connection, job_id: str, last_id: int = 0, limit: int = 1000
) -> list[Event]:
    """Return the events of a job after the one with the given id."""
    columns = (job_events.c.id, job_events.c.kind, job_events.c.data, job_events.c.created_s)
    query = sa.select(*columns).where(job_events.c.job_id == job_id, job_events.c.id > last_id)
    return [Event(*row) for row in connection.execute(query.order_by(job_events.c.id).limit(limit))]


def chunks_of(connection: Connection, job_id: str) -> list[Chunk]:
    """Return the finished chunks of a job, in order."""
    columns = [job_chunks.c[name] for name in Chunk._fields]
    query = sa.select(*columns).where(job_chunks.c.job_id == job_id)
    return [Chunk(*row) for row in connection.execute(query.order_by(job_chunks.c.number))]


def artifacts_of(connection: Connection, job_id: str) -> list[Artifact]:
    """Return the result files of a job, by name."""
    columns = [job_artifacts.c[name] for name in Artifact._fields]
    query = sa.select(*columns).where(job_artifacts.c.job_id == job_id)
    return [Artifact(*row) for row in connection.execute(query.order_by(job_artifacts.c.name))]


def epochs_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """Return the present epochs of jobs; one that was deleted is left out."""
    query = sa.select(jobs.c.id, jobs.c.epoch).where(jobs.c.id.in_(list(job_ids)))
    return {row.id: row.epoch for row in connection.execute(query)}


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


def silent_jobs(connection: Connection, before_s: float, limit: int = 500) -> list[Job]:
    """Return waiting and running jobs that nothing has happened to since a time, oldest first."""
    query = sa.select(jobs).where(jobs.c.state.in_(ACTIVE), jobs.c.updated_s < before_s)
    rows = connection.execute(query.order_by(jobs.c.updated_s).limit(limit)).mappings()
    return [Job(**row) for row in rows]


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
