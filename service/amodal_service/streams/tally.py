"""How the frames of a stream ended: their counts, and the drops that a client is told of again."""

from __future__ import annotations

from collections import Counter, deque

from amodal_client.stream_messages import Counters, DropCause, Dropped
from amodal_service.streams.metrics import FRAMES
from amodal_service.streams.snapshots import Leftovers

MAX_TOLD = 128
"""Latest drops that a client is told of again after a resume."""


class Tally:
    """Counts over all connections of one stream.

    Args:
        carried: what was stored of them.

    Attributes:
        frames: accepted so far.
    """

    def __init__(self, carried: Leftovers) -> None:
        self.frames = carried.frames
        self._results = carried.answered
        self._dropped: Counter[str] = Counter(carried.dropped)
        self._told: deque[Dropped] = deque(carried.told, maxlen=MAX_TOLD)

    def count_result(self) -> None:
        """Count a frame that has a result."""
        self._results += 1
        FRAMES.labels("result").inc()

    def count_drop(self, seq: int, cause: DropCause, detail: str) -> Dropped:
        """Count a frame that has none; return what its client is told."""
        self._dropped[cause] += 1
        FRAMES.labels(cause).inc()
        message = Dropped(((seq, seq),), cause, detail)
        self._told.append(message)
        return message

    def told_after(self, seq: int) -> list[Dropped]:
        """Return the latest drops of frames after one."""
        return [message for message in self._told if message.ranges[0][0] > seq]

    def leftovers(self, seq: int, results: tuple[tuple[int, bytes], ...]) -> Leftovers:
        """Return what must be stored with a memory.

        Args:
            seq: of the last frame in it; the client sends those after it again.
            results: that are kept.
        """
        later = self.told_after(seq)
        told = tuple(message for message in self._told if message not in later)
        dropped = self._dropped - Counter(message.cause for message in later)
        frames = self._results + dropped.total()
        return Leftovers(results, told, frames, self._results, dict(dropped))

    def counters(self, waiting: int) -> Counters:
        """Return how the accepted frames ended, of which some wait."""
        return Counters(self.frames, self._results, dict(self._dropped), waiting)
