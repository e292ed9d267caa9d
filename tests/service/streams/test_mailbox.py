"""What waits of a stream: whose turn it is, what a frame takes along, and threads that meet."""

from __future__ import annotations

import threading
import time
from typing import Any

from live_streams import frame_packet
from service_processes import wait_until

from amodal_client.stream_messages import FrameMeta, Remove
from amodal_service.streams.frame_work import Order
from amodal_service.streams.mailbox import Mailbox, Taken
from amodal_service.streams.options import StreamOptions

META = FrameMeta()


class Box(Mailbox):
    """A mailbox that counts how often there was news."""

    def __init__(self, **options: Any) -> None:
        self.woken = 0
        super().__init__(StreamOptions(**options), 5.0, self._count)

    def _count(self) -> None:
        self.woken += 1

    def send(self, seq: int, now_s: float = 0.0) -> None:
        self.put(frame_packet(seq), META, now_s)

    def take_next(self, seq: int) -> Taken:
        self.send(seq)
        taken = self.take(0.0, 0.0)
        assert taken is not None
        return taken


def removal(name: str) -> Order:
    return Order(Remove((1,), name), -1)


def test_a_frame_that_supersedes_another_takes_its_turn_and_not_that_of_one_taken() -> None:
    box = Box()
    box.send(0, 1.0)
    assert box.empty() == [0]
    box.send(1, 3.0)
    assert box.due_s() == 6.0
    taken = box.take(4.0, 0.0)
    assert taken is not None
    assert taken.frame.due_s == 8.0
    box.finish()
    box.send(2, 5.0)
    assert box.due_s() == 10.0


def test_a_late_frame_is_news_and_told_with_the_frame_behind_it() -> None:
    box = Box(deadline_ms=100)
    box.send(0, 1.0)
    box.send(1, 2.0)
    taken = box.take(2.0, 0.02)
    assert taken is not None
    assert (taken.frame.header.seq, taken.dropped) == (1, 1)
    detail = "it waited 1000 ms, its step takes about 20 ms"
    assert box.waiting == 2  # the late one has not been dropped yet
    assert box.news() == (2, [(0, "deadline", detail)])
    assert box.news() == (0, [])
    assert (box.woken, box.waiting) == (1, 1)


def test_drops_are_told_of_until_there_is_a_result_that_tells() -> None:
    box = Box(mode="lossless")
    told = []
    for seq in range(4):
        box.count_drop()
        told.append(box.take_next(seq).dropped)
        box.count_drop()
        if seq == 1:
            box.finish()
        else:
            box.fail(())
    assert told == [1, 3, 2, 4]


def test_orders_of_a_frame_that_failed_go_with_the_next_before_later_ones() -> None:
    box = Box()
    box.order(removal("a"))
    first = box.take_next(0)
    for name in "bb":  # the second is the first, sent again
        box.order(removal(name))
    box.fail(first.orders)
    second = box.take_next(1)
    assert [order.message.id for order in second.orders] == ["a", "b"]
    assert second.is_full
    assert not box.has_orders
    box.finish()
    assert not box.take_next(2).is_full


def test_one_frame_is_worked_on_at_a_time_and_a_thread_that_comes_too_early_wakes_nobody() -> None:
    box = Box(mode="lossless")
    for seq in range(2):
        box.send(seq)
    assert box.take(0.0, 0.0) is not None
    assert box.take(0.0, 0.0) is None
    assert box.woken == 0  # the credit goes with the result: another frame waits
    assert not box.is_ready
    box.finish()
    assert box.is_ready


def test_each_frame_is_taken_or_let_go_of_once_whatever_threads_do() -> None:
    box = Box()
    taken: list[int] = []
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(1e-5):
            one = box.take(0.0, 0.0)
            if one is not None:
                taken.append(one.frame.header.seq)
                box.finish()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    gone = []
    for seq in range(300):
        gone += box.empty()
        box.send(seq)
        time.sleep(1e-5 * (seq % 7))
    wait_until(lambda: not box.waiting)
    is_over.set()
    for thread in threads:
        thread.join()
    assert sorted(taken + gone) == list(range(300))
    assert taken == sorted(taken)  # never two at a time
    assert box.news() == (len(taken), [])
