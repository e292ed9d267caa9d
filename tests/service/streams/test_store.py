"""Streams and replicas in the database: on SQLite and on Postgres the same."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from live_streams import Clock

from amodal_model.errors import ExpiredError, MissingItemError
from amodal_service.database import Database
from amodal_service.streams import store
from amodal_service.streams.store import Change, Replica, Snapshot
from amodal_service.streams.tables import stream_replicas, streams

OPTIONS = {"mode": "realtime"}


@pytest.fixture
def database(job_database: Database) -> Database:
    with job_database.write() as connection:
        connection.execute(sa.delete(streams))
        connection.execute(sa.delete(stream_replicas))
    return job_database


@pytest.fixture
def clock(database: Database, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The database's time, that tests move."""
    clock = Clock()
    monkeypatch.setattr(Database, "now_s", lambda _: sa.literal(clock.time()))
    return clock


def find(database: Database, stream_id: str) -> store.StreamRow:
    with database.read() as connection:
        return store.find_stream(connection, stream_id)


def find_by_token(database: Database, token: str) -> store.StreamRow:
    with database.read() as connection:
        return store.find_by_token(connection, token)


def opened(database: Database, replica: str = "a") -> tuple[store.StreamRow, str]:
    """Open a stream and connect to it; return it and its token."""
    *_, ticket = store.create_stream(database, "o", OPTIONS, replica)
    return store.redeem_ticket(database, ticket, replica)


def test_a_stream_is_placed_then_connected_in_its_first_epoch(database: Database) -> None:
    row, token, ticket = store.create_stream(database, "o", OPTIONS, "a")
    assert (row.epoch, row.state, row.replica, row.last_result) == (0, "placed", "a", -1)
    assert row.options == OPTIONS
    assert find_by_token(database, token).id == row.id
    row, _ = store.redeem_ticket(database, ticket, "b")
    assert (row.epoch, row.state, row.replica) == (1, "connected", "b")


def test_a_ticket_works_once(database: Database) -> None:
    *_, ticket = store.create_stream(database, "o", OPTIONS, "a")
    store.redeem_ticket(database, ticket, "a")
    for wrong in (ticket, "", "x" * 400):
        with pytest.raises(MissingItemError, match="unknown, used or expired"):
            store.redeem_ticket(database, wrong, "a")


def test_a_ticket_expires(database: Database, clock: Clock) -> None:
    *_, ticket = store.create_stream(database, "o", OPTIONS, "a")
    clock.go_on(store.TICKET_S + 1)
    with pytest.raises(MissingItemError):
        store.redeem_ticket(database, ticket, "a")


def test_a_new_ticket_ends_the_one_before(database: Database) -> None:
    row, token = opened(database)
    first = store.issue_ticket(database, row, token, "a", 5)
    second = store.issue_ticket(database, row, token, "a", 7)
    with pytest.raises(MissingItemError):
        store.redeem_ticket(database, first, "a")
    again, _ = store.redeem_ticket(database, second, "a")
    assert (again.epoch, again.last_result) == (2, 7)


def test_the_token_that_was_presented_stays_valid_beside_the_next(database: Database) -> None:
    row, first = opened(database)
    ticket = store.issue_ticket(database, row, first, "a", -1)
    row, second = store.redeem_ticket(database, ticket, "a")
    assert find_by_token(database, first).id == row.id  # the second may not have arrived
    assert find_by_token(database, second).id == row.id
    ticket = store.issue_ticket(database, row, second, "a", -1)
    row, third = store.redeem_ticket(database, ticket, "a")
    assert find_by_token(database, third).id == row.id
    with pytest.raises(MissingItemError):
        find_by_token(database, first)


def test_a_client_that_never_gets_the_new_token_can_go_on_with_its_own(database: Database) -> None:
    row, token = opened(database)
    for _ in range(3):
        row = find_by_token(database, token)
        ticket = store.issue_ticket(database, row, token, "a", -1)
        row, _ = store.redeem_ticket(database, ticket, "a")
    assert row.epoch == 4


@pytest.mark.parametrize("token", ["", ".", "nonsense", "a.b.c", "\u00e9.x"])
def test_a_token_of_no_stream_is_refused(database: Database, token: str) -> None:
    opened(database)
    with pytest.raises(MissingItemError):
        find_by_token(database, token)


def test_secrets_are_not_stored(database: Database) -> None:
    row, token, ticket = store.create_stream(database, "o", OPTIONS, "a")
    with database.read() as connection:
        stored = str(list(connection.execute(sa.select(streams))))
    assert row.id in stored
    assert token.partition(".")[2] not in stored
    assert ticket not in stored


def test_an_old_owner_can_no_longer_write(database: Database) -> None:
    row, token = opened(database)
    ticket = store.issue_ticket(database, row, token, "b", -1)
    row, _ = store.redeem_ticket(database, ticket, "b")
    old = Change(row.id, 1, "hot", Snapshot(9, b"old"))
    new = Change(row.id, 2, "hot", Snapshot(3, b"new"))
    assert store.write_changes(database, [old, new, old]) == [row.id, row.id]
    assert store.load_snapshot(database, row.id) == Snapshot(3, b"new")
    assert find(database, row.id).snapshot_bytes == 3
    assert store.lost_streams(database, {row.id: 1, "absent": 4}) == {row.id: False, "absent": True}
    assert store.lost_streams(database, {row.id: 2}) == {}


def test_changes_without_a_snapshot_leave_the_one_that_is_there(database: Database) -> None:
    row, _ = opened(database)
    store.write_changes(database, [Change(row.id, 1, "connected", Snapshot(2**62, b"x"))])
    store.write_changes(database, [Change(row.id, 1, "warm")])
    assert store.load_snapshot(database, row.id) == Snapshot(2**62, b"x")
    assert find(database, row.id).state == "warm"


def test_a_stream_that_was_ended_stays_so_and_keeps_nothing(database: Database) -> None:
    row, token = opened(database)
    store.write_changes(database, [Change(row.id, 1, "connected", Snapshot(1, b"x"))])
    ticket = store.issue_ticket(database, row, token, "a", -1)
    store.end_stream(database, row.id)
    assert store.load_snapshot(database, row.id) is None
    assert store.write_changes(database, [Change(row.id, 1, "hot", Snapshot(2, b"y"))]) == [row.id]
    assert store.lost_streams(database, {row.id: 1}) == {row.id: True}
    with pytest.raises(MissingItemError):
        store.redeem_ticket(database, ticket, "a")
    with pytest.raises(ExpiredError, match="has ended"):
        find_by_token(database, token)


def test_streams_are_listed_by_owner_newest_first(database: Database, clock: Clock) -> None:
    ids = []
    for owner in ("o", "p", "o"):
        row, *_ = store.create_stream(database, owner, OPTIONS, "a")
        ids.append(row.id)
        clock.go_on(1)
    with database.read() as connection:
        assert [each.id for each in store.list_streams(connection, "o", 9)] == [ids[2], ids[0]]
        assert [each.id for each in store.list_streams(connection, None, 2)] == [ids[2], ids[1]]


def test_sweeping_leaves_what_is_held_and_what_can_be_resumed(
    database: Database, clock: Clock
) -> None:
    held, _ = opened(database, "live")
    of_the_dead, _ = opened(database, "dead")
    left, _ = opened(database, "live")
    store.write_changes(database, [Change(left.id, 1, "warm")])
    never_came, *_ = store.create_stream(database, "o", OPTIONS, "live")
    clock.go_on(100)
    fresh, _ = opened(database, "dead")
    assert store.sweep_streams(database, 50, ["live"]) == 3
    with database.read() as connection:
        kept = {each.id for each in store.list_streams(connection, None, 99)}
    assert kept == {held.id, fresh.id}
    assert not kept & {of_the_dead.id, left.id, never_came.id}


def test_replicas_live_while_they_show_it_the_emptiest_first(
    database: Database, clock: Clock
) -> None:
    for name, used, streams_held in (("full", 90, 3), ("empty", 10, 1), ("many", 10, 2)):
        store.show_replica(database, Replica(name, "http://x", used, 100, streams_held, False))
    clock.go_on(4)
    store.show_replica(database, Replica("full", "http://x", 95, 100, 4, True))
    names = [each.id for each in store.live_replicas(database, 5)]
    assert names == ["empty", "many", "full"]
    assert store.live_replicas(database, 5)[2].is_draining
    clock.go_on(3)
    assert [each.id for each in store.live_replicas(database, 5)] == ["full"]
    store.forget_replica(database, "full")
    assert store.live_replicas(database, 5) == []
