"""Jobs in the database: guarded changes, on SQLite and on a real Postgres."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_server import MISSING, postgres_folder, running_postgres

from amodal_model.errors import ConflictError, MissingItemError
from amodal_service import jobs
from amodal_service.database import Database, open_database
from amodal_service.jobs import Artifact, Chunk, Job, NewJob, Superseded


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if postgres_folder() is None:
        pytest.skip(MISSING)
    with running_postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/db.sqlite3"
    else:
        url = request.getfixturevalue("postgres_url")
    database = open_database(url)
    yield database
    database.close()


def _new(database: Database, owner: str = "o", key: str | None = None) -> str:
    job_id = jobs.new_job_id()
    with database.write() as connection:
        jobs.insert_job(connection, NewJob(job_id, owner, {"mode": "causal"}, "digest", 5, key))
    return job_id


def _claim(database: Database, job_id: str, worker: str = "w1", run: int = 1) -> Job:
    with database.write() as connection:
        job = jobs.claim(connection, job_id, run, worker)
    assert job is not None
    return job


def _add_chunk(database: Database, job: Job, number: int) -> None:
    with database.write() as connection:
        chunk = Chunk(number, f"records/{number}", 8, 100, 1, 7)
        jobs.add_chunk(connection, job, chunk, f"state/{number}", 25.0)


def _find(database: Database, job_id: str) -> Job:
    with database.read() as connection:
        return jobs.find_job(connection, job_id)


def _kinds(database: Database, job_id: str, last_id: int = 0) -> list[str]:
    with database.read() as connection:
        return [event.kind for event in jobs.events_after(connection, job_id, last_id)]


def test_a_job_goes_from_queued_to_succeeded(database: Database) -> None:
    job_id = _new(database)
    job = _claim(database, job_id)
    _add_chunk(database, job, 0)
    with database.write() as connection:
        jobs.set_total(connection, job, 8)
        jobs.succeed(connection, job, [Artifact("amodal.json", "k", 5, "sha", "application/json")])
    ended = _find(database, job_id)
    assert (ended.state, ended.frames_done, ended.frames_total) == ("succeeded", 8, 8)
    assert ended.finished_s is not None
    assert _kinds(database, job_id) == ["queued", "started", "progress", "succeeded"]
    with database.read() as connection:
        assert [each.name for each in jobs.artifacts_of(connection, job_id)] == ["amodal.json"]


def test_a_superseded_execution_cannot_write(database: Database) -> None:
    job_id = _new(database)
    old = _claim(database, job_id, "w1")
    new = _claim(database, job_id, "w2")
    assert (old.epoch, new.epoch, new.attempts) == (1, 2, 2)
    with pytest.raises(Superseded):
        _add_chunk(database, old, 0)
    with pytest.raises(Superseded), database.write() as connection:
        jobs.succeed(connection, old, [])
    with pytest.raises(Superseded), database.write() as connection:
        jobs.fail(connection, old, {})
    _add_chunk(database, new, 0)
    assert (_find(database, job_id).state, _find(database, job_id).frames_done) == ("running", 8)


def test_a_failed_write_leaves_no_chunk_behind(database: Database) -> None:
    job_id = _new(database)
    old = _claim(database, job_id)
    _claim(database, job_id)
    with pytest.raises(Superseded):
        _add_chunk(database, old, 0)
    with database.read() as connection:
        assert jobs.chunks_of(connection, job_id) == []


def test_a_cancelled_job_is_nobodys(database: Database) -> None:
    job_id = _new(database)
    job = _claim(database, job_id)
    with database.write() as connection:
        jobs.cancel(connection, job)
    with pytest.raises(Superseded):
        _add_chunk(database, job, 0)
    with database.write() as connection:
        assert jobs.claim(connection, job_id, 1, "w2") is None
        jobs.cancel(connection, job)
    assert _kinds(database, job_id) == ["queued", "started", "cancelled"]


def test_a_retry_keeps_the_finished_frames_and_ends_the_earlier_run(database: Database) -> None:
    job_id = _new(database)
    job = _claim(database, job_id)
    _add_chunk(database, job, 0)
    with database.write() as connection:
        jobs.fail(connection, job, {"title": "no"})
        run = jobs.retry(connection, job)
        assert jobs.claim(connection, job_id, 1, "w1") is None
    again = _find(database, job_id)
    assert (run, again.state, again.frames_done, again.error) == (2, "queued", 8, None)
    assert _claim(database, job_id, run=2).attempts == 1


def test_only_a_failed_or_cancelled_job_is_retried(database: Database) -> None:
    job_id = _new(database)
    with pytest.raises(ConflictError, match="is queued"), database.write() as connection:
        jobs.retry(connection, _find(database, job_id))


def test_a_released_job_waits_again_and_has_not_used_up_an_attempt(database: Database) -> None:
    job_id = _new(database)
    job = _claim(database, job_id)
    with database.write() as connection:
        jobs.release(connection, job)
    assert (_find(database, job_id).state, _find(database, job_id).attempts) == ("queued", 0)


def test_another_owners_job_is_not_there(database: Database) -> None:
    job_id = _new(database, "alpha")
    with database.read() as connection:
        assert jobs.find_job(connection, job_id, "alpha").id == job_id
        with pytest.raises(MissingItemError, match="no job"):
            jobs.find_job(connection, job_id, "beta")
        assert job_id not in [job.id for job in jobs.list_jobs(connection, "beta")]


def test_an_owner_uses_an_idempotency_key_once(database: Database) -> None:
    job_id = _new(database, "keys", "k1")
    _new(database, "other", "k1")
    with pytest.raises(sa.exc.IntegrityError):
        _new(database, "keys", "k1")
    with database.read() as connection:
        found = jobs.find_by_idempotency_key(connection, "keys", "k1")
    assert found is not None
    assert found.id == job_id


def test_pages_of_jobs_are_newest_first_and_do_not_overlap(database: Database) -> None:
    made = [_new(database, "pages") for _ in range(5)]
    with database.read() as connection:
        first = jobs.list_jobs(connection, "pages", limit=3)
        second = jobs.list_jobs(connection, "pages", before=first[-1].id, limit=3)
    assert [job.id for job in first + second] == sorted(made, reverse=True)


def test_events_go_on_after_the_last_one_seen(database: Database) -> None:
    job_id = _new(database)
    with database.read() as connection:
        seen = jobs.events_after(connection, job_id)[-1].id
    _claim(database, job_id)
    assert _kinds(database, job_id, seen) == ["started"]


def test_a_deleted_job_leaves_nothing(database: Database) -> None:
    job_id = _new(database)
    job = _claim(database, job_id)
    _add_chunk(database, job, 0)
    with database.write() as connection:
        jobs.delete(connection, job)
    with pytest.raises(Superseded):
        _add_chunk(database, job, 1)
    with database.read() as connection:
        assert jobs.chunks_of(connection, job_id) == []
    assert _kinds(database, job_id) == []
