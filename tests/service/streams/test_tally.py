"""How frames ended: what is told again, and what a stored memory goes on from."""

from __future__ import annotations

from amodal_client.stream_messages import Counters
from amodal_service.streams.snapshots import Leftovers
from amodal_service.streams.tally import MAX_TOLD, Tally


def test_frames_after_a_stored_memory_are_left_out_as_they_come_again() -> None:
    tally = Tally(Leftovers())
    tally.frames = 6
    for _ in range(2):
        tally.count_result()
    early, late = (tally.count_drop(seq, "overload", "") for seq in (3, 5))
    last = tally.count_drop(6, "deadline", "")
    kept = ((4, b"result"),)
    left = tally.leftovers(4, kept)
    assert left == Leftovers(kept, (early,), 3, 2, {"overload": 1})
    assert tally.told_after(4) == [late, last]
    assert tally.counters(1) == Counters(6, 2, {"overload": 2, "deadline": 1}, 1)
    again = Tally(left)
    assert again.counters(0) == Counters(3, 2, {"overload": 1})
    assert again.told_after(2) == [early]


def test_all_drops_are_counted_and_the_latest_told_again() -> None:
    tally = Tally(Leftovers())
    told = [tally.count_drop(seq, "superseded", "") for seq in range(MAX_TOLD + 5)]
    assert tally.told_after(-1) == told[5:]
    assert tally.counters(0).dropped == {"superseded": MAX_TOLD + 5}
