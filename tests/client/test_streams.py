"""Both shells of a live stream against a small server whose connections break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import numpy as np
import pytest
from fake_stream import LIMITS, FakeStream
from fake_stream_server import FakeStreamServer

from amodal_client import (
    AsyncClient,
    Client,
    Ended,
    LeavingServer,
    MissingError,
    PromptTaken,
    Resumed,
    ServerError,
    Stream,
    StreamEvent,
    StreamResult,
    UsageError,
)
from amodal_client.stream_messages import SessionKind, StreamLimits

SIZE = (48, 64)
FRAMES = 60


def mask_of(seq: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[10:30, seq % 40 : seq % 40 + 12] = True
    return mask


def image_of(seq: int) -> np.ndarray:
    return np.full((*SIZE, 3), seq, np.uint8)


def through_blocking(url: str, **options: Any) -> list[StreamEvent]:
    """Return all events of a stream, sent from a thread of its own."""
    events: list[StreamEvent] = []
    with Client(url) as client, client.stream(**options) as stream:

        def send() -> None:
            with suppress(ServerError):  # the reader is told, too
                for seq in range(FRAMES):
                    assert stream.send(image_of(seq), {7: mask_of(seq)}) == seq
                stream.end()

        sender = threading.Thread(target=send)
        sender.start()
        events.extend(stream)
        sender.join()
    return events


def through_async(url: str, **options: Any) -> list[StreamEvent]:
    """Return all events of a stream, sent from a task of its own."""

    async def run() -> list[StreamEvent]:
        async with AsyncClient(url) as client, client.stream(**options) as stream:

            async def send() -> None:
                with suppress(ServerError):  # the reader is told, too
                    for seq in range(FRAMES):
                        assert await stream.send(image_of(seq), {7: mask_of(seq)}) == seq
                    await stream.end()

            sender = asyncio.create_task(send())
            events = [event async for event in stream]
            await sender
            return events

    return asyncio.run(run())


Through: TypeAlias = Callable[..., list[StreamEvent]]
both = pytest.mark.parametrize("through", [through_blocking, through_async])


def results_of(events: list[StreamEvent]) -> list[StreamResult]:
    return [each for each in events if isinstance(each, StreamResult)]


def resumed(events: list[StreamEvent]) -> list[str]:
    return [each.kind for each in events if isinstance(each, Resumed)]


@both
@pytest.mark.parametrize("kinds", [(), ("hot", "hot"), ("warm", "hot", "warm"), ("cold",)])
def test_a_lossless_stream_has_every_result_once_whatever_breaks(
    through: Through, kinds: tuple[SessionKind, ...]
) -> None:
    with FakeStreamServer(FakeStream("lossless", is_delta=True), kinds) as server:
        events = through(server.url, mode="lossless", delta=True)
    found = results_of(events)
    assert [each.seq for each in found] == list(range(FRAMES))
    for each in found:
        (shown,) = each.objects
        amodal = shown.amodal_mask
        assert amodal is not None
        assert np.array_equal(amodal, mask_of(each.seq))
        assert shown.occluded_mask is None
        assert each.latency_ms > 0
    assert resumed(events) == list(kinds)
    assert isinstance(events[-1], Ended)
    assert events[-1].totals.lost == 0
    assert len(server.posts) == len(kinds) + 1
    assert server.posts[0]["mode"] == "lossless"


@both
def test_a_realtime_stream_accounts_for_every_frame(through: Through) -> None:
    with FakeStreamServer(FakeStream("realtime"), ("hot", "warm")) as server:
        events = through(server.url)
    assert isinstance(events[-1], Ended)
    totals = events[-1].totals
    assert totals.waiting == 0
    assert FRAMES == totals.captured == totals.results + sum(totals.dropped.values()) + totals.lost
    seqs = [each.seq for each in results_of(events)]
    assert seqs == sorted(set(seqs))


@both
def test_a_server_that_leaves_is_left_for_the_next_one(through: Through) -> None:
    stream = FakeStream("lossless")
    with (
        FakeStreamServer(stream, ("hot",), goes_away=True) as first,
        FakeStreamServer(stream) as second,
    ):
        second._kind = "hot"
        events = through(first.url, mode="lossless", servers=[second.url])
        assert [each["resume_token"] for each in second.posts] == ["s.1"]
        assert len(first.posts) == 1
    assert [each.seq for each in results_of(events)] == list(range(FRAMES))
    assert LeavingServer("drain", 1000) in events


@both
def test_a_stream_that_no_server_knows_any_more_begins_anew(through: Through) -> None:
    with FakeStreamServer(FakeStream("lossless"), ("cold",)) as server:
        server.is_unknown = True
        events = through(server.url, mode="lossless")
    assert [each.seq for each in results_of(events)] == list(range(FRAMES))
    assert resumed(events) == ["cold"]
    assert ["resume_token" in each for each in server.posts] == [False, True, False]


@both
def test_a_server_that_stays_away_is_an_error_in_the_end(through: Through) -> None:
    with FakeStreamServer(FakeStream("lossless"), ("hot",)) as server:
        server.is_away = True
        with pytest.raises(ServerError, match="the server is stopping"):
            through(server.url, mode="lossless", retry_s=0.5)
        assert len(server.posts) > 2


def test_results_can_be_read_after_the_end_in_one_thread() -> None:
    with (
        FakeStreamServer(FakeStream("lossless")) as server,
        Client(server.url) as client,
        client.stream(mode="lossless") as stream,
    ):
        early = []
        for seq in range(10):
            stream.send(None, {7: mask_of(seq)})
            early += results_of(stream.ready())
        totals = stream.end()
        late = list(stream.results())
        assert totals.results == 10
        assert [each.seq for each in early + late] == list(range(10))
        assert stream.latency().count == 10
        with pytest.raises(UsageError, match="has been ended"):
            stream.send(None, {7: mask_of(0)})


def test_a_sender_whose_results_nobody_reads_is_told_so() -> None:
    def send_all(stream: Stream) -> None:
        for seq in range(2000):
            stream.send(None, {7: mask_of(seq)})

    limits = StreamLimits(1 << 20, 1 << 24, 16, 0.0, 0.0, 60.0, 3600.0, 8)
    assert limits.unacked_results < LIMITS.unacked_results
    with (
        FakeStreamServer(FakeStream("lossless", limits=limits)) as server,
        Client(server.url) as client,
        pytest.raises(UsageError, match="wait to be read"),
        client.stream(mode="lossless", buffer_bytes=8192, max_message_bytes=4096) as stream,
    ):
        send_all(stream)


def test_a_stream_is_left_and_gone_on_with() -> None:
    with FakeStreamServer(FakeStream("lossless")) as server, Client(server.url) as client:
        with client.stream(mode="lossless") as stream:
            for seq in range(5):
                stream.send(None, {7: mask_of(seq)})
            results = stream.results()
            assert [next(results).seq for _ in range(5)] == list(range(5))
            point = stream.close()
        server._kind = "hot"
        with client.stream(mode="lossless", resume=point) as stream:
            assert stream.send(None, {7: mask_of(5)}) == 5
            stream.end()
            events = list(stream)
        assert [each.seq for each in results_of(events)] == [5]
        assert resumed(events) == ["hot"]
        server.is_unknown = True
        with pytest.raises(MissingError), client.stream(resume=point):
            pass


def test_prompts_come_with_the_frame_they_were_made_for() -> None:
    with (
        FakeStreamServer(FakeStream("lossless")) as server,
        Client(server.url) as client,
        client.stream(mode="lossless", masks="prompted") as stream,
    ):
        stream.send(image_of(0))
        said = stream.prompt(3, box=(1, 2, 10, 12))
        stream.send(image_of(1))
        gone = stream.remove(3)
        stream.send(image_of(2))
        stream.end()
        events = [each for each in stream if isinstance(each, PromptTaken)]
    taken = {each.id: each.effective_seq for each in events}
    assert taken == {said: 1, gone: 2}
    first, second = server.stream.prompts
    assert (first.objects[0].box, second.objects[0].remove) == ((1, 2, 10, 12), True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "fast"}, "mode"),
        ({"mode": "paced"}, "needs fps"),
        ({"speed": 3}, "no option 'speed'"),
        ({"servers": ["127.0.0.1"]}, "must be http"),
        ({"buffer_bytes": 100}, "buffer_bytes"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(options: Any, said: str) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(UsageError, match=said):
        client.stream(**options)
