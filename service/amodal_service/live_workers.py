"""Which workers live: each writes the time into its row every few seconds."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from secrets import token_hex

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_service.database import Database
from amodal_service.job_tables import workers


@dataclass(frozen=True)
class WorkerName:
    """A worker process: an id that is never used again, its machine and its process number."""

    id: str
    host: str
    pid: int


def new_worker_name() -> WorkerName:
    """Return a name for this process."""
    host, pid = socket.gethostname()[:200], os.getpid()
    return WorkerName(f"{host[:32]}-{pid}-{token_hex(4)}", host, pid)


def show_life(database: Database, name: WorkerName) -> None:
    """Write the time into a worker's row; made anew where others took the worker for dead."""
    with database.write() as connection:
        now_s = database.now_s()
        update = workers.update().where(workers.c.id == name.id).values(heartbeat_s=now_s)
        if not connection.execute(update).rowcount:
            row = {"id": name.id, "host": name.host, "pid": name.pid}
            row |= {"started_s": now_s, "heartbeat_s": now_s}
            connection.execute(workers.insert().values(**row))


def sign_off(database: Database, name: WorkerName) -> None:
    """Remove a worker's row: from now on others take its jobs over."""
    with database.write() as connection:
        connection.execute(workers.delete().where(workers.c.id == name.id))


def bury_dead(database: Database, dead_after_s: float) -> list[str]:
    """Remove the rows of workers that have been silent for too long; return the ids that live."""
    with database.write() as connection:
        is_dead = workers.c.heartbeat_s < database.now_s() - dead_after_s
        connection.execute(workers.delete().where(is_dead))
        return live_ids(connection)


def live_ids(connection: Connection) -> list[str]:
    """Return the ids of the workers that are not known to be dead, in ascending order."""
    return list(connection.execute(sa.select(workers.c.id).order_by(workers.c.id)).scalars())


def count_live(database: Database, dead_after_s: float) -> int:
    """Return the number of workers that showed life within a time."""
    with database.read() as connection:
        is_live = workers.c.heartbeat_s >= database.now_s() - dead_after_s
        query = sa.select(sa.func.count()).select_from(workers).where(is_live)
        return int(connection.execute(query).scalar_one())
