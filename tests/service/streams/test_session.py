"""One stream: credits, modes, orders, resets, and counters that add up."""

from __future__ import annotations

import time

import pytest
from live_streams import Bench, box, given, on_a_loop

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    Ack,
    Bye,
    CloseCode,
    Credit,
    GivenObject,
    PromptAck,
    PromptMessage,
    PromptObject,
    Remove,
    Reset,
    Status,
)
from amodal_client.stream_wire import Header, Op, Packet
from amodal_service.streams.frame_work import Done
from amodal_service.streams.intake import CREDITS, FLOOD, MAX_META_BYTES
from amodal_service.streams.mailbox import MAX_ORDERS
from amodal_service.streams.outbox import CloseStream

BAD_TEXT = b"\x81\xa7objects\x91\x81\xa3rle\x82\xa4size\x92\x01\x01\xa6counts\xa1\xff"
"""MessagePack whose runs are not UTF-8."""


def check_sums(bench: Bench) -> None:
    counters = bench.session.counters()
    ended = counters.results + sum(counters.dropped.values()) + counters.waiting
    assert counters.frames == ended


@on_a_loop
async def test_a_credit_is_paid_on_arrival_and_returned_when_the_frame_is_taken() -> None:
    for mode in ("lossless", "realtime"):
        bench = Bench(mode=mode)
        bench.send(0)
        assert bench.session.credits == CREDITS[mode] - 1
        begun = bench.begin()
        assert begun is not None
        assert bench.session.credits == CREDITS[mode]
        bench.finish(begun)
        assert bench.session.credits == CREDITS[mode]


@on_a_loop
async def test_a_credit_is_returned_with_the_result_where_the_next_frame_waits() -> None:
    bench = Bench(mode="lossless")
    for seq in range(CREDITS["lossless"]):
        bench.send(seq)
    assert bench.session.credits == 0
    begun = bench.begin()
    assert begun is not None
    assert bench.session.credits == 0
    bench.finish(begun)
    assert bench.session.credits == 1
    while bench.work():
        pass
    await bench.lane.read()
    assert sum(each.n for each in bench.lane.all(Credit)) == CREDITS["lossless"]
    assert [each.header.seq for each in bench.lane.results] == [0, 1, 2, 3]
    check_sums(bench)


@on_a_loop
async def test_the_latest_frame_wins_and_those_before_are_told_of() -> None:
    bench = Bench(mode="realtime")
    for seq in (3, 5, 8):
        bench.send(seq)
    assert bench.session.credits == 1
    assert bench.work()
    assert not bench.work()
    await bench.lane.read()
    assert bench.lane.drops() == {3: "superseded", 5: "superseded"}
    assert [each.header.seq for each in bench.lane.results] == [8]
    assert bench.lane.results[0].meta.dropped == 2
    check_sums(bench)


@on_a_loop
async def test_a_camera_s_frames_are_dropped_while_the_server_drains() -> None:
    """They would be worked on after the stream was stored, and be forgotten."""
    bench = Bench(mode="realtime")
    bench.send(0)
    begun = bench.begin()
    assert begun is not None
    bench.session.is_draining = True
    bench.send(1)
    bench.finish(begun)
    assert not bench.work()
    await bench.lane.read()
    assert [each.header.seq for each in bench.lane.results] == [0]
    assert bench.lane.drops() == {1: "drained"}
    check_sums(bench)


@on_a_loop
async def test_frames_dropped_during_a_step_are_told_in_the_next_result() -> None:
    bench = Bench()
    bench.send(0)
    begun = bench.begin()
    assert begun is not None
    for seq in (1, 2, 3):
        bench.send(seq)
    bench.finish(begun)
    assert bench.work()
    await bench.lane.read()
    assert [each.meta.dropped for each in bench.lane.results] == [0, 2]


@on_a_loop
async def test_a_flood_is_warned_of_then_ends_the_connection() -> None:
    bench = Bench(mode="lossless")
    allowed = CREDITS["lossless"]
    for seq in range(allowed + FLOOD - 1):
        bench.send(seq)
    with pytest.raises(CloseStream, match="8 frames were sent without credit, limit 4") as caught:
        bench.send(99)
    assert caught.value.code == CloseCode.CREDIT_OR_QUOTA
    await bench.lane.read()
    assert len(bench.lane.all(Status)) == FLOOD - 1
    assert set(bench.lane.drops().values()) == {"overload"}
    assert len(bench.lane.drops()) == FLOOD
    assert not bench.lane.all(Credit)
    check_sums(bench)


@on_a_loop
async def test_a_seq_must_rise() -> None:
    bench = Bench(mode="lossless")
    bench.send(5)
    for seq in (5, 4, 0):
        with pytest.raises(CloseStream, match=rf"seq {seq} after 5: it must rise") as caught:
            bench.send(seq)
        assert caught.value.code == CloseCode.BAD_MESSAGE
    assert bench.session.counters().frames == 1


@on_a_loop
async def test_a_meta_that_is_none_ends_the_connection_and_is_not_counted() -> None:
    bench = Bench()
    for meta in (b"\xc1", b"\x81\xa7objects\x01", b"\x91" * 5000, BAD_TEXT):
        with pytest.raises(AnswerError, match="meta"):
            bench.session.accept(Packet(Header(Op.FRAME, 1), memoryview(meta), memoryview(b"")))
    bench.session.accept(Packet(Header(Op.FRAME, 1, 0, 0, 8, 8), memoryview(b""), memoryview(b"")))
    assert bench.session.counters().frames == 1


@on_a_loop
async def test_a_meta_that_would_unfold_to_too_much_is_not_read() -> None:
    bench = Bench()
    meta = memoryview(b"\x00" * (MAX_META_BYTES + 1))
    with pytest.raises(CloseStream, match=f"{MAX_META_BYTES + 1} bytes, limit") as caught:
        bench.session.accept(Packet(Header(Op.FRAME, 1), meta, memoryview(b"")))
    assert caught.value.code == CloseCode.TOO_LARGE


@on_a_loop
async def test_a_stream_that_is_drained_gets_no_more_credit() -> None:
    bench = Bench()
    bench.send(0)
    bench.session.is_draining = True
    assert bench.work()
    await bench.lane.read()
    assert not bench.lane.all(Credit)
    check_sums(bench)


@on_a_loop
async def test_a_paced_stream_takes_frames_by_capture_time() -> None:
    bench = Bench(mode="paced", fps=10)
    for seq in range(20):
        bench.send(seq, capture_ns=1_000_000_000 + seq * 33_333_333)
        bench.work()
    await bench.lane.read()
    taken = [each.header.seq for each in bench.lane.results]
    assert taken == [0, 3, 6, 9, 12, 15, 18]
    assert set(bench.lane.drops().values()) == {"superseded"}
    assert bench.session.credits == CREDITS["paced"]
    check_sums(bench)


@on_a_loop
async def test_a_frame_that_is_too_late_is_dropped_before_its_step() -> None:
    bench = Bench(deadline_ms=50)
    now_s = time.monotonic()
    bench.send(0)
    assert bench.begin(now_s + 0.2) is None
    bench.send(1, deadline_ms=60_000)  # its own deadline goes before the stream's
    begun = bench.begin(now_s + 0.2)
    assert begun is not None
    bench.finish(begun)
    await bench.lane.read()
    assert bench.lane.drops() == {0: "deadline"}
    assert bench.session.credits == CREDITS["realtime"]
    check_sums(bench)


@on_a_loop
@pytest.mark.parametrize(
    ("mode", "waited_s", "step_s", "is_taken"),
    [
        ("realtime", 70, 20, True),
        ("realtime", 70, 40, False),
        ("realtime", 40, 600, True),  # half of its time is a frame's whatever steps take
        ("realtime", 60, 600, False),
        ("lossless", 70, 600, True),
    ],
)
async def test_a_frame_is_not_begun_that_would_end_too_late(
    mode: str, waited_s: float, step_s: float, is_taken: bool
) -> None:
    bench = Bench(mode=mode, deadline_ms=100_000)
    before_s = time.monotonic()
    bench.send(0)
    passed_s = time.monotonic() - before_s
    assert passed_s < 5
    begun = bench.begin(before_s + waited_s, step_s)
    assert (begun is not None) == is_taken
    await bench.lane.read()
    assert bench.lane.drops() == ({} if is_taken else {0: "deadline"})
    check_sums(bench)


@on_a_loop
async def test_without_a_deadline_old_frames_are_an_overload_but_never_in_lossless() -> None:
    late_s = time.monotonic() + 1000
    bench = Bench()
    bench.send(0)
    assert bench.begin(late_s) is None
    await bench.lane.read()
    assert bench.lane.drops() == {0: "overload"}
    patient = Bench(mode="lossless", deadline_ms=1)
    patient.send(0)
    assert patient.begin(late_s) is not None


@on_a_loop
async def test_the_limit_of_frames_a_second_holds() -> None:
    bench = Bench(limit_fps=5.0)
    for seq in range(12):
        bench.send(seq)
        bench.work()
    await bench.lane.read()
    assert set(bench.lane.drops().values()) == {"overload"}
    assert 5 <= len(bench.lane.results) <= 8
    check_sums(bench)


@on_a_loop
async def test_a_frame_that_cannot_be_decoded_fails_alone() -> None:
    bench = Bench(mode="lossless")
    bench.send(0)
    bench.send(1, [GivenObject(1)])
    bench.send(2, width=10)
    bench.send(3)
    while bench.work():
        pass
    await bench.lane.read()
    assert bench.lane.drops() == {1: "decode_error", 2: "decode_error"}
    assert [each.header.seq for each in bench.lane.results] == [0, 3]
    assert bench.lane.results[1].meta.dropped == 2
    assert bench.lane.results[1].meta.frame_gap == 3  # the model is told the true gap
    check_sums(bench)


@on_a_loop
async def test_a_reset_drops_what_waits_and_forgets_at_once() -> None:
    bench = Bench(mode="lossless")
    bench.send(0)
    bench.work()
    bench.send(1)
    bench.session.reset(Reset("again"))
    assert bench.session.memory.state is None
    bench.send(7, width=80, height=60)  # of another size
    bench.work()
    await bench.lane.read()
    assert bench.lane.drops() == {1: "reset"}
    assert bench.lane.all(PromptAck) == [PromptAck("again", 2)]
    assert [each.header.width for each in bench.lane.results] == [64, 80]
    assert bench.session.credits == CREDITS["lossless"]
    check_sums(bench)


@on_a_loop
async def test_a_reset_that_is_sent_again_is_answered_and_forgets_nothing() -> None:
    bench = Bench()
    bench.send(0)
    bench.work()
    bench.session.reset(Reset("x"))
    bench.send(1)
    bench.work()
    bench.session.reset(Reset("x"))
    await bench.lane.read()
    assert bench.lane.all(PromptAck) == [PromptAck("x", 1), PromptAck("x", 1)]
    assert bench.session.memory.state is not None


@on_a_loop
async def test_a_reset_during_a_step_takes_hold_after_it() -> None:
    bench = Bench(mode="lossless")
    bench.send(0)
    begun = bench.begin()
    assert begun is not None
    bench.session.reset(Reset("r"))
    bench.finish(begun)
    assert bench.session.memory.state is None
    await bench.lane.read()
    assert [each.header.seq for each in bench.lane.results] == [0]
    assert bench.lane.all(PromptAck) == [PromptAck("r", 1)]


@on_a_loop
async def test_a_reset_forgets_the_orders_of_a_frame_that_fails() -> None:
    bench = Bench(mode="lossless")
    bench.session.order(Remove((1,), "before"))
    bench.send(0, [GivenObject(1)])
    begun = bench.begin()
    assert begun is not None
    bench.session.reset(Reset("r"))
    bench.finish(begun)
    bench.send(1)
    bench.work()
    await bench.lane.read()
    assert bench.lane.all(PromptAck) == [PromptAck("r", 1)]


@on_a_loop
async def test_a_removal_takes_effect_with_the_next_good_frame() -> None:
    bench = Bench(mode="lossless")
    bench.send(0, [given(1, box(1, 1, 9, 9)), given(2, box(20, 1, 9, 9))])
    bench.work()
    bench.session.order(Remove((2, 2, 2**70), "gone"))
    bench.send(1, [GivenObject(1)])
    bench.work()
    bench.send(2)
    bench.work()
    await bench.lane.read()
    assert bench.lane.all(PromptAck) == [PromptAck("gone", 2)]
    assert [each.track_id for each in bench.lane.results[-1].meta.objects] == [1]


@on_a_loop
async def test_a_prompt_is_bound_to_a_frame() -> None:
    bench = Bench(mode="lossless", masks="given")
    bench.session.order(PromptMessage((PromptObject(1, box=(0, 0, 9, 9)),), at=2, id="p"))
    for seq in range(4):
        bench.send(seq)
        bench.work()
    await bench.lane.read()
    (answer,) = bench.lane.all(PromptAck)
    assert (answer.id, answer.effective_seq) == ("p", 2)
    assert "takes no prompts" in answer.error
    assert len(bench.lane.results) == 4


@on_a_loop
async def test_orders_are_bounded() -> None:
    bench = Bench(max_objects=2)
    bench.session.order(Remove((1, 2, 3), "many"))
    await bench.lane.read()
    assert bench.lane.all(PromptAck) == [PromptAck("many", -1, "3 objects, limit 2 (max_objects)")]
    for _ in range(MAX_ORDERS):
        bench.session.order(Remove((1,)))
    with pytest.raises(CloseStream, match="64 prompts wait already, the limit"):
        bench.session.order(Remove((1,)))
    other = Bench()
    other.session.order(Remove((1,)), 700_000)
    with pytest.raises(CloseStream, match="1400000 characters of prompts wait, limit 1048576"):
        other.session.order(Remove((1,)), 700_000)


@on_a_loop
async def test_a_lane_that_is_full_holds_the_stream_up_until_results_are_acknowledged() -> None:
    bench = Bench()
    seq = 0
    bench.session.acknowledge(Ack(-1))  # a client that acknowledges
    while bench.session.outbox.has_room:
        bench.send(seq)
        bench.work()
        seq += 1
    assert seq == bench.session.terms.limits.unacked_results
    offered = bench.offered
    bench.send(seq)
    bench.send(seq + 1)
    assert bench.offered == offered
    bench.session.acknowledge(Ack(3))
    assert bench.offered == offered + 1
    check_sums(bench)


@on_a_loop
async def test_the_end_waits_for_the_frames_that_are_there() -> None:
    bench = Bench(mode="lossless")
    for seq in range(3):
        bench.send(seq)
    bench.session.end()
    assert bench.session.leaves_as is None
    while bench.work():
        pass
    await bench.lane.read()
    assert bench.lane.closed is not None
    assert bench.lane.closed.code == CloseCode.NORMAL
    (goodbye,) = bench.lane.all(Bye)
    assert goodbye.reason == "end"
    assert (goodbye.counters.frames, goodbye.counters.results) == (3, 3)
    assert goodbye.counters.waiting == 0
    assert bench.session.leaves_as == "ended"


@on_a_loop
async def test_a_stream_that_ended_while_its_client_was_away_says_goodbye_when_it_is_back() -> None:
    bench = Bench(mode="lossless")
    bench.send(0)
    bench.session.end()
    bench.session.detach()
    bench.work()
    again = bench.attach()
    await again.read()
    assert [each.header.seq for each in again.results] == [0]
    assert [each.reason for each in again.all(Bye)] == ["end"]


@on_a_loop
async def test_drops_and_results_that_have_not_arrived_are_told_again() -> None:
    bench = Bench()
    for seq in (0, 1):
        bench.send(seq)
    bench.work()
    bench.session.detach()
    again = bench.attach(last_result=-1)
    await again.read()
    assert again.drops() == {0: "superseded"}
    assert [each.header.seq for each in again.results] == [1]
    later = bench.attach(last_result=1)
    await later.read()
    assert not later.drops()
    assert not later.results


@on_a_loop
async def test_credits_of_a_new_connection_leave_room_for_what_waits() -> None:
    bench = Bench(mode="lossless")
    for seq in range(3):
        bench.send(seq)
    bench.session.detach()
    again = bench.attach()
    assert bench.session.credits == 1
    while bench.work():
        pass
    await again.read()
    assert sum(each.n for each in again.all(Credit)) == 3
    assert bench.session.credits == CREDITS["lossless"]


@on_a_loop
async def test_delta_leaves_out_what_is_unchanged_but_not_in_a_first_result() -> None:
    still = [given(1, box(5, 5, 12, 12))]
    bench = Bench(mode="lossless", delta=True)
    for seq in range(3):
        bench.send(seq, still)
        bench.work()
    await bench.lane.read()
    assert [each.meta.objects[0].unchanged for each in bench.lane.results] == [False, True, True]
    bench.session.detach()
    again = bench.attach(last_result=2)
    bench.send(3, [GivenObject(1)])  # fails, and must not use the full result up
    bench.work()
    for seq in (4, 5):
        bench.send(seq, still)
        bench.work()
    await again.read()
    assert [each.meta.objects[0].unchanged for each in again.results] == [False, True]


@on_a_loop
async def test_an_internal_error_ends_the_connection_and_is_accounted_for() -> None:
    bench = Bench()
    bench.send(0)
    begun = bench.begin()
    assert begun is not None
    bench.session.deliver(Done(0, None, "internal error", begun.memory, (), is_internal=True))
    await bench.lane.read()
    assert bench.lane.closed is not None
    assert bench.lane.closed.code == CloseCode.INTERNAL
    check_sums(bench)
