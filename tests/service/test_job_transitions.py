"""Guarded changes of jobs, on SQLite and on a real Postgres."""

import pytest
from job_rows import add_chunk, claim_job, event_kinds, find_job, new_job

from amodal_model.errors import ConflictError
from amodal_service import job_history, job_transitions
from amodal_service.database import Database
from amodal_service.job_history import Artifact
from amodal_service.job_transitions import Superseded


def test_a_job_goes_from_queued_to_succeeded(job_database: Database) -> None:
    job_id = new_job(job_database)
    job = claim_job(job_database, job_id)
    add_chunk(job_database, job, 0)
    with job_database.write() as connection:
        job_transitions.set_total(connection, job, 8)
        job_transitions.succeed(
            connection, job, [Artifact("amodal.json", "k", 5, "sha", "application/json")]
        )
    ended = find_job(job_database, job_id)
    assert (ended.state, ended.frames_done, ended.frames_total) == ("succeeded", 8, 8)
    assert ended.finished_s is not None
    assert event_kinds(job_database, job_id) == ["queued", "started", "progress", "succeeded"]
    with job_database.read() as connection:
        assert [each.name for each in job_history.artifacts_of(connection, job_id)] == [
            "amodal.json"
        ]


def test_a_superseded_execution_cannot_write(job_database: Database) -> None:
    job_id = new_job(job_database)
    old = claim_job(job_database, job_id, "w1")
    new = claim_job(job_database, job_id, "w2")
    assert (old.epoch, new.epoch, new.attempts) == (1, 2, 2)
    with pytest.raises(Superseded):
        add_chunk(job_database, old, 0)
    with pytest.raises(Superseded), job_database.write() as connection:
        job_transitions.succeed(connection, old, [])
    with pytest.raises(Superseded), job_database.write() as connection:
        job_transitions.fail(connection, old, {})
    add_chunk(job_database, new, 0)
    found = find_job(job_database, job_id)
    assert (found.state, found.frames_done) == ("running", 8)


def test_a_failed_write_leaves_no_chunk_behind(job_database: Database) -> None:
    job_id = new_job(job_database)
    old = claim_job(job_database, job_id)
    claim_job(job_database, job_id)
    with pytest.raises(Superseded):
        add_chunk(job_database, old, 0)
    with job_database.read() as connection:
        assert job_history.chunks_of(connection, job_id) == []


def test_a_cancelled_job_is_nobodys(job_database: Database) -> None:
    job_id = new_job(job_database)
    job = claim_job(job_database, job_id)
    with job_database.write() as connection:
        job_transitions.cancel(connection, job)
    with pytest.raises(Superseded):
        add_chunk(job_database, job, 0)
    with job_database.write() as connection:
        assert job_transitions.claim(connection, job_id, 1, "w2") is None
        job_transitions.cancel(connection, job)
    assert event_kinds(job_database, job_id) == ["queued", "started", "cancelled"]


def test_a_retry_keeps_the_finished_frames_and_ends_the_earlier_run(job_database: Database) -> None:
    job_id = new_job(job_database)
    job = claim_job(job_database, job_id)
    add_chunk(job_database, job, 0)
    with job_database.write() as connection:
        job_transitions.fail(connection, job, {"title": "no"})
        run = job_transitions.retry(connection, job)
        assert job_transitions.claim(connection, job_id, 1, "w1") is None
    again = find_job(job_database, job_id)
    assert (run, again.state, again.frames_done, again.error) == (2, "queued", 8, None)
    assert claim_job(job_database, job_id, run=2).attempts == 1


def test_only_a_failed_or_cancelled_job_is_retried(job_database: Database) -> None:
    job_id = new_job(job_database)
    with pytest.raises(ConflictError, match="is queued"), job_database.write() as connection:
        job_transitions.retry(connection, find_job(job_database, job_id))


def test_a_released_job_waits_again_and_has_not_used_up_an_attempt(job_database: Database) -> None:
    job_id = new_job(job_database)
    job = claim_job(job_database, job_id)
    with job_database.write() as connection:
        job_transitions.release(connection, job)
    found = find_job(job_database, job_id)
    assert (found.state, found.attempts) == ("queued", 0)


def test_a_deleted_job_leaves_nothing(job_database: Database) -> None:
    job_id = new_job(job_database)
    job = claim_job(job_database, job_id)
    add_chunk(job_database, job, 0)
    with job_database.write() as connection:
        job_transitions.delete(connection, job)
    with pytest.raises(Superseded):
        add_chunk(job_database, job, 1)
    with job_database.read() as connection:
        assert job_history.chunks_of(connection, job_id) == []
    assert event_kinds(job_database, job_id) == []
