"""All streams of a process: room, placement, resumes, drain, idle, kill; and two processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from live_streams import Client, Clock, DrivenHub, move_clock, open_client, reopen_client

from amodal_client.stream_messages import Bye, Checkpoint, CloseCode, Dropped, GoAway, Reset
from amodal_client.stream_wire import REPLAYED
from amodal_model.errors import (
    ExpiredError,
    LimitError,
    MissingItemError,
    ModelError,
    NoSlotError,
    QuotaError,
    UnavailableError,
)
from amodal_service.database import Database, open_database
from amodal_service.mask_sources import Runtime
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.admission import check_options, stream_bytes
from amodal_service.streams.archive import CAMERA_SNAPSHOT_S, snapshot_pause_s, wanted_pause_s
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream

SMALL: dict[str, Any] = {"max_objects": 1, "max_message_bytes": 4096}
ONE = stream_bytes(StreamOptions(**SMALL))
Case = Callable[..., Coroutine[Any, Any, None]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/db.sqlite3")
    yield database
    database.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return move_clock(monkeypatch)


def on_a_loop(case: Case) -> Callable[..., None]:
    """Run a test on an event loop of its own."""

    @wraps(case)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(case(*args, **kwargs))

    return run


async def new_hub(database: Database, url: str = "http://a", **wanted: Any) -> DrivenHub:
    return await DrivenHub(database, StreamSettings(**wanted), url).begin()


def state_of(database: Database, client: Client) -> str:
    with database.read() as connection:
        return store.find_stream(connection, client.session.terms.stream_id).state


@on_a_loop
async def test_streams_are_admitted_while_there_is_room(database: Database, clock: Clock) -> None:
    hub = await new_hub(database, memory_bytes=max(3 * ONE, 1 << 20))
    count = hub.settings.memory_bytes // ONE
    clients = [await open_client(hub, **SMALL) for _ in range(count)]
    assert hub.reserved == count * ONE
    message = rf"a stream needs {ONE} bytes, \d+ are free \(AMODAL_STREAM_MEMORY_BYTES\)"
    with pytest.raises(NoSlotError, match=message):
        await hub.placement.open("o", StreamOptions(**SMALL))
    with pytest.raises(CloseStream, match=message) as caught:
        await hub.connect_new("o", StreamOptions(**SMALL))
    assert caught.value.code == CloseCode.NO_SLOT
    clients[0].session.end()
    await clients[0].leave()
    assert hub.reserved == (count - 1) * ONE
    again = await hub.connect_new("o", StreamOptions(**SMALL))
    assert again.kind == "new"


@on_a_loop
async def test_a_ticket_that_comes_too_late_for_a_slot_leaves_no_stream_held(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, memory_bytes=max(ONE, 1 << 20))
    count = hub.settings.memory_bytes // ONE
    placed = [await hub.placement.open("o", StreamOptions(**SMALL)) for _ in range(count + 1)]
    for each in placed[:count]:
        await hub.connect(each.ticket)
    with pytest.raises(CloseStream):
        await hub.connect(placed[count].ticket)
    assert hub.reserved == count * ONE
    with database.read() as connection:
        assert store.find_stream(connection, placed[count].stream_id).state == "warm"


@on_a_loop
async def test_a_stream_that_vanishes_at_once_never_reaches_the_database(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database)
    gone, kept, hasty = [
        Client(hub, await hub.connect_new("o", StreamOptions(**SMALL))) for _ in range(3)
    ]
    await gone.leave()
    again = await hub.placement.reopen("o", hasty.connected.token, -1)  # sooner than a tick
    assert again.stream_id == hasty.session.terms.stream_id
    await hub.tick()
    with database.read() as connection:
        known = {each.id for each in store.list_streams(connection, "o", 10)}
    assert known == {each.session.terms.stream_id for each in (kept, hasty)}
    with pytest.raises(MissingItemError):
        await hub.placement.reopen("o", gone.connected.token, -1)
    kept.send(0)
    await hub.work()
    await kept.leave()
    assert state_of(database, kept) == "hot"
    await gone.leave()
    assert (hub.reserved, set(hub.held)) == (2 * ONE, known)


@on_a_loop
async def test_new_streams_outlast_a_database_that_is_away(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = await new_hub(database)

    def fail(*_: Any) -> None:
        raise sa.exc.OperationalError("insert", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(store, "insert_streams", fail)
        client = Client(hub, await hub.connect_new("o", StreamOptions(**SMALL)))
        client.send(0)
        await hub.work()
        clock.go_on(3)
        await hub.tick()
        await hub.beat()
    assert hub.roster.find(client.session.terms.stream_id) is client.session
    clock.go_on(3)
    await hub.tick()
    assert state_of(database, client) == "connected"
    assert client.session.stored_seq == 0


@on_a_loop
async def test_a_camera_s_stream_that_is_followed_by_its_looks_is_stored_more_often(
    database: Database, clock: Clock
) -> None:
    hub = await new_hub(database, snapshot_s=2.0)
    stored = []
    for options in ({"masks": "motion"}, {}, {"masks": "motion", "mode": "lossless"}):
        client = await open_client(hub, **options)
        stored.append(wanted_pause_s(client.session.terms.options, hub.settings))
    assert stored == [CAMERA_SNAPSHOT_S, 2.0, 2.0]


@on_a_loop
async def test_an_owner_has_only_so_many_streams(database: Database, clock: Clock) -> None:
    hub = await new_hub(database, per_owner=1)
    client = await open_client(hub)
    with pytest.raises(QuotaError, match="1 streams are open, limit 1"):
        await hub.placement.open("o", StreamOptions())
    with pytest.raises(CloseStream) as caught:
        await hub.connect_new("o", StreamOptions())
    assert caught.value.code == CloseCode.CREDIT_OR_QUOTA
    await open_client(hub, owner="another")
    client.session.end()
    await client.leave()
    await open_client(hub)


@on_a_loop
async def test_options_beyond_the_limits_are_refused(database: Database, clock: Clock) -> None:
    hub = await new_hub(database, objects=4, message_bytes=8192)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max_objects": 5, "max_message_bytes": 4096}, r"max_objects is 5, limit 4"),
        ({"max_objects": 4}, r"max_message_bytes is 4194304, limit 8192"),
    ]
    for options, message in cases:
        with pytest.raises(LimitError, match=message):
            check_options(StreamOptions(**options), hub.settings)


@on_a_loop
async def test_streams_go_where_there_is_most_room(database: Database, clock: Clock) -> None:
    first = await new_hub(database, "http://first")
    second = await new_hub(database, "http://second")
    await first.beat()
    await open_client(first)
    await first.beat()
    placed = await first.placement.open("o", StreamOptions())
    assert placed.url == "http://second"
    client = Client(second, await second.connect(placed.ticket))
    assert client.session.epoch == 1
    second.placement.is_draining = True
    await second.beat()
    assert (await first.placement.open("o", StreamOptions())).url == ""
    first.placement.is_draining = True
    with pytest.raises(UnavailableError, match="stopping"):
        await first.placement.open("o", StreamOptions())


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


@pytest.mark.parametrize(
    ("streams", "expected_s"),
    [(1, 2.0), (20, 2.0), (100, 3.0), (300, 9.0), (5000, 10.0)],
)
def test_many_streams_are_stored_less_often(streams: int, expected_s: float) -> None:
    assert snapshot_pause_s(2.0, 0.003 * streams) == pytest.approx(expected_s)
    assert snapshot_pause_s(30.0, 0.003 * streams) == 30.0


@on_a_loop
async def test_prompted_masks_are_not_found_on_the_cpu_where_a_gpu_is_required(
    database: Database, clock: Clock
) -> None:
    runtime = Runtime("cpu", require_gpu=True)
    hub = await DrivenHub(database, StreamSettings(), "http://a", runtime).begin()
    await open_client(hub, **SMALL)
    with pytest.raises(ModelError, match="a GPU is required, but CPUExecutionProvider runs"):
        await open_client(hub, **SMALL, masks="prompted")
    assert hub.reserved == ONE  # and nothing for the one that could not be
