"""Streams that end or are let go: silence, drain, kill, owners that are not any more."""

from __future__ import annotations

import asyncio
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

from amodal_client.stream_messages import Bye, CloseCode, GoAway
from amodal_model.errors import (
    ExpiredError,
    UnavailableError,
)
from amodal_service.database import Database
from amodal_service.streams import store
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream


@on_a_loop
async def test_a_silent_client_is_let_go_and_may_come_back(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, idle_s=60)
    client = await open_client(hub)
    client.send(0)
    await hub.work()
    clock.go_on(50)
    client.session.hear()
    clock.go_on(50)
    await hub.tick()
    await client.lane.read()
    assert client.lane.closed is None
    clock.go_on(11)
    await hub.tick()
    await client.lane.read()
    assert client.lane.closed is not None
    assert client.lane.closed.code == CloseCode.IDLE_OR_SLOW
    assert client.lane.all(Bye)[0].reason == "idle for more than 60 s"
    await client.leave()
    assert (hub.held, hub.reserved) == ({}, 0)
    again = await reopen_client(hub, client.connected.token)
    assert (again.connected.kind, again.connected.received_seq) == ("warm", 0)


@on_a_loop
async def test_draining_says_so_finishes_what_is_lossless_and_keeps_all(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, drain_s=1)
    patient, hasty = await open_client(hub, mode="lossless"), await open_client(hub)
    for client in (patient, hasty):
        client.send(0)
        client.send(1)
    draining = asyncio.ensure_future(hub.drain())
    while not hub.placement.is_draining:
        await asyncio.sleep(0.001)
    with pytest.raises(UnavailableError):
        await hub.placement.open("o", StreamOptions())
    with pytest.raises(CloseStream) as caught:
        await hub.connect("anything")
    assert caught.value.code == CloseCode.DRAINING
    await asyncio.sleep(0.05)
    await hub.work()
    for client in (patient, hasty):
        while client.lane.closed is None:
            await client.lane.read()
            await asyncio.sleep(0.005)
        await client.leave()
    await draining
    for client in (patient, hasty):
        assert client.lane.closed is not None
        assert client.lane.closed.code == CloseCode.GOING_AWAY
        assert client.lane.all(GoAway) == [GoAway("drain", 1000)]
        (goodbye,) = client.lane.all(Bye)
        assert (goodbye.reason, goodbye.counters.waiting) == ("drain", 0)
        assert goodbye.counters.frames == 2
        assert state_of(database, client) == "warm"
    assert [each.header.seq for each in patient.lane.results] == [0, 1]
    assert hasty.lane.drops() == {0: "superseded", 1: "drained"}
    assert (hub.held, hub.reserved) == ({}, 0)
    again = await reopen_client(await new_hub(database), patient.connected.token)
    assert (again.connected.kind, again.connected.received_seq) == ("warm", 1)


@on_a_loop
async def test_a_stream_that_is_killed_ends_for_good(database: Database, clock: Clock) -> None:
    here, there = await new_hub(database, "http://a"), await new_hub(database, "http://b")
    for killer in (here, there):
        client = await open_client(here)
        if client.hub is not here:
            continue
        await killer.kill(client.session.terms.stream_id)
        await here.beat()
        await client.lane.read()
        assert client.lane.closed is not None
        assert client.lane.closed.code == CloseCode.UNKNOWN_STREAM
        assert [each.reason for each in client.lane.all(Bye)] == ["killed"]
        await client.leave()
        assert (here.held, here.reserved) == ({}, 0)
        with pytest.raises(ExpiredError, match="has ended"):
            await here.placement.reopen("o", client.connected.token, -1)


@on_a_loop
async def test_a_stream_that_ended_without_its_client_is_not_kept(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, hot_s=30)
    client = await open_client(hub)
    client.send(0)
    client.session.end()
    await client.leave()
    await hub.work()
    clock.go_on(31)
    await hub.tick()
    assert state_of(database, client) == "ended"
    assert (hub.held, hub.reserved) == ({}, 0)


@on_a_loop
async def test_an_old_owner_lets_go_and_does_not_write(database: Database, clock: Clock) -> None:
    old = await new_hub(database, "http://old", dead_after_s=5)
    client = await open_client(old)
    client.send(0)
    await old.work()
    clock.go_on(6)  # it shows no life, as if frozen
    new = await new_hub(database, "http://new", dead_after_s=5)
    again = await reopen_client(new, client.connected.token)
    again.send(7)
    await new.work()
    clock.go_on(3)
    await new.tick()
    client.send(1)
    await old.work()
    clock.go_on(3)
    await old.tick()
    assert (old.held, old.reserved) == ({}, 0)
    await client.lane.read()
    assert client.lane.closed is not None
    assert client.lane.closed.code == CloseCode.SUPERSEDED
    await client.leave()
    stored = store.load_snapshot(database, client.session.terms.stream_id)
    assert stored is not None
    assert stored.seq == 7
    assert state_of(database, again) == "connected"


@on_a_loop
async def test_a_stream_that_comes_back_is_not_gone_on_with_from_before_it_left(
    database: Database, clock: Clock
) -> None:
    first = await new_hub(database, "http://first", dead_after_s=5)
    client = await open_client(first)
    client.send(0)
    await first.work()
    clock.go_on(6)
    second = await new_hub(database, "http://second", dead_after_s=5)
    there = await reopen_client(second, client.connected.token)
    there.send(7)
    await second.work()
    await second.drain()
    back = await reopen_client(first, there.connected.token)
    assert (back.connected.kind, back.connected.received_seq) == ("warm", 7)
    assert first.reserved == back.session.terms.memory_bytes
    await client.lane.read()
    assert client.lane.closed is not None
    assert client.lane.closed.code == CloseCode.SUPERSEDED
    await client.leave()
    assert first.held[back.session.terms.stream_id] is back.session


@on_a_loop
async def test_a_connection_made_while_a_snapshot_is_written_is_not_taken_for_lost(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await new_hub(database)
    client = await open_client(hub)
    client.send(0)
    await hub.work()
    await client.leave()
    clock.go_on(31)
    ticket = (await hub.placement.reopen("o", client.connected.token, -1)).ticket
    write = store.write_changes

    def write_late(*args: Any) -> list[str]:
        future = asyncio.run_coroutine_threadsafe(hub.connect(ticket), loop)
        connected.append(future.result(10))
        return write(*args)

    connected: list[Any] = []
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(store, "write_changes", write_late)
    await hub.tick()
    monkeypatch.undo()
    (again,) = connected
    assert again.kind == "hot"
    assert hub.roster.find(again.session.terms.stream_id) is again.session
    lane = Client(hub, again).lane
    await lane.read()
    assert lane.closed is None
