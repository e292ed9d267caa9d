"""What a job leaves behind: its finished chunks, its result files, and what happened to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_service.job_tables import job_artifacts, job_chunks, job_events


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


def events_after(
    connection: Connection, job_id: str, last_id: int = 0, limit: int = 1000
) -> list[Event]:
    """Return the events of a job after the one with the given id."""
    columns = (job_events.c.id, job_events.c.kind, job_events.c.data, job_events.c.created_s)
    query = sa.select(*columns).where(job_events.c.job_id == job_id, job_events.c.id > last_id)
    return [Event(*row) for row in connection.execute(query.order_by(job_events.c.id).limit(limit))]


def add_event(connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Record that something happened to a job."""
    connection.execute(
        job_events.insert().values(job_id=job_id, kind=kind, data=dict(data), created_s=time.time())
    )
