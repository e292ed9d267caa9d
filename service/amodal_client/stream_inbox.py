"""Events of a stream until its reader takes them; what waits is bounded."""

from __future__ import annotations

from collections import deque

from amodal_client.stream_events import FramesDropped, SeqRange, StreamEvent, runs_of

_EVENT_BYTES = 128
_RANGE_BYTES = 32


class Inbox:
    """Events that wait to be read, oldest first.

    Args:
        room_bytes: of events that may wait; with more the stream takes nothing until some are read.

    Attributes:
        waiting_bytes: of those that wait, about.
    """

    def __init__(self, room_bytes: int) -> None:
        self.waiting_bytes = 0
        self._room_bytes = room_bytes
        self._events: deque[tuple[StreamEvent, int]] = deque()

    @property
    def is_overfull(self) -> bool:
        """Whether more waits than there is room for."""
        return self.waiting_bytes > self._room_bytes

    def take(self) -> StreamEvent | None:
        """Return the oldest event that was not taken yet; None where there is none."""
        if not self._events:
            return None
        event, cost = self._events.popleft()
        self.waiting_bytes -= cost
        return event

    def tell(self, event: StreamEvent, cost: int = _EVENT_BYTES) -> None:
        """Keep an event that takes about so many bytes."""
        self._events.append((event, cost))
        self.waiting_bytes += cost

    def tell_dropped(self, seqs: list[int], event: FramesDropped) -> None:
        """Tell of drops, with those told of just before; not where nobody reads.

        Args:
            seqs: of the frames, ascending.
            event: cause and detail; its ranges are not used.
        """
        if self.is_overfull:
            return
        ranges = runs_of(seqs)
        last = self._events[-1] if self._events else None
        if (
            last is not None
            and isinstance(last[0], FramesDropped)
            and (last[0].cause, last[0].detail) == (event.cause, event.detail)
        ):
            self._events.pop()
            self.waiting_bytes -= last[1]
            ranges = _joined(last[0].ranges, ranges)
        merged = FramesDropped(ranges, event.cause, event.detail)
        self.tell(merged, _EVENT_BYTES + _RANGE_BYTES * len(ranges))


def _joined(before: tuple[SeqRange, ...], after: tuple[SeqRange, ...]) -> tuple[SeqRange, ...]:
    if before[-1][1] + 1 == after[0][0]:
        return (*before[:-1], (before[-1][0], after[0][1]), *after[1:])
    return (*before, *after)
