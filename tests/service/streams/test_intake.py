"""Which frames are taken in: credit, floods, the rate, and the pace of a camera."""

from __future__ import annotations

import pytest

from amodal_client.stream_wire import Header, Op
from amodal_service.streams.intake import CREDITS, FLOOD, Intake
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream


def captured(capture_ns: int) -> Header:
    return Header(Op.FRAME, 1, capture_ns)


def test_no_more_credit_comes_back_than_was_paid() -> None:
    intake = Intake(StreamOptions(mode="lossless"), 0.0, -1)
    assert [intake.pay() for _ in range(5)] == [True] * 4 + [False]
    assert intake.pay_back(3) == 3
    assert intake.pay_back(3) == 1
    assert intake.credits == CREDITS["lossless"]


def test_a_new_connection_has_the_credit_that_no_frame_holds_and_no_flood() -> None:
    intake = Intake(StreamOptions(mode="lossless"), 0.0, -1)
    for held, left in ((1, 3), (9, 0)):
        for seq in range(FLOOD - 1):
            intake.warning(seq)
        intake.begin(held)
        assert intake.credits == left
    for seq in range(FLOOD - 1):
        intake.warning(seq)
    with pytest.raises(CloseStream, match="8 frames were sent without credit, limit 4 at a time"):
        intake.warning(FLOOD)


def test_a_second_s_frames_may_come_at_once_and_then_one_a_period() -> None:
    intake = Intake(StreamOptions(), 4.0, -1)

    def taken(now_s: float) -> int:
        return sum(intake.refusal(captured(0), now_s) is None for _ in range(9))

    assert [taken(now_s) for now_s in (10.0, 10.125, 10.25, 11.0, 99.0)] == [5, 0, 1, 3, 5]
    assert intake.refusal(captured(0), 99.0) == ("overload", "limit 4 frames a second")


def test_the_pace_goes_by_the_frames_that_were_taken_and_by_a_clock_that_may_begin_again() -> None:
    intake = Intake(StreamOptions(mode="paced", fps=10), 0.0, -1)
    times_ms = (1000, 1040, 1074, 1075, 1100, 0, 1149, 200, 260, 275)
    refusals = [intake.refusal(captured(ms * 1_000_000), 1.0) for ms in times_ms]
    taken = [ms for ms, refusal in zip(times_ms, refusals, strict=True) if refusal is None]
    assert taken == [1000, 1075, 0, 200, 275]
    assert {refusal for refusal in refusals if refusal} == {("superseded", "")}
