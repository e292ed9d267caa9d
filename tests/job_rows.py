"""Rows of jobs, made and moved on as requests and workers do it, without either."""

from __future__ import annotations

from amodal_service import job_history, job_transitions, jobs
from amodal_service.database import Database
from amodal_service.job_history import Chunk
from amodal_service.jobs import Job, NewJob


def new_job(database: Database, owner: str = "o", key: str | None = None) -> str:
    """Insert a queued job and return its id."""
    job_id = jobs.new_job_id()
    new = NewJob(job_id, owner, {"mode": "causal"}, "digest", 5, key)
    with database.write() as connection:
        job_transitions.insert_job(connection, new)
    return job_id


def claim_job(database: Database, job_id: str, worker: str = "w1", run: int = 1) -> Job:
    """Begin to work on a job."""
    with database.write() as connection:
        job = job_transitions.claim(connection, job_id, run, worker)
    assert job is not None
    return job


def add_chunk(database: Database, job: Job, number: int) -> None:
    """Add eight finished frames to a job."""
    with database.write() as connection:
        chunk = Chunk(number, f"records/{number}", 8, 100, 1, 7)
        job_transitions.add_chunk(connection, job, chunk, f"state/{number}", 25.0)


def find_job(database: Database, job_id: str) -> Job:
    """Return a job as it is now."""
    with database.read() as connection:
        return jobs.find_job(connection, job_id)


def event_kinds(database: Database, job_id: str, last_id: int = 0) -> list[str]:
    """Return what happened to a job after an event."""
    with database.read() as connection:
        return [event.kind for event in job_history.events_after(connection, job_id, last_id)]
