"""The database: migrations make what the tables say, transactions are whole."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from amodal_model.errors import InputError
from amodal_service.database import METADATA, Database, migrate, open_database
from amodal_service.ingest_tables import usage
from amodal_service.job_tables import workers


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/folder/db.sqlite3")


def _insert(connection: sa.Connection, worker: str) -> None:
    row = {"id": worker, "host": "h", "pid": 1, "started_s": 0.0, "heartbeat_s": 0.0}
    connection.execute(workers.insert().values(row))


def _count(database: Database) -> int:
    with database.read() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(workers)) or 0)


def test_migrations_make_the_tables_of_the_code(database: Database) -> None:
    assert {usage.name, workers.name} <= set(METADATA.tables)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.write() as connection:
        _insert(connection, "w1")
    migrate(database)
    assert _count(database) == 1


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.write() as connection:
            _insert(connection, "w1")
            raise KeyError("stop")

    with pytest.raises(KeyError):
        fail()
    assert _count(database) == 0


def test_a_reader_does_not_wait_for_a_writer(database: Database) -> None:
    with database.write() as connection:
        _insert(connection, "w1")
        assert _count(database) == 0
    assert _count(database) == 1


def test_sqlite_writes_ahead(database: Database) -> None:
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(InputError, match="must be sqlite:///FILE or postgresql"):
        open_database("mysql://user:secret@host/db")
