"""The core of a live stream against the protocol, with connections that break anywhere."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np
import pytest
from fake_stream import FakeStream
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from amodal_client import (
    Ended,
    FramesDropped,
    Resumed,
    StreamClosedError,
    StreamResult,
    UsageError,
)
from amodal_client.stream_backlog import MAX_KEPT, Shipment
from amodal_client.stream_core import StreamCore
from amodal_client.stream_frames import make_frame
from amodal_client.stream_link import ACK_RESULTS
from amodal_client.stream_messages import (
    Ack,
    Dropped,
    ErrorMessage,
    SessionKind,
    Welcome,
    encode_message,
    read_client_message,
    read_server_message,
)
from amodal_client.stream_options import StreamOptions, stream_setup

BUFFER = 2000
SIZE = (24, 32)


def mask_of(seq: int) -> np.ndarray:
    """Return a mask that stays the same for three frames, and is missing in every fourth."""
    mask = np.zeros(SIZE, bool)
    if seq % 4 != 3:
        mask[2:8, seq // 3 % 20 : seq // 3 % 20 + 5] = True
    return mask


def frame_of(seq: int) -> Any:
    steady = np.ones(SIZE, bool)
    return make_frame(bytes(b"\xff\xd8\xff" + bytes(500)), {1: mask_of(seq), 2: steady})


class Wire:
    """A core and a fake stream, with messages under way between them."""

    def __init__(self, mode: str, **options: Any) -> None:
        given: StreamOptions = {"mode": mode, "max_message_bytes": 1500, **options}  # type: ignore[typeddict-item]
        self.core = StreamCore(stream_setup(given))
        self.server = FakeStream(mode, is_delta=bool(options.get("delta")))
        self.to_server: deque[str | bytes] = deque()
        self.to_client: deque[str | bytes] = deque()
        self.now_s = 0.0
        self.events: list[Any] = []
        self.connect("new")

    def connect(self, kind: SessionKind) -> None:
        said = self.server.connect(kind, self.core.resume_point().last_result)
        assert isinstance(said[0], str)
        welcome = read_server_message(said[0])
        assert isinstance(welcome, Welcome)
        self.core.opened(welcome)
        self.to_client = deque(said[1:])

    def drain_client(self) -> None:
        while (message := self.core.outgoing(self.now_s)) is not None:
            data = self.core.packed(message) if isinstance(message, Shipment) else message
            self.to_server.append(data)

    def move(self) -> bool:
        """Move everything that is under way; return whether there was anything."""
        self.drain_client()
        has_moved = bool(self.to_server or self.to_client)
        while self.to_server:
            self.to_client += self.server.take(self.to_server.popleft())
        while self.to_client:
            self.core.received(self.to_client.popleft(), self.now_s)
        self.read()
        return has_moved

    def read(self) -> None:
        while (event := self.core.take_event()) is not None:
            self.events.append(event)

    def settle(self) -> None:
        """Let both sides work until nothing is left to do."""
        is_busy = True
        while is_busy:
            step = self.server.step()
            self.to_client += step
            is_busy = self.move() or bool(step)
            self.now_s += 0.1

    def end(self) -> Ended:
        self.core.finish()
        self.settle()
        assert self.server.is_ended
        self.core.closed(1000, "end")
        self.read()
        assert isinstance(self.events[-1], Ended)
        return self.events[-1]

    @property
    def results(self) -> list[StreamResult]:
        return [each for each in self.events if isinstance(each, StreamResult)]


class Breaking(RuleBasedStateMachine):
    """Frames, results and breaks in any order; what was promised holds to the end."""

    mode = "lossless"
    masks = "given"
    buffer_bytes = most_kept = BUFFER
    kinds: tuple[SessionKind, ...] = ("hot", "warm", "cold")

    def __init__(self) -> None:
        super().__init__()
        self.wire = Wire(self.mode, masks=self.masks, delta=True, buffer_bytes=self.buffer_bytes)
        self.sent = 0

    @rule(count=st.integers(1, 5))
    def send(self, count: int) -> None:
        for _ in range(count):
            frame = frame_of(self.sent)
            if self.wire.core.may_send(frame.size_bytes):
                assert self.wire.core.send(frame, self.wire.now_s) == self.sent
                self.sent += 1

    @rule()
    def write(self) -> None:
        self.wire.drain_client()

    @precondition(lambda self: self.wire.to_server)
    @rule()
    def reach_server(self) -> None:
        self.wire.to_client += self.wire.server.take(self.wire.to_server.popleft())

    @rule(count=st.integers(1, 3))
    def work(self, count: int) -> None:
        for _ in range(count):
            self.wire.to_client += self.wire.server.step()

    @precondition(lambda self: self.wire.to_client)
    @rule(count=st.integers(1, 4))
    def reach_client(self, count: int) -> None:
        for _ in range(min(count, len(self.wire.to_client))):
            self.wire.core.received(self.wire.to_client.popleft(), self.wire.now_s)

    @rule()
    def read(self) -> None:
        self.wire.read()

    @rule()
    def wait(self) -> None:
        self.wire.now_s += 0.3

    @rule()
    def store(self) -> None:
        last = self.wire.core.resume_point().last_result
        self.wire.to_client += self.wire.server.checkpoint(last)

    @rule(data=st.data())
    def break_off(self, data: st.DataObject) -> None:
        wire = self.wire
        for _ in range(data.draw(st.integers(0, len(wire.to_server)))):
            wire.to_client += wire.server.take(wire.to_server.popleft())
        for _ in range(data.draw(st.integers(0, len(wire.to_client)))):
            wire.core.received(wire.to_client.popleft(), wire.now_s)
        wire.to_server.clear()
        wire.to_client.clear()
        wire.core.closed(1006, "")
        assert wire.core.outgoing(wire.now_s) is None
        wire.connect(data.draw(st.sampled_from(self.kinds)))

    @invariant()
    def results_are_in_order_and_right(self) -> None:
        seqs = [each.seq for each in self.wire.results]
        assert seqs == sorted(set(seqs))
        for each in self.wire.results[-1:]:
            shown: dict[int, Any] = {one.track_id: one.amodal_mask for one in each.objects}
            mask = mask_of(each.seq)
            assert (1 in shown) == bool(mask.any())
            if mask.any():
                assert np.array_equal(shown[1], mask)
            assert np.array_equal(shown[2], np.ones(SIZE, bool))

    @invariant()
    def bytes_are_bounded(self) -> None:
        backlog = self.wire.core._backlog
        assert 0 <= backlog.kept_bytes <= self.most_kept
        assert sum(each.cost for each in backlog._frames.values()) == backlog.kept_bytes

    def teardown(self) -> None:
        wire = self.wire
        ended = wire.end()
        totals = ended.totals
        assert totals.captured == self.sent
        assert totals.waiting == 0
        assert totals.captured == totals.results + sum(totals.dropped.values()) + totals.lost
        dropped = sum(
            last - first + 1
            for each in wire.events
            if isinstance(each, FramesDropped)
            for first, last in each.ranges
        )
        assert dropped == sum(totals.dropped.values())
        assert len(wire.results) == totals.results
        self.check_ending(ended)

    def check_ending(self, ended: Ended) -> None:
        assert [each.seq for each in self.wire.results] == list(range(self.sent))
        assert ended.totals.lost == 0


class BreakingLive(Breaking):
    mode = "realtime"
    buffer_bytes = 1 << 20  # room to tell of every drop: without, they are counted alone

    def check_ending(self, ended: Ended) -> None:
        if self.sent and not any(isinstance(each, Resumed) for each in self.wire.events):
            assert self.wire.results[-1].seq == self.sent - 1  # the latest wins
        assert self.wire.core._backlog.kept_bytes == 0


class BreakingPrompted(BreakingLive):
    masks = "prompted"
    most_kept = MAX_KEPT * 800


_settings = settings(
    max_examples=150,
    stateful_step_count=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLossless = Breaking.TestCase
TestLossless.settings = _settings
TestRealtime = BreakingLive.TestCase
TestRealtime.settings = _settings
TestPrompted = BreakingPrompted.TestCase
TestPrompted.settings = _settings


def test_a_realtime_stream_sends_the_latest_frame_and_tells_of_the_others() -> None:
    wire = Wire("realtime")
    seqs = [wire.core.send(frame_of(i), 0.0) for i in range(50)]
    assert seqs == list(range(50))
    wire.end()
    assert [each.seq for each in wire.results] == [49]
    drops = [each for each in wire.events if isinstance(each, FramesDropped)]
    assert drops == [FramesDropped(((0, 48),), "source")]


def test_a_paced_stream_is_subsampled_by_capture_time() -> None:
    wire = Wire("paced", fps=10.0)
    for i in range(30):  # of a camera at 30 frames a second
        frame = make_frame(None, {1: np.ones(SIZE, bool)}, times=(1 + round(i * 1e9 / 30), 0))
        wire.core.send(frame, 0.0)
        wire.settle()
    assert [each.seq for each in wire.results] == list(range(0, 30, 3))


def test_a_lossless_stream_takes_no_frame_without_credit() -> None:
    wire = Wire("lossless")
    taken = 0
    while wire.core.may_send(600):
        wire.core.send(frame_of(taken), 0.0)
        taken += 1
    assert taken == wire.server.credits_at_start
    wire.move()
    assert not wire.core.may_send(600)
    wire.to_client += wire.server.step()
    wire.move()
    assert wire.core.may_send(600)


def test_results_are_acknowledged_in_groups_or_after_a_while() -> None:
    wire = Wire("realtime")
    acks = []

    def out() -> None:
        while (message := wire.core.outgoing(wire.now_s)) is not None:
            if isinstance(message, Shipment):
                wire.to_client += wire.server.take(wire.core.packed(message))
                wire.to_client += wire.server.step()
            else:
                acks.append(read_client_message(message))

    for i in range(ACK_RESULTS + 2):
        wire.core.send(frame_of(i), 0.0)
        out()
        while wire.to_client:
            wire.core.received(wire.to_client.popleft(), wire.now_s)
    out()
    assert acks == [Ack(ACK_RESULTS - 1)]
    assert wire.core.due_s() == pytest.approx(0.5)
    wire.now_s = 0.5
    out()
    assert acks[1:] == [Ack(ACK_RESULTS + 1)]


def test_results_that_nobody_reads_are_bounded_by_the_acknowledgements() -> None:
    wire = Wire("realtime", buffer_bytes=8000)
    for i in range(500):
        wire.core.send(frame_of(i), 0.0)
        wire.drain_client()
        while wire.to_server:
            wire.to_client += wire.server.take(wire.to_server.popleft())
        wire.to_client += wire.server.step()
        while wire.to_client:
            wire.core.received(wire.to_client.popleft(), wire.now_s)
    assert wire.core.is_overfull
    limit = 8000 + 65 * 600
    assert wire.core._inbox.waiting_bytes < limit
    assert len(wire.server.steps) < 150
    wire.settle()  # reads
    assert not wire.core.is_overfull
    assert wire.end().totals.waiting == 0


def test_a_realtime_stream_says_which_frames_a_break_has_cost() -> None:
    wire = Wire("realtime")
    wire.core.send(frame_of(0), 0.0)
    wire.settle()
    wire.core.send(frame_of(1), 0.0)
    wire.drain_client()  # under way when the connection breaks
    wire.core.closed(1006, "")
    wire.to_server.clear()
    wire.core.send(frame_of(2), 0.0)
    wire.core.send(frame_of(3), 0.0)
    wire.connect("hot")
    wire.settle()
    assert [each for each in wire.events if isinstance(each, Resumed)] == [
        Resumed("hot", 2, ((1, 1),))
    ]
    assert [each.seq for each in wire.results] == [0, 3]
    totals = wire.end().totals
    assert (totals.lost, totals.dropped) == (1, {"source": 1})


def test_prompts_are_bound_to_the_next_frame_and_sent_again_until_they_are_stored() -> None:
    wire = Wire("lossless", masks="prompted")
    wire.core.send(frame_of(0), 0.0)
    wire.core.order(lambda order_id: _box_prompt(order_id, wire.core.next_seq))
    wire.core.send(frame_of(1), 0.0)
    wire.settle()
    assert [(each.at, each.id) for each in wire.server.prompts] == [(1, "order-1")]
    wire.core.closed(1006, "")
    wire.connect("hot")
    wire.settle()
    assert len(wire.server.prompts) == 1  # it was answered
    wire.server._stored_seq = 0
    wire.core.closed(1006, "")
    wire.connect("warm")
    wire.settle()
    assert [each.at for each in wire.server.prompts] == [1, 1]  # the snapshot is older
    assert wire.server.steps == [0, 1, 1]
    wire.to_client += wire.server.checkpoint(1)
    wire.settle()
    wire.core.closed(1006, "")
    wire.connect("warm")
    wire.settle()
    assert len(wire.server.prompts) == 2
    assert [each.seq for each in wire.results] == [0, 1]


@pytest.mark.parametrize("mode", ["lossless", "realtime"])
def test_after_a_cold_resume_objects_are_shown_by_their_last_masks(mode: str) -> None:
    wire = Wire(mode, masks="prompted")
    wire.core.order(lambda order_id: _box_prompt(order_id, 0))
    for i in range(2):
        wire.core.send(frame_of(i), 0.0)
        wire.settle()
    wire.core.closed(1006, "")
    wire.connect("cold")
    wire.core.send(frame_of(2), 0.0)
    wire.settle()
    again = wire.server.prompts[1]
    assert again.at == (2 if mode == "lossless" else 1)
    shown = {each.track_id: each.bbox for each in again.objects}
    assert shown == {1: (0, 2, 5, 6), 2: (0, 0, 32, 24)}
    # a camera's last frame is shown again, with the masks that it had
    assert wire.server.steps == ([0, 1, 2] if mode == "lossless" else [0, 1, 1, 2])
    assert [each.seq for each in wire.results] == [0, 1, 2]


def test_a_lossless_stream_keeps_the_frames_that_a_stopping_server_drops() -> None:
    wire = Wire("lossless")
    for i in range(2):
        wire.core.send(frame_of(i), 0.0)
    wire.drain_client()
    wire.to_server.clear()
    wire.to_client.append(encode_message(Dropped(((0, 1),), "drained")))
    wire.settle()
    wire.core.closed(1001, "")
    wire.connect("warm")
    wire.settle()
    assert [each.seq for each in wire.results] == [0, 1]
    assert wire.end().totals.dropped == {}


@pytest.mark.parametrize("masks", ["prompted", "motion"])
def test_a_camera_s_stream_shows_again_what_the_snapshot_does_not_hold(masks: str) -> None:
    wire = Wire("realtime", masks=masks)
    for i in range(6):
        wire.core.send(frame_of(i), 0.0)
        wire.settle()
        wire.to_client += wire.server.checkpoint(1)
    wire.core.send(frame_of(6), 0.0)
    wire.drain_client()  # under way when the connection breaks
    wire.core.closed(1006, "")
    wire.to_server.clear()
    wire.core.send(frame_of(7), 0.0)
    wire.connect("warm")
    wire.settle()
    assert wire.server.steps == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 7]
    assert [each.seq for each in wire.results] == [0, 1, 2, 3, 4, 5, 7]
    assert wire.server.prompts == []  # all of them were seen again
    totals = wire.end().totals
    assert (totals.results, totals.lost, dict(totals.dropped)) == (7, 1, {})


def test_of_many_frames_some_are_shown_again_and_the_last_with_its_masks() -> None:
    wire = Wire("realtime", masks="prompted")
    for i in range(61):
        wire.core.send(frame_of(i), 0.0)
        wire.settle()
        wire.to_client += wire.server.checkpoint(0)
    wire.core.closed(1006, "")
    wire.connect("warm")
    wire.settle()
    again = wire.server.steps[61:]
    assert len(again) <= MAX_KEPT
    assert again[-1] == 60
    assert max(b - a for a, b in itertools.pairwise([0, *again])) <= 8
    (shown,) = wire.server.prompts
    assert shown.at == 60
    assert {each.track_id for each in shown.objects} == {1, 2}


def test_given_masks_are_not_sent_again_by_a_camera_s_stream() -> None:
    wire = Wire("realtime")
    for i in range(3):
        wire.core.send(frame_of(i), 0.0)
        wire.settle()
    wire.core.closed(1006, "")
    wire.connect("warm")
    wire.settle()
    assert wire.server.steps == [0, 1, 2]


def _box_prompt(order_id: str, at: int) -> Any:
    from amodal_client.stream_orders import Said, prompt  # noqa: PLC0415

    return prompt(Said(1, box=(0.0, 2.0, 5.0, 6.0)), at)(order_id)


def test_an_end_that_was_cut_off_is_said_again() -> None:
    wire = Wire("lossless")
    wire.core.send(frame_of(0), 0.0)
    wire.core.finish()
    wire.drain_client()
    wire.to_server.clear()
    wire.core.closed(1006, "")
    wire.connect("hot")
    wire.settle()
    assert wire.server.is_ended
    assert [each.seq for each in wire.results] == [0]
    wire.core.closed(1006, "")  # before the goodbye arrived; the server knows the stream no more
    assert wire.core.is_gone()
    assert wire.core.ended is not None


def test_drops_are_told_once() -> None:
    wire = Wire("lossless")
    wire.core.send(frame_of(0), 0.0)
    wire.drain_client()
    message = encode_message(Dropped(((0, 0),), "decode_error", "no image"))
    for _ in range(2):
        wire.core.received(message, 0.0)
    wire.read()
    assert wire.events == [FramesDropped(((0, 0),), "decode_error", "no image")]


def test_an_idle_stream_comes_back_only_when_there_is_something_to_send() -> None:
    wire = Wire("realtime")
    wire.core.received('{"op":"bye","counters":{"frames":0,"results":0,"dropped":{}},'
                       '"reason":"idle"}', 0.0)  # fmt: skip
    wire.core.closed(4408, "idle")
    assert not wire.core.wants_connection
    wire.core.send(frame_of(0), 0.0)
    assert wire.core.wants_connection


def test_a_stream_that_is_over_says_why() -> None:
    wire = Wire("realtime")
    wire.core.closed(4409, "another connection has taken the stream over")
    assert isinstance(wire.core.error, StreamClosedError)
    assert wire.core.error.code == 4409
    with pytest.raises(StreamClosedError, match="taken the stream over"):
        wire.core.send(frame_of(0), 0.0)
    wire = Wire("realtime")
    problem = ErrorMessage("urn:amodal:problem:limit", "Limit", 413, "frame is 9 bytes, limit 8")
    wire.core.received(encode_message(problem), 0.0)
    wire.core.closed(4413, "")
    assert str(wire.core.error) == "frame is 9 bytes, limit 8 (status 413)"


def test_frames_that_are_too_large_or_too_late_are_refused_here() -> None:
    wire = Wire("lossless")
    with pytest.raises(UsageError, match=r"frame is 50.. bytes, limit 1500"):
        wire.core.send(make_frame(b"\xff\xd8\xff" + bytes(5000), None), 0.0)
    wire.core.finish()
    with pytest.raises(UsageError, match="has been ended"):
        wire.core.send(frame_of(0), 0.0)
