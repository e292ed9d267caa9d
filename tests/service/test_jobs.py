"""Jobs as they are read, on SQLite and on a real Postgres."""

import pytest
import sqlalchemy as sa
from job_rows import new_job

from amodal_model.errors import MissingItemError
from amodal_service import jobs
from amodal_service.database import Database


def test_another_owners_job_is_not_there(job_database: Database) -> None:
    job_id = new_job(job_database, "alpha")
    with job_database.read() as connection:
        assert jobs.find_job(connection, job_id, "alpha").id == job_id
        with pytest.raises(MissingItemError, match="no job"):
            jobs.find_job(connection, job_id, "beta")
        assert job_id not in [job.id for job in jobs.list_jobs(connection, "beta")]


def test_an_owner_uses_an_idempotency_key_once(job_database: Database) -> None:
    job_id = new_job(job_database, "keys", "k1")
    new_job(job_database, "other", "k1")
    with pytest.raises(sa.exc.IntegrityError):
        new_job(job_database, "keys", "k1")
    with job_database.read() as connection:
        found = jobs.find_by_idempotency_key(connection, "keys", "k1")
    assert found is not None
    assert found.id == job_id


def test_pages_of_jobs_are_newest_first_and_do_not_overlap(job_database: Database) -> None:
    made = [new_job(job_database, "pages") for _ in range(5)]
    with job_database.read() as connection:
        first = jobs.list_jobs(connection, "pages", limit=3)
        second = jobs.list_jobs(connection, "pages", before=first[-1].id, limit=3)
    assert [job.id for job in first + second] == sorted(made, reverse=True)
