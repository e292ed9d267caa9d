"""Live workers: who shows life, and who is taken for dead."""

import time
from pathlib import Path

import pytest

from amodal_service.database import Database, open_database
from amodal_service.live_workers import (
    WorkerName,
    bury_dead,
    count_live,
    new_worker_name,
    show_life,
    sign_off,
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/db.sqlite3")


def test_names_are_never_used_again() -> None:
    assert len({new_worker_name().id for _ in range(100)}) == 100


def test_a_silent_worker_is_buried_and_a_live_one_is_not(database: Database) -> None:
    show_life(database, WorkerName("old", "h", 1))
    time.sleep(0.2)
    show_life(database, WorkerName("new", "h", 2))
    assert count_live(database, dead_after_s=0.1) == 1
    assert bury_dead(database, dead_after_s=0.1) == ["new"]
    assert bury_dead(database, dead_after_s=60) == ["new"]


def test_a_worker_that_was_taken_for_dead_comes_back(database: Database) -> None:
    name = WorkerName("w", "h", 1)
    show_life(database, name)
    assert bury_dead(database, dead_after_s=-1) == []
    show_life(database, name)
    assert bury_dead(database, dead_after_s=60) == ["w"]


def test_a_worker_that_signs_off_is_gone(database: Database) -> None:
    name = WorkerName("w", "h", 1)
    show_life(database, name)
    sign_off(database, name)
    assert count_live(database, dead_after_s=60) == 0
