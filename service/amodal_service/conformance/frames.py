"""Checks of frames: one outcome each, order, credits, modes, deadlines, gaps."""

from __future__ import annotations

import itertools
from collections import Counter

from amodal_client.stream_messages import (
    Bye,
    Dropped,
    ErrorMessage,
    GivenObject,
    MaskRle,
    PromptAck,
    Remove,
    Reset,
    Status,
)
from amodal_client.stream_wire import Codec
from amodal_service.conformance.probe import NotSeen, Probe, boxes, require
from amodal_service.conformance.target import Target

LARGE = (640, 480)
"""Frames of many objects that keep a server busy for a while."""
MANY = 16
BURST = 200
PERIOD_NS = 100_000_000
CAUSES = frozenset({"superseded", "deadline", "overload", "decode_error", "drained", "reset"})


def check_accounts(probe: Probe, bye: Bye) -> None:
    """Raise Violation unless every frame has one outcome and the counters say the same."""
    results = [each.header.seq for each in probe.results]
    told = Counter([*results, *probe.dropped])
    missing = [seq for seq in probe.sent if told[seq] == 0]
    twice = [seq for seq in probe.sent if told[seq] > 1]
    require(not missing, f"{len(missing)} frames have no outcome, first {missing[:1]}")
    require(not twice, f"{len(twice)} frames have two outcomes, first {twice[:1]}")
    strange = sorted(set(results) - set(probe.sent))
    require(not strange, f"results of frames that were never sent, first {strange[:1]}")
    _check_order(results)
    causes = {each.cause for each in probe.all(Dropped)}
    require(causes <= CAUSES, f"causes {sorted(causes - CAUSES)} are none")
    counters, dropped = bye.counters, len(probe.dropped)
    require(
        (counters.frames, counters.results, sum(counters.dropped.values()), counters.waiting)
        == (len(probe.sent), len(results), dropped, 0),
        f"bye counts {counters}; {len(probe.sent)} frames were sent, {len(results)} results and "
        f"{dropped} drops came",
    )


def _check_order(results: list[int]) -> None:
    for before, after in itertools.pairwise(results):
        require(before < after, f"result {after} came after {before}")


def lossless_gives_every_result(target: Target) -> None:
    """Lossless: every frame has a result, in order, with its seq, time and size."""
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        for index in range(24):
            probe.frame(3 * index, capture_ns=1000 + PERIOD_NS * index)
        bye = probe.finish()
        check_accounts(probe, bye)
        require(not probe.dropped, f"{len(probe.dropped)} frames were dropped")
        for index, (header, meta) in enumerate(probe.results):
            found = (header.seq, header.capture_ns, header.width, header.height)
            wanted = (3 * index, 1000 + PERIOD_NS * index, 64, 48)
            require(found == wanted, f"result (seq, capture, size) {found}, must be {wanted}")
            ids = [each.track_id for each in meta.objects]
            require({1, 2} <= set(ids), f"result {header.seq} has objects {ids}, sent were 1, 2")
            require(ids == sorted(ids), f"objects {ids} are not in ascending order")


def realtime_accounts_for_every_frame(target: Target) -> None:
    """Realtime: each frame ends as one result or in one drop; bye and results count the same."""
    with target.probe(mode="realtime") as probe:
        probe.welcome()
        for seq in range(60):
            probe.frame(seq, boxes(MANY, seq, LARGE), size=LARGE)
        check_accounts(probe, probe.finish())
        between = sum(meta.dropped for _, meta in probe.results)
        last = max((each.header.seq for each in probe.results), default=-1)
        before = sum(1 for seq in probe.dropped if seq < last)
        require(between == before, f"results tell of {between} drops before them, {before} were")


def realtime_latest_frame_wins(target: Target) -> None:
    """Realtime: a newer frame supersedes one that waits."""
    with target.probe(mode="realtime") as probe:
        probe.welcome()
        for seq in range(BURST):
            probe.frame(seq, boxes(MANY, seq, LARGE), size=LARGE)
            if probe.all(Dropped):
                break
        bye = probe.finish()
        if not probe.dropped:
            raise NotSeen(f"the server was never behind in {BURST} frames")
        causes = {each.cause for each in probe.all(Dropped)}
        require(causes == {"superseded"}, f"dropped as {sorted(causes)}, must be superseded")
        newest = max(each.header.seq for each in probe.results)
        require(newest == probe.sent[-1], f"the newest frame {probe.sent[-1]} has no result")
        check_accounts(probe, bye)


def paced_takes_the_rate_that_was_asked(target: Target) -> None:
    """Paced: frames nearer than 1 / fps by capture time are dropped as superseded."""
    with target.probe(mode="paced", fps=10) as probe:
        probe.welcome()
        for index in range(41):
            probe.frame(index, capture_ns=1 + index * PERIOD_NS // 10)
            probe.hear(lambda: probe.outcomes == len(probe.sent))
        bye = probe.finish()
        check_accounts(probe, bye)
        count = len(probe.results)
        require(4 <= count <= 6, f"{count} results of 4 s at 10 fps in 0.4 s of time, must be 5")
        times = [each.header.capture_ns for each in probe.results]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        require(min(gaps) >= PERIOD_NS // 2, f"results are {min(gaps) / 1e6:.0f} ms apart")


def credit_comes_back(target: Target) -> None:
    """Credits: each frame costs one, and exactly what was spent comes back."""
    for mode in ("realtime", "lossless"):
        with target.probe(mode=mode) as probe:
            start = probe.welcome().credits
            for seq in range(10):
                probe.frame(seq)
            require(
                probe.hear(lambda: probe.credits >= start),  # noqa: B023  called at once
                f"{mode}: {probe.credits} credits came back, {start} were there at the start",
            )
            probe.hear(lambda: False, timeout_s=0.2)
            require(probe.credits == start, f"{mode}: {probe.credits} credits, {start} at start")


def flood_is_warned_then_closed(target: Target) -> None:
    """Frames without credit: warnings, drops as overload, then error and 4429."""
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        for seq in range(BURST):
            objects = boxes(MANY, seq, LARGE)
            probe.frame(seq, objects, size=LARGE, is_credit_awaited=False)
        probe.expect_close(4429, what=f"{BURST} frames at once")
        warnings = [each for each in probe.all(Status) if each.level == "warning"]
        require(bool(warnings), "no warning came before the close")
        require(bool(probe.all(ErrorMessage)), "no error message came before the close")
        causes = {each.cause for each in probe.all(Dropped)}
        require(causes == {"overload"}, f"dropped as {sorted(causes)}, must be overload")


def deadline_drops_late_frames(target: Target) -> None:
    """A frame that waits longer than its deadline is dropped as such."""
    with target.probe(mode="realtime") as probe:
        probe.welcome()
        for turn in range(30):
            probe.frame(2 * turn, boxes(MANY, turn, LARGE), size=LARGE)
            probe.frame(2 * turn + 1, boxes(1, turn, LARGE), size=LARGE, deadline_ms=1)
            probe.hear(lambda: probe.outcomes == len(probe.sent))
            if any(each.cause == "deadline" for each in probe.all(Dropped)):
                break
        bye = probe.finish()
        check_accounts(probe, bye)
        late = [each for each in probe.all(Dropped) if each.cause == "deadline"]
        if not late:
            raise NotSeen("no frame waited for more than 1 ms")
        odd = [seq for each in late for seq in range(each.ranges[0][0], each.ranges[0][1] + 1)]
        require(all(seq % 2 for seq in odd), f"{odd}: frames without deadline were dropped for it")


def lossless_knows_no_deadline(target: Target) -> None:
    """Lossless: a deadline drops nothing."""
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        for seq in range(8):
            probe.frame(seq, boxes(4, seq, LARGE), size=LARGE, deadline_ms=1)
        check_accounts(probe, probe.finish())
        require(not probe.dropped, f"{len(probe.dropped)} frames were dropped")


def undecodable_frame_is_dropped_alone(target: Target) -> None:
    """Bad image, mask or size: dropped as decode_error with the reason; the stream goes on."""
    lies = GivenObject(1, rle=MaskRle((48, 64), "0" * 40), bbox=None)
    outside = GivenObject(1, rle=MaskRle((2, 3), "06"), bbox=(63, 47, 3, 2))
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        probe.frame(0)
        probe.frame(1, codec=Codec.JPEG, payload=b"\xff\xd8 no image")
        probe.frame(2, [lies])
        probe.frame(3, [outside])
        probe.frame(4, size=(32, 24))
        probe.frame(5, [GivenObject(1)])
        probe.frame(6)
        check_accounts(probe, probe.finish())
        results = [each.header.seq for each in probe.results]
        require(results == [0, 6], f"results of {results}, must be of 0 and 6")
        for each in probe.all(Dropped):
            require(each.cause == "decode_error", f"{each.ranges} dropped as {each.cause}")
            require(bool(each.detail), f"{each.ranges} dropped without a detail")


def too_many_objects_are_named(target: Target) -> None:
    """More objects than the limit: dropped as decode_error; the detail names the limit."""
    with target.probe(mode="lossless", max_objects=3) as probe:
        probe.welcome()
        probe.frame(0, boxes(4))
        check_accounts(probe, probe.finish())
        details = [each.detail for each in probe.all(Dropped)]
        require(bool(details), "a frame of 4 objects was taken, limit 3")
        require("3" in details[0], f"the detail does not name the limit 3: {details[0]!r}")


def model_is_told_of_gaps(target: Target) -> None:
    """The model is told the true time between frames."""
    with target.probe(mode="lossless", fps=10) as probe:
        probe.welcome()
        for seq, periods in enumerate((0, 1, 2, 5)):
            probe.frame(seq, capture_ns=1 + PERIOD_NS * periods)
        probe.finish()
        gaps = [meta.frame_gap for _, meta in probe.results][1:]
        wanted = [1.0, 1.0, 3.0]
        require(
            all(abs(a - b) < 0.05 for a, b in zip(gaps, wanted, strict=True)),
            f"frame_gap {gaps}, must be {wanted}",
        )


def removal_and_reset_are_acknowledged(target: Target) -> None:
    """Remove and reset are acknowledged with the frame they took effect on."""
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        probe.frame(10)
        probe.hear(lambda: probe.outcomes == 1)
        probe.say(Remove((2,), "gone"))
        probe.frame(11, boxes(1))
        probe.hear(lambda: probe.outcomes == 2)
        removed = probe.wait_for(PromptAck, "prompt_ack of remove")
        require((removed.id, removed.effective_seq) == ("gone", 11), f"{removed}, expected at 11")
        ids = [each.track_id for each in probe.results[-1].meta.objects]
        require(2 not in ids, f"object 2 was removed, frame 11 has {ids}")
        probe.say(Reset("anew"))
        reset = probe.wait_for(PromptAck, "prompt_ack of reset", 2)
        require(reset.id == "anew", f"{reset}, expected id 'anew'")
        probe.frame(12, [])
        check_accounts(probe, probe.finish())
        left = probe.results[-1].meta.objects
        require(not left, f"{len(left)} objects after a reset")


FRAMES = (
    lossless_gives_every_result,
    realtime_accounts_for_every_frame,
    realtime_latest_frame_wins,
    paced_takes_the_rate_that_was_asked,
    credit_comes_back,
    flood_is_warned_then_closed,
    deadline_drops_late_frames,
    lossless_knows_no_deadline,
    undecodable_frame_is_dropped_alone,
    too_many_objects_are_named,
    model_is_told_of_gaps,
    removal_and_reset_are_acknowledged,
)
