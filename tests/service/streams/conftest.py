"""What tests of live streams share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_streams import Clock, move_clock

from amodal_service.database import Database, open_database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/db.sqlite3")
    yield database
    database.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return move_clock(monkeypatch)
