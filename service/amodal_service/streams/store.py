"""Streams and replicas in the database: who owns which stream, its snapshot, who has room.

Every change of a stream that is connected is guarded by its epoch: a server that has lost a stream
to another can no longer write it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_hex, token_urlsafe
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import ExpiredError, MissingItemError
from amodal_service.database import Database
from amodal_service.streams.tables import StreamState, stream_replicas, streams

TICKET_S = 60.0


@dataclass(frozen=True)
class StreamRow:
    """One stream as it is stored; times in seconds since the epoch, without its snapshot."""

    id: str
    owner: str
    options: Mapping[str, Any]
    epoch: int
    replica: str | None
    state: StreamState
    last_result: int
    snapshot_seq: int | None
    snapshot_bytes: int
    created_s: float
    seen_s: float


class Snapshot(NamedTuple):
    """What is stored of a stream's memory, and the last seq in it."""

    seq: int
    content: bytes


class Replica(NamedTuple):
    """A server process that takes streams."""

    id: str
    url: str
    used_bytes: int
    room_bytes: int
    streams: int
    is_draining: bool


def digest(secret: str) -> str:
    """Return what is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


_COLUMNS = (
    streams.c.id,
    streams.c.owner,
    streams.c.options,
    streams.c.epoch,
    streams.c.replica,
    streams.c.state,
    streams.c.last_result,
    streams.c.snapshot_seq,
    sa.func.coalesce(sa.func.length(streams.c.snapshot), 0).label("snapshot_bytes"),
    streams.c.created_s,
    streams.c.seen_s,
)


def _row(found: Any) -> StreamRow:
    return StreamRow(**found._mapping)


def create_stream(
    database: Database, owner: str, options: Mapping[str, Any], replica: str | None
) -> tuple[StreamRow, str, str]:
    """Make a stream; return it, its resume token and a ticket for its first connection."""
    ticket = token_urlsafe(32)
    values = {
        "ticket_sha256": digest(ticket),
        "ticket_expires_s": database.now_s() + TICKET_S,
        "epoch": 0,
        "state": "placed",
    }
    new = _new_stream(owner, options, replica, values)
    insert_streams(database, [new])
    return new.row, new.token, ticket


class NewStream(NamedTuple):
    """A stream that is not in the database yet.

    Attributes:
        row: as it will be there.
        token: to resume it with.
        written: its columns, but for the times.
    """

    row: StreamRow
    token: str
    written: Mapping[str, Any]


def connected_stream(owner: str, options: Mapping[str, Any], replica: str) -> NewStream:
    """Return a stream that has its first connection; `insert_streams` makes it known."""
    return _new_stream(owner, options, replica, {"epoch": 1, "state": "connected"})


def insert_streams(database: Database, new: Sequence[NewStream]) -> None:
    """Write new streams together."""
    with database.write() as connection:
        for each in new:  # one by one: the time is the database's own
            now_s = database.now_s()
            times = {"created_s": now_s, "seen_s": now_s}
            connection.execute(streams.insert().values(**each.written, **times))


def _new_stream(
    owner: str,
    options: Mapping[str, Any],
    replica: str | None,
    values: Mapping[str, Any],
) -> NewStream:
    stream_id, secret, now_s = token_hex(16), token_urlsafe(32), time.time()
    known = {
        "id": stream_id,
        "owner": owner,
        "options": dict(options),
        "epoch": values["epoch"],
        "replica": replica,
        "state": values["state"],
        "last_result": -1,
    }
    row = StreamRow(**known, snapshot_seq=None, snapshot_bytes=0, created_s=now_s, seen_s=now_s)
    written = {**known, **values, "token_sha256": digest(secret)}
    return NewStream(row, f"{stream_id}.{secret}", written)


def find_stream(connection: Connection, stream_id: str) -> StreamRow:
    """Return a stream.

    Raises:
        MissingItemError: there is none.
    """
    found = connection.execute(sa.select(*_COLUMNS).where(streams.c.id == stream_id)).first()
    if found is None:
        raise MissingItemError(f"no stream {stream_id[:64]!r}")
    return _row(found)


def list_streams(connection: Connection, owner: str | None, limit: int) -> list[StreamRow]:
    """Return streams that have not ended, newest first; of all owners where none is named."""
    query = sa.select(*_COLUMNS).where(streams.c.state != "ended")
    query = query.order_by(streams.c.created_s.desc(), streams.c.id).limit(limit)
    if owner is not None:
        query = query.where(streams.c.owner == owner)
    return [_row(found) for found in connection.execute(query)]


def find_by_token(connection: Connection, token: str) -> StreamRow:
    """Return the stream of a resume token.

    Raises:
        MissingItemError: the token is of no stream.
        ExpiredError: the stream has ended.
    """
    stream_id, _, secret = token.partition(".")
    known = (streams.c.token_sha256, streams.c.old_token_sha256)
    is_known = sa.or_(*(column == digest(secret) for column in known))
    query = sa.select(*_COLUMNS).where(streams.c.id == stream_id, is_known)
    found = connection.execute(query).first()
    if found is None:
        raise MissingItemError("the resume token is of no stream")
    row = _row(found)
    if row.state == "ended":
        raise ExpiredError(f"stream {row.id} has ended")
    return row


def issue_ticket(
    database: Database, row: StreamRow, token: str, replica: str | None, last_result: int
) -> str:
    """Return a ticket for the next connection of a stream, and say where it is placed.

    Args:
        database: of the streams.
        row: the stream.
        token: the resume token that was presented; it stays valid beside the next.
        replica: where the stream goes if no replica holds it.
        last_result: highest seq whose result has arrived.
    """
    ticket = token_urlsafe(32)
    values: dict[str, Any] = {
        "old_token_sha256": digest(token.partition(".")[2]),
        "ticket_sha256": digest(ticket),
        "ticket_expires_s": database.now_s() + TICKET_S,
        "last_result": last_result,
    }
    if row.state not in ("connected", "hot"):
        values |= {"replica": replica, "state": "placed" if row.epoch == 0 else row.state}
    with database.write() as connection:
        connection.execute(streams.update().where(streams.c.id == row.id).values(**values))
    return ticket


def redeem_ticket(database: Database, ticket: str, replica: str) -> tuple[StreamRow, str]:
    """Use a ticket up: the stream is this replica's from now on, in a new epoch.

    Returns:
        The stream, and a new resume token.

    Raises:
        MissingItemError: no such ticket, used or expired.
    """
    with database.write() as connection:
        query = sa.select(streams.c.id).where(
            streams.c.ticket_sha256 == digest(ticket),
            streams.c.ticket_expires_s > database.now_s(),
            streams.c.state != "ended",
        )
        stream_id = connection.execute(query).scalar()
        if stream_id is None:
            raise MissingItemError("the ticket is not valid: unknown, used or expired")
        return _take_over(database, connection, stream_id, replica)


def _take_over(
    database: Database, connection: Connection, stream_id: str, replica: str
) -> tuple[StreamRow, str]:
    secret = token_urlsafe(32)
    connection.execute(
        streams.update()
        .where(streams.c.id == stream_id)
        .values(
            epoch=streams.c.epoch + 1,
            replica=replica,
            state="connected",
            token_sha256=digest(secret),
            ticket_sha256=None,
            ticket_expires_s=None,
            seen_s=database.now_s(),
        )
    )
    return find_stream(connection, stream_id), f"{stream_id}.{secret}"


def load_snapshot(database: Database, stream_id: str) -> Snapshot | None:
    """Return what is stored of a stream's memory."""
    query = sa.select(streams.c.snapshot_seq, streams.c.snapshot).where(streams.c.id == stream_id)
    with database.read() as connection:
        found = connection.execute(query).first()
    if found is None or found.snapshot is None:
        return None
    return Snapshot(int(found.snapshot_seq), bytes(found.snapshot))


class Change(NamedTuple):
    """What a replica writes of one of its streams.

    Attributes:
        stream_id: of the stream.
        epoch: in which it is this replica's.
        state: that it is in now.
        snapshot: of its memory; ``None`` leaves the stored one.
    """

    stream_id: str
    epoch: int
    state: StreamState
    snapshot: Snapshot | None = None


def write_changes(database: Database, changes: Sequence[Change]) -> list[str]:
    """Write changes of this replica's streams together; return the ids of those it has lost."""
    lost = []
    with database.write() as connection:
        for change in changes:
            values: dict[str, Any] = {"state": change.state, "seen_s": database.now_s()}
            if change.snapshot is not None:
                values |= {
                    "snapshot": change.snapshot.content,
                    "snapshot_seq": change.snapshot.seq,
                }
            if change.state == "ended":
                values |= {"snapshot": None, "snapshot_seq": None, "ticket_sha256": None}
            is_own = (
                (streams.c.id == change.stream_id)
                & (streams.c.epoch == change.epoch)
                & (streams.c.state != "ended")
            )
            if not connection.execute(streams.update().where(is_own).values(**values)).rowcount:
                lost.append(change.stream_id)
    return lost


def end_stream(database: Database, stream_id: str) -> None:
    """End a stream, wherever it is; its replica finds out within a heartbeat."""
    with database.write() as connection:
        connection.execute(
            streams.update()
            .where(streams.c.id == stream_id)
            .values(
                state="ended",
                snapshot=None,
                snapshot_seq=None,
                ticket_sha256=None,
                seen_s=database.now_s(),
            )
        )


def lost_streams(database: Database, held: Mapping[str, int]) -> dict[str, bool]:
    """Return which of the streams held here (id to epoch) are no longer; whether they have ended.

    The others are in a later epoch: another replica's, or connected to once more.
    """
    if not held:
        return {}
    ids = list(held)
    found: dict[str, tuple[int, str]] = {}
    with database.read() as connection:
        for first in range(0, len(ids), 500):
            query = sa.select(streams.c.id, streams.c.epoch, streams.c.state).where(
                streams.c.id.in_(ids[first : first + 500])
            )
            found |= {row.id: (row.epoch, row.state) for row in connection.execute(query)}
    gone = (0, "ended")
    now = {key: found.get(key, gone) for key in held}
    return {
        key: now[key][1] == "ended"
        for key, epoch in held.items()
        if now[key][0] != epoch or now[key][1] == "ended"
    }


def sweep_streams(database: Database, resume_s: float, live: Sequence[str]) -> int:
    """Remove streams that can no longer be resumed; return how many.

    Those whose replica has died count from their last sign of life.
    """
    is_old = streams.c.seen_s < database.now_s() - resume_s
    is_held = streams.c.replica.in_(live) & streams.c.state.in_(("connected", "hot"))
    with database.write() as connection:
        return connection.execute(streams.delete().where(is_old & ~is_held)).rowcount


def show_replica(database: Database, replica: Replica) -> None:
    """Write a replica's sign of life, and what room it has."""
    values = replica._asdict() | {"heartbeat_s": database.now_s()}
    with database.write() as connection:
        update = stream_replicas.update().where(stream_replicas.c.id == replica.id)
        if not connection.execute(update.values(**values)).rowcount:
            connection.execute(stream_replicas.insert().values(**values))


def forget_replica(database: Database, replica_id: str) -> None:
    """Remove a replica: it takes no more streams."""
    with database.write() as connection:
        connection.execute(stream_replicas.delete().where(stream_replicas.c.id == replica_id))


def live_replicas(database: Database, dead_after_s: float) -> list[Replica]:
    """Return the replicas that live, those with the most room for their size first."""
    columns = [stream_replicas.c[name] for name in Replica._fields]
    is_live = stream_replicas.c.heartbeat_s >= database.now_s() - dead_after_s
    with database.read() as connection:
        found = [Replica(*row) for row in connection.execute(sa.select(*columns).where(is_live))]
    return sorted(
        found, key=lambda each: (each.used_bytes / each.room_bytes, each.streams, each.id)
    )
