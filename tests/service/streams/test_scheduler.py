"""Which frames go first, what goes together, and what an exception of one costs the others."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import numpy as np
from live_streams import box, given, incoming, plain_segmenter, task
from service_processes import wait_until
from structlog.testing import capture_logs

from amodal_model.memory import StepInputs
from amodal_model.stream_state import new_state
from amodal_service.gate import Gate, StreamsFirst
from amodal_service.streams.frame_work import Done, Task
from amodal_service.streams.scheduler import Scheduler


class Stream:
    """A stream with frames that wait, each with a time to start."""

    def __init__(self, name: str, due: list[float], objects: int = 1) -> None:
        self.name = name
        self.due = due
        self.count = objects
        self.is_busy = False
        self.busy_twice = False

    def due_s(self) -> float:
        return self.due[0] if self.due else math.inf

    def objects(self) -> int:
        return self.count

    def take(self, now_s: float, step_s: float) -> Task | None:
        self.busy_twice |= self.is_busy
        if not self.due:
            return None
        self.is_busy = True
        self.due.pop(0)
        shown = [given(key, box(2 + 3 * key, 2, 5, 5)) for key in range(self.count)]
        return task(incoming(len(self.due), shown))


class Work:
    """A scheduler whose outcomes are kept."""

    def __init__(self, gate: Gate | None = None, failing: tuple[int, ...] = (), **wanted: int):
        self.done: list[list[tuple[Stream, Done]]] = []
        self.gate = gate or Gate()
        self.segmenter = plain_segmenter(failing=failing)
        sizes = {"threads": 1, "batch_objects": 16} | wanted
        self.scheduler = Scheduler(self.segmenter, self.gate, self._deliver, **sizes)

    def _deliver(self, done: list[tuple[Any, Done]]) -> None:
        for stream, _ in done:
            stream.is_busy = False
        self.done.append(done)
        for stream, _ in done:
            if stream.due:
                self.scheduler.offer(stream)

    def run(self, *streams: Stream) -> list[list[str]]:
        """Work until nothing waits; return the names in each batch."""
        frames = sum(len(stream.due) for stream in streams)
        for stream in streams:
            self.scheduler.offer(stream)
        self.scheduler.start()
        wait_until(lambda: sum(len(each) for each in self.done) == frames)
        self.scheduler.stop()
        return [[stream.name for stream, _ in each] for each in self.done]


def test_the_earliest_deadline_goes_first() -> None:
    names = Work(batch_objects=1).run(Stream("c", [3.0]), Stream("a", [1.0]), Stream("b", [2.0]))
    assert names == [["a"], ["b"], ["c"]]


def test_frames_of_many_streams_go_together_but_one_of_each() -> None:
    streams = [Stream(name, [1.0, 2.0, 3.0]) for name in "abcd"]
    batches = Work().run(*streams)
    assert batches[0] == ["a", "b", "c", "d"]
    assert all(len(set(names)) == len(names) for names in batches)
    assert not any(stream.busy_twice for stream in streams)


def test_a_batch_holds_as_many_objects_as_it_should() -> None:
    work = Work(batch_objects=8)
    work.run(*(Stream(str(index), [float(index)], objects=4) for index in range(6)))
    assert work.segmenter.engine.steps == [8, 8, 8]  # type: ignore[attr-defined]
    large = Work(batch_objects=2)
    assert large.run(Stream("a", [1.0], objects=5)) == [["a"]]


def test_a_frame_is_not_made_late_by_those_that_go_with_it() -> None:
    work = Work()
    work.run(*(Stream(str(index), [1.0]) for index in range(4)))  # learns what an object takes
    scheduler = work.scheduler
    scheduler._object_s = 10.0
    soon = time.monotonic() + 25.0
    for name, due in (("a", soon), ("b", soon + 1), ("c", soon + 2), ("late", 1.0)):
        scheduler.offer(Stream(name, [due]))
    batches = []
    while scheduler.depth:
        batch, _ = scheduler._take()
        batches.append([stream.name for stream, _ in batch])  # type: ignore[attr-defined]
    assert batches == [["late", "a"], ["b", "c"]]


def test_a_stream_that_is_offered_twice_is_taken_once() -> None:
    work = Work()
    stream = Stream("a", [1.0])
    work.scheduler.offer(stream)
    assert work.run(stream) == [["a"]]
    assert work.gate.wait(0)


def test_a_stream_that_has_left_is_not_worked_on() -> None:
    work = Work()
    gone = Stream("gone", [1.0])
    work.scheduler.offer(gone)
    work.scheduler.withdraw(gone)
    work.scheduler.withdraw(gone)
    assert work.scheduler.depth == 0
    assert work.gate.wait(0)
    assert work.run(Stream("a", [1.0])) == [["a"]]


def test_a_step_that_breaks_is_made_again_one_by_one() -> None:
    work = Work(failing=(4, 3))
    with capture_logs() as logs:
        work.run(Stream("good", [1.0], objects=1), Stream("bad", [2.0], objects=3))
    assert [each["event"] for each in logs] == ["stream_step_failed", "stream_frame_failed"]
    (done,) = work.done
    outcomes = {stream.name: each for stream, each in done}
    assert outcomes["good"].packet is not None
    assert outcomes["bad"].packet is None
    assert outcomes["bad"].is_internal
    assert outcomes["bad"].error == "internal error"  # what broke stays in our log
    assert work.gate.wait(0)


def test_threads_share_what_waits() -> None:
    streams = [Stream(str(index), [1.0, 2.0]) for index in range(8)]
    work = Work(threads=2)
    batches = work.run(*streams)
    assert max(len(names) for names in batches) == 4
    assert not any(stream.busy_twice for stream in streams)


# The gate ---------------------------------------------------------------------------------------


def other_step(gate: Gate) -> float:
    """Make a step of other work; return how long it waited, seconds."""
    engine = StreamsFirst(plain_segmenter().engine, gate)
    crop, theta = np.zeros((0, 3, 96, 96), np.float32), np.zeros((0, 2, 3), np.float32)
    inputs = StepInputs(crop, theta, np.zeros((0, 6), np.float32))
    began_s = time.perf_counter()
    engine.step(inputs, new_state((48, 64)).memory)
    return time.perf_counter() - began_s


def test_other_work_goes_on_at_once_where_no_stream_waits() -> None:
    assert other_step(Gate()) < 0.2


def test_other_work_waits_for_a_lull_but_not_for_ever() -> None:
    gate = Gate()
    gate.enter()
    assert other_step(gate) >= 0.25
    threading.Timer(0.05, gate.leave).start()
    assert gate.wait(20.0)
    gate.enter()
    assert not gate.wait(0.01)


def test_the_gate_is_open_after_every_frame() -> None:
    work = Work(failing=(2, 4))
    with capture_logs():
        work.run(Stream("a", [1.0]), Stream("b", [2.0], objects=2), Stream("c", [3.0]))
    assert work.gate.wait(1.0)
