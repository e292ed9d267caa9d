"""What a job leaves behind, on SQLite and on a real Postgres."""

from job_rows import claim_job, event_kinds, new_job

from amodal_service import job_history
from amodal_service.database import Database


def test_events_go_on_after_the_last_one_seen(job_database: Database) -> None:
    job_id = new_job(job_database)
    with job_database.read() as connection:
        seen = job_history.events_after(connection, job_id)[-1].id
    claim_job(job_database, job_id)
    assert event_kinds(job_database, job_id, seen) == ["started"]
