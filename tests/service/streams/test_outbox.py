"""What waits for a client: two lanes, replays, and clients that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from live_streams import Lane

from amodal_client.stream_messages import (
    Bye,
    CloseCode,
    Counters,
    Credit,
    ResultMeta,
    Timings,
)
from amodal_client.stream_messages import ModelName as Model
from amodal_client.stream_wire import REPLAYED, Header, Op, encode_meta, pack
from amodal_service.streams.outbox import MAX_CONTROL, CloseStream, Outbox

META = encode_meta(ResultMeta((), (), Timings(0, 0, 0, 0), 0, 1.0, Model("m", "1")))
GOODBYE = Bye(Counters(0, 0, {}), "end")


def packet(seq: int) -> bytes:
    return pack(Header(Op.RESULT, seq, 0, 0, 8, 8), META)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]  # a coroutine


def test_control_goes_before_results_and_goodbye_after_both() -> None:
    async def work() -> None:
        outbox = Outbox(8)
        lane = Lane(outbox, outbox.begin(-1))
        outbox.keep(1, packet(1))
        outbox.finish(GOODBYE, 1000)
        outbox.say(Credit(1))
        outbox.keep(2, packet(2))
        await lane.read(1)
        assert lane.said == [Credit(1)]
        await lane.read()
        assert [each.header.seq for each in lane.results] == [1, 2]
        assert lane.said[-1] == GOODBYE
        assert lane.closed is not None
        assert (lane.closed.code, lane.closed.is_error) == (1000, False)

    run(work)


def test_results_that_have_not_arrived_are_sent_again_and_say_so() -> None:
    async def work() -> None:
        outbox = Outbox(8)
        first = Lane(outbox, outbox.begin(-1))
        for seq in (1, 2, 3):
            outbox.keep(seq, packet(seq))
        await first.read(2)
        second = Lane(outbox, outbox.begin(1))
        outbox.keep(4, packet(4))
        await second.read()
        assert [(each.header.seq, each.header.flags) for each in second.results] == [
            (2, REPLAYED),
            (3, REPLAYED),
            (4, 0),
        ]
        await first.read()
        assert first.closed is not None
        assert first.closed.code == CloseCode.SUPERSEDED

    run(work)


def test_a_writer_that_waits_learns_that_it_is_superseded() -> None:
    async def work() -> None:
        outbox = Outbox(8)
        waiting = asyncio.ensure_future(outbox.next(outbox.begin(-1)))
        await asyncio.sleep(0)
        outbox.begin(-1)
        with pytest.raises(CloseStream, match="taken the stream over"):
            await waiting

    run(work)


def test_a_client_that_acknowledges_must_go_on_to_do_so() -> None:
    async def work() -> None:
        outbox = Outbox(2)
        lane = Lane(outbox, outbox.begin(-1))
        outbox.keep(1, packet(1))
        outbox.acknowledge(1)
        for seq in (2, 3):
            outbox.keep(seq, packet(seq))
        await lane.read()
        assert not outbox.has_room
        outbox.acknowledge(2)
        assert outbox.has_room
        assert outbox.kept() == ((3, packet(3)),)

    run(work)


def test_a_client_that_never_acknowledges_is_served_and_keeps_a_bounded_lane() -> None:
    async def work() -> None:
        made_room = []
        outbox = Outbox(3, lambda: made_room.append(1))
        lane = Lane(outbox, outbox.begin(-1))
        for seq in range(20):
            while not outbox.has_room:
                await lane.read(1)
            outbox.keep(seq, packet(seq))
            assert len(outbox.kept()) <= 3
        await lane.read()
        assert [each.header.seq for each in lane.results] == list(range(20))
        assert made_room

    run(work)


def test_results_nobody_has_read_fill_the_lane() -> None:
    async def work() -> None:
        outbox = Outbox(2)
        outbox.begin(-1)
        for seq in (1, 2):
            assert outbox.has_room
            outbox.keep(seq, packet(seq))
        assert not outbox.has_room

    run(work)


def test_too_much_unread_control_ends_the_connection_not_the_stream() -> None:
    async def work() -> None:
        outbox = Outbox(2)
        lane = Lane(outbox, outbox.begin(-1))
        for _ in range(MAX_CONTROL):
            outbox.say(Credit(1))
        await lane.read(1)
        assert lane.closed is None
        for _ in range(2):
            outbox.say(Credit(1))
        await lane.read()
        assert lane.closed is not None
        assert lane.closed.code == CloseCode.IDLE_OR_SLOW
        assert "256 control messages" in lane.closed.reason
        again = Lane(outbox, outbox.begin(-1))
        outbox.say(Credit(2))
        await again.read()
        assert again.said == [Credit(2)]

    run(work)


def test_a_failure_waits_for_the_control_that_is_there() -> None:
    async def work() -> None:
        outbox = Outbox(2)
        lane = Lane(outbox, outbox.begin(-1))
        outbox.say(Credit(1))
        outbox.fail(CloseStream(4400, "first"))
        outbox.fail(CloseStream(4429, "second"))
        await lane.read()
        assert lane.said == [Credit(1)]
        assert lane.closed is not None
        assert lane.closed.code == 4400

    run(work)
