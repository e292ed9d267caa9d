"""The database: SQLite in one file by default, Postgres by URL; the same statements for both.

Times are seconds since the epoch, states and kinds are short texts, structured values are JSON.
SQLite runs in write-ahead mode, and a transaction that writes says so when it begins: readers
never wait, and two writers queue up where they would otherwise fail each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import OperationalError

from amodal_model.errors import InputError, UnavailableError

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Every table of the service; the modules that own them add to it."""

BUSY_TIMEOUT_S = 30
IDLE_TIMEOUT_S = 30
"""A process that freezes in the middle of a transaction loses it, and its locks, on Postgres. On
SQLite it keeps the others waiting until it goes on or is killed."""
_MIGRATION_LOCK = 0x616D6F64  # "amod": the advisory lock under which Postgres is migrated


class Database:
    """Transactions on the database; `open_database` makes it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def is_sqlite(self) -> bool:
        """Whether it is one file."""
        return self.engine.dialect.name == "sqlite"

    def now_s(self) -> sa.ColumnElement[float]:
        """Return the time by one clock for all machines: the database server's, if there is one."""
        if self.is_sqlite:
            return sa.literal(time.time())
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection to read with; what it reads is of one moment on SQLite."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection whose changes are committed together, or not at all."""
        with self.engine.connect() as plain:
            connection = plain.execution_options(amodal_write=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Return the database of a URL, made and migrated where that is needed.

    Raises:
        InputError: a URL of another kind of database.
        UnavailableError: it cannot be reached, or another process keeps it locked.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        options = {"options": f"-c idle_in_transaction_session_timeout={IDLE_TIMEOUT_S}s"}
        engine = sa.create_engine(parsed, pool_pre_ping=True, pool_size=8, connect_args=options)
    elif parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    else:
        raise InputError(
            f"database {parsed.render_as_string()}: must be sqlite:///FILE or "
            "postgresql+psycopg://... (AMODAL_DATABASE_URL)"
        )
    database = Database(engine)
    try:
        migrate(database)
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        raise UnavailableError(f"database {parsed.render_as_string()}: {reason}") from error
    return database


def migrate(database: Database, revision: str = "head") -> None:
    """Bring the tables to a revision; processes that start together take turns."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, DDL included
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_write = connection.get_execution_options().get("amodal_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")
