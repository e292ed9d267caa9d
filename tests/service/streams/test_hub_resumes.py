"""Streams that come back: held, hot, warm and cold; what snapshots hold."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from live_streams import (
    Client,
    Clock,
    new_hub,
    on_a_loop,
    open_client,
    reopen_client,
    state_of,
)

from amodal_client.stream_messages import Checkpoint, CloseCode, Dropped, Reset
from amodal_client.stream_wire import REPLAYED
from amodal_model.errors import (
    ExpiredError,
    MissingItemError,
)
from amodal_service.database import Database
from amodal_service.streams import store
from amodal_service.streams.outbox import CloseStream


@on_a_loop
async def test_a_stream_that_is_held_is_resumed_where_it_is(
    database: Database, clock: Clock
) -> None:
    first = await new_hub(database, "http://first")
    second = await new_hub(database, "http://second")
    client = await open_client(first)
    client.send(3)
    await first.work()
    await client.leave()
    placed = await second.placement.reopen("o", client.connected.token, -1)
    assert placed.url == "http://first"
    again = Client(first, await first.connect(placed.ticket))
    assert (again.connected.kind, again.connected.received_seq) == ("hot", 3)
    assert again.session is client.session
    assert again.session.epoch == 2
    await again.lane.read()
    assert [each.header.seq for each in again.lane.results] == [3]
    with pytest.raises(MissingItemError, match="is of no stream"):
        await second.placement.reopen("another", client.connected.token, -1)


@on_a_loop
async def test_a_second_connection_supersedes_the_first(database: Database, clock: Clock) -> None:
    hub = await new_hub(database)
    client = await open_client(hub)
    again = await reopen_client(hub, client.connected.token)
    await client.lane.read()
    assert client.lane.closed is not None
    assert client.lane.closed.code == CloseCode.SUPERSEDED
    await client.leave()
    assert state_of(database, client) == "connected"
    assert hub.reserved == again.session.terms.memory_bytes


@on_a_loop
async def test_of_two_connections_at_the_same_time_the_later_stays(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await new_hub(database)
    client = await open_client(hub)
    client.send(0)
    await hub.work()
    clock.go_on(3)
    await hub.tick()
    token = client.connected.token
    hub.crash()
    hub, go_on, calls, load = await new_hub(database), threading.Event(), [], store.load_snapshot

    def load_slowly(*args: Any) -> store.Snapshot | None:
        calls.append(args)
        if len(calls) == 1:
            assert go_on.wait(30)
        return load(*args)

    monkeypatch.setattr(store, "load_snapshot", load_slowly)
    early = asyncio.ensure_future(reopen_client(hub, token))
    while not calls:
        await asyncio.sleep(0.001)
    late = await reopen_client(hub, token)
    go_on.set()
    with pytest.raises(CloseStream, match="taken the stream over") as caught:
        await early
    assert caught.value.code == CloseCode.SUPERSEDED
    assert list(hub.held.values()) == [late.session]
    assert hub.reserved == late.session.terms.memory_bytes
    assert (late.connected.kind, late.session.epoch) == ("warm", 3)
    assert state_of(database, late) == "connected"


@on_a_loop
async def test_what_had_not_arrived_before_a_crash_comes_out_of_the_snapshot(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database)
    client = await open_client(hub)
    client.send(0)
    client.send(1)  # supersedes the first
    await hub.work()
    clock.go_on(3)
    await hub.tick()
    hub.crash()
    hub = await new_hub(database)
    again = await reopen_client(hub, client.connected.token)
    assert (again.connected.kind, again.connected.received_seq) == ("warm", 1)
    await again.lane.read()
    (result,) = again.lane.results
    assert (result.header.seq, result.header.flags) == (1, REPLAYED)
    assert [each.ranges for each in again.lane.all(Dropped)] == [((0, 0),)]
    counters = again.session.counters()
    assert (counters.frames, counters.results, counters.dropped) == (2, 1, {"superseded": 1})
    again = await reopen_client(hub, again.connected.token, last_result=1)
    await again.lane.read()
    assert not again.lane.results


@on_a_loop
async def test_a_stream_that_is_worked_for_is_not_idle(database: Database, clock: Clock) -> None:
    hub = await new_hub(database, idle_s=60)
    client = await open_client(hub, mode="lossless")
    for seq in range(2):
        client.send(seq)
    for _ in range(2):  # a minute a frame
        clock.go_on(50)
        await hub.work()
        await hub.tick()
    await client.lane.read()
    assert client.lane.closed is None
    clock.go_on(61)
    await hub.tick()
    await client.lane.read()
    assert client.lane.closed is not None


@on_a_loop
async def test_a_hot_stream_turns_warm_and_can_be_resumed(database: Database, clock: Clock) -> None:
    hub = await new_hub(database, hot_s=30, resume_s=100)
    client = await open_client(hub)
    for seq in range(5):
        client.send(seq)
        await hub.work()
    await client.leave()
    assert state_of(database, client) == "hot"
    clock.go_on(29)
    await hub.tick()
    assert hub.held
    clock.go_on(2)
    await hub.tick()
    assert (hub.held, hub.reserved) == ({}, 0)
    assert state_of(database, client) == "warm"
    other = await new_hub(database, "http://other", resume_s=100)
    again = await reopen_client(other, client.connected.token)
    assert (again.connected.kind, again.connected.received_seq) == ("warm", 4)
    again.send(5)
    await other.work()
    await again.lane.read()
    assert [each.track_id for each in again.lane.results[0].meta.objects] == [1]
    await again.leave()
    clock.go_on(31)
    await other.tick()
    clock.go_on(101)
    with pytest.raises(ExpiredError, match="was left 101 s ago, limit 100"):
        await other.placement.reopen("o", again.connected.token, -1)
    clock.go_on(100)
    await other.sweep()
    with database.read() as connection:
        assert store.list_streams(connection, None, 9) == []


@on_a_loop
async def test_a_stream_that_never_had_a_frame_is_let_go_at_once(database: Database) -> None:
    hub = await new_hub(database, hot_s=30)
    client = await open_client(hub)
    await client.leave()
    assert (hub.held, hub.reserved) == ({}, 0)
    await hub.tick()  # those that left are written together
    assert state_of(database, client) == "warm"
    again = await reopen_client(hub, client.connected.token)
    assert again.connected.received_seq == -1
    again.send(0)
    await hub.work()
    await again.leave()
    assert len(hub.held) == 1


@on_a_loop
async def test_a_stream_whose_snapshot_is_no_use_begins_cold(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database)
    for content in (b"nonsense", None):
        client = await open_client(hub)
        client.send(0)
        await hub.work()
        if content is not None:
            snapshot = store.Snapshot(0, content)
            change = store.Change(client.session.terms.stream_id, 1, "connected", snapshot)
            store.write_changes(database, [change])
        hub.crash()
        hub = await new_hub(database)
        again = await reopen_client(hub, client.connected.token)
        assert (again.connected.kind, again.connected.received_seq) == ("cold", -1)


@on_a_loop
async def test_snapshots_are_made_every_few_seconds_and_told(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, snapshot_s=2)
    client = await open_client(hub)
    client.send(0)
    await hub.work()
    await hub.tick()
    clock.go_on(2.1)
    await hub.tick()
    await hub.tick()
    await client.lane.read()
    assert client.lane.all(Checkpoint) == [Checkpoint(0)]
    assert state_of(database, client) == "connected"


@on_a_loop
async def test_a_reset_is_stored_so_that_a_restart_does_not_undo_it(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database)
    client = await open_client(hub)
    client.send(4)
    await hub.work()
    clock.go_on(3)
    await hub.tick()
    client.session.reset(Reset("r"))
    await hub.tick()
    hub.crash()
    again = await reopen_client(await new_hub(database), client.connected.token)
    assert (again.connected.kind, again.connected.received_seq) == ("warm", 4)
    assert again.session.memory.state is None
