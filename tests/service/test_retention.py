"""What expires, what is full, and that nothing half-written is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from amodal_model.errors import StorageError
from amodal_service import job_history
from amodal_service.job_queue import JobQueue, open_job_queue
from amodal_service.job_tables import jobs as jobs_table
from amodal_service.job_transitions import insert_job
from amodal_service.jobs import NewJob
from amodal_service.policies import Policies
from amodal_service.retention import ORPHAN_AGE_S, Swept, sweep
from amodal_service.room import Room
from amodal_service.settings import Settings
from amodal_service.storage import open_storage
from amodal_service.workplace import Workplace, open_workplace


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    with open_workplace(Settings(data=tmp_path_factory.mktemp("data"))) as place:
        yield place


@pytest.fixture(scope="module")
def queue(place: Workplace) -> Iterator[JobQueue]:
    with open_job_queue(place.database) as queue:
        yield queue


def make_job(place: Workplace, job_id: str, *, state: str, finished_s: float | None) -> None:
    with place.database.write() as connection:
        insert_job(connection, NewJob(job_id, "a", {}, "", 5))
        connection.execute(
            jobs_table.update()
            .where(jobs_table.c.id == job_id)
            .values(state=state, finished_s=finished_s)
        )
    place.storage.put(f"jobs/{job_id}/artifacts/amodal.json", b"{}")


def job_ids(place: Workplace) -> set[str]:
    with place.database.read() as connection:
        return set(connection.scalars(sa.select(jobs_table.c.id)))


def test_ended_jobs_go_after_their_time_with_their_files(place: Workplace, queue: JobQueue) -> None:
    long_ago_s = time.time() - place.policies.keep_seconds - 1
    make_job(place, "old", state="succeeded", finished_s=long_ago_s)
    make_job(place, "fresh", state="succeeded", finished_s=time.time())
    make_job(place, "waits", state="queued", finished_s=None)
    assert sweep(place, queue) == Swept(jobs=1)
    assert job_ids(place) == {"fresh", "waits"}
    assert list(place.storage.list("jobs/old")) == []
    assert place.storage.exists("jobs/fresh/artifacts/amodal.json")
    with place.database.read() as connection:
        assert job_history.events_after(connection, "old") == []


def test_files_that_nothing_refers_to_go_when_they_are_old(
    place: Workplace, queue: JobQueue
) -> None:
    make_job(place, "known", state="queued", finished_s=None)
    for key in ("jobs/lost/input/video", "jobs/arriving/input/video", "uploads/lost/0"):
        place.storage.put(key, b"x")
    old_s = time.time() - ORPHAN_AGE_S - 60
    folder = place.storage.folder
    assert folder is not None
    for key in ("jobs/lost/input/video", "uploads/lost/0", "jobs/known/artifacts/amodal.json"):
        os.utime(folder / key, (old_s, old_s))
    assert sweep(place, queue, with_orphans=True).orphans == 2
    assert place.storage.exists("jobs/arriving/input/video")
    assert place.storage.exists("jobs/known/artifacts/amodal.json")
    assert not place.storage.exists("jobs/lost/input/video")
    assert sweep(place, queue, with_orphans=True).orphans == 0


def test_a_quota_is_kept_and_what_was_granted_counts(tmp_path: Path) -> None:
    storage = open_storage((tmp_path / "files").as_uri())
    storage.put("a", b"x" * 600)
    room = Room(storage, tmp_path, Policies(quota_bytes=1000))
    room.check(300)
    with pytest.raises(StorageError, match=r"200 bytes wanted, 900 are stored, quota 1000"):
        room.check(200)
    room.check(100)


def test_a_disk_keeps_some_bytes_free(tmp_path: Path) -> None:
    storage = open_storage((tmp_path / "files").as_uri())
    room = Room(storage, tmp_path, Policies(free_bytes=1 << 20))
    room.check(1)
    with pytest.raises(StorageError, match=r"the disk has \d+ of which 1048576 stay free"):
        room.check(1 << 60)
