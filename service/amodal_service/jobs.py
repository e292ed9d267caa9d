"""Jobs as values, and how they are read; what changes them is in `job_transitions`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import MissingItemError
from amodal_service.job_tables import jobs

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
ACTIVE: frozenset[str] = frozenset(("queued", "running"))


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


def silent_jobs(connection: Connection, before_s: float, limit: int = 500) -> list[Job]:
    """Return waiting and running jobs that nothing has happened to since a time, oldest first."""
    query = sa.select(jobs).where(jobs.c.state.in_(ACTIVE), jobs.c.updated_s < before_s)
    rows = connection.execute(query.order_by(jobs.c.updated_s).limit(limit)).mappings()
    return [Job(**row) for row in rows]


def count_by_state(connection: Connection) -> dict[str, int]:
    """Return the number of jobs in each state that has any."""
    query = sa.select(jobs.c.state, sa.func.count().label("number")).group_by(jobs.c.state)
    return {row.state: row.number for row in connection.execute(query)}


def epochs_of(connection: Connection, job_ids: Iterable[str]) -> dict[str, int]:
    """Return the present epochs of jobs; one that was deleted is left out."""
    query = sa.select(jobs.c.id, jobs.c.epoch).where(jobs.c.id.in_(list(job_ids)))
    return {row.id: row.epoch for row in connection.execute(query)}
