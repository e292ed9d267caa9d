"""Streams of a process: room, limits, where new ones go."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from live_streams import (
    SMALL,
    Client,
    Clock,
    DrivenHub,
    new_hub,
    on_a_loop,
    open_client,
    state_of,
)

from amodal_client.stream_messages import CloseCode
from amodal_model.errors import (
    LimitError,
    MissingItemError,
    ModelError,
    NoSlotError,
    QuotaError,
    UnavailableError,
)
from amodal_service.database import Database
from amodal_service.mask_sources import Runtime
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.admission import check_options, stream_bytes
from amodal_service.streams.archive import CAMERA_SNAPSHOT_S, snapshot_pause_s, wanted_pause_s
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream

ONE = stream_bytes(StreamOptions(**SMALL))


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
