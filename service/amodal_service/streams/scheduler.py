"""Which frames are worked on next, over all streams of the process.

One scheduler a device. Streams with a frame to work on wait in it; threads take the most urgent
(earliest deadline first), at most one frame a stream, together as many objects as one step of the
model should hold. Everything else that wants the model waits for a lull (`amodal_service.gate`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import structlog

from amodal_model.stream import AmodalSegmenter
from amodal_service.gate import Gate
from amodal_service.streams.frame_work import Done, Task, work_on

_log = structlog.get_logger()


class Waiting(Protocol):
    """A stream as the scheduler sees it; called from its threads."""

    def due_s(self) -> float:
        """Return when the frame that waits should be done; infinity: none waits."""
        ...

    def take(self, now_s: float, step_s: float) -> Task | None:
        """Return the frame to work on now; until `give` the stream has no other.

        Args:
            now_s: the monotonic clock.
            step_s: how long the step with it is likely to take.
        """
        ...

    def objects(self) -> int:
        """Return how many objects a step is likely to have."""
        ...


_SMOOTHING = 0.2
"""Weight of the latest batch in the time that an object is thought to take."""

Batch = Sequence[tuple[Waiting, Task]]
Deliver = Callable[[list[tuple[Any, Done]]], None]


class Scheduler:
    """Works on the frames of all streams, in threads of its own.

    Args:
        segmenter: of all streams.
        gate: closed to other work while a frame waits or is worked on.
        deliver: is given what came of each frame, in a thread of the scheduler.
        threads: that work.
        batch_objects: objects that one step should hold.
    """

    def __init__(
        self,
        segmenter: AmodalSegmenter,
        gate: Gate,
        deliver: Deliver,
        *,
        threads: int,
        batch_objects: int,
    ) -> None:
        self._segmenter = segmenter
        self._gate = gate
        self._deliver = deliver
        self._batch_objects = batch_objects
        self._changed = threading.Condition()
        self._waiting: dict[int, Waiting] = {}
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._run, name=f"amodal-streams-{index}", daemon=True)
            for index in range(threads)
        ]
        self._object_s = 0.0

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Finish what is worked on, and end."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def offer(self, stream: Waiting) -> None:
        """Let a stream with a frame that waits take part; once is as good as many times."""
        with self._changed:
            if id(stream) in self._waiting:
                return
            self._waiting[id(stream)] = stream
            self._gate.enter()
            self._changed.notify()

    def withdraw(self, stream: Waiting) -> None:
        """Forget a stream that waits."""
        with self._changed:
            if self._waiting.pop(id(stream), None) is not None:
                self._gate.leave()

    @property
    def depth(self) -> int:
        """How many streams wait."""
        return len(self._waiting)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_stopping)
                if self._is_stopping:
                    return
                batch, taken = self._take()
            try:
                if batch:
                    self._work(batch)
            finally:
                for _ in range(taken):
                    self._gate.leave()

    def _take(self) -> tuple[list[tuple[Waiting, Task]], int]:
        """Take the most urgent frames out; a thread leaves others what it need not have.

        No more of them than are likely to be done by the time the first of them is due: a frame
        that is in time alone is not made late by those that go with it.
        """
        now_s = time.monotonic()
        due_s = {id(each): each.due_s() for each in self._waiting.values()}
        urgent = sorted(self._waiting.values(), key=lambda each: due_s[id(each)])
        left_s = min((due - now_s for due in due_s.values() if due > now_s), default=math.inf)
        share = -(-len(urgent) // len(self._threads))
        batch: list[tuple[Waiting, Task]] = []
        objects = taken = 0
        for stream in urgent:
            if batch and (objects >= self._batch_objects or len(batch) >= share):
                break
            if batch and (objects + stream.objects()) * self._object_s > left_s:
                break
            del self._waiting[id(stream)]
            taken += 1
            task = stream.take(now_s, (objects + stream.objects()) * self._object_s)
            if task is not None:
                batch.append((stream, task))
                objects += stream.objects()
        return batch, taken

    def _work(self, batch: Batch) -> None:
        streams = [stream for stream, _ in batch]
        tasks = [task for _, task in batch]
        objects = sum(stream.objects() for stream in streams)
        began_s = time.monotonic()
        try:
            done = work_on(tasks, self._segmenter)
        except Exception as error:
            _log.error("stream_step_failed", streams=len(tasks), exc_info=error)
            done = [self._alone(task) for task in tasks]
        each_s = (time.monotonic() - began_s) / objects
        self._object_s += _SMOOTHING * (each_s - self._object_s)
        self._deliver(list(zip(streams, done, strict=True)))

    def _alone(self, task: Task) -> Done:
        """Work on one frame of a batch that failed, to find out whose fault it was."""
        try:
            return work_on([task], self._segmenter)[0]
        except Exception as error:
            _log.error("stream_frame_failed", seq=task.frame.header.seq, exc_info=error)
            seq = task.frame.header.seq
            return Done(seq, None, "internal error", task.memory, task.orders, is_internal=True)
