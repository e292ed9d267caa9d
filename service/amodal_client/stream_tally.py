"""How the frames of a stream ended, and how long their results took."""

from __future__ import annotations

import math
from collections import Counter, deque

import numpy as np

from amodal_client.stream_events import Latency, Totals

_LATENCIES = 4096
"""Latest results that latencies are told of."""


class Tally:
    """Counts over all connections of a stream.

    Attributes:
        captured: frames that were given.
        results: results that arrived.
        dropped: frames by the cause that they were dropped for.
        resumes: by kind.
    """

    def __init__(self) -> None:
        self.captured = 0
        self.results = 0
        self.dropped: Counter[str] = Counter()
        self.resumes: Counter[str] = Counter()
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)

    def measure(self, seconds: float) -> float:
        """Note the time from a frame to its result; return it in milliseconds."""
        latency_ms = round(1000 * seconds, 3)
        self._latencies_ms.append(latency_ms)
        return latency_ms

    def latency(self) -> Latency:
        """Return the time from sending a frame to its result, over the latest results."""
        if not self._latencies_ms:
            return Latency(0, math.nan, math.nan, math.nan)
        found = np.percentile(np.fromiter(self._latencies_ms, float), (50, 95, 99))
        return Latency(len(self._latencies_ms), *(round(float(each), 3) for each in found))

    def totals(self, *, lost: int, waiting: int) -> Totals:
        """Return how all captured frames ended so far.

        Args:
            lost: frames that were given up without an outcome.
            waiting: frames that still have none.
        """
        return Totals(
            self.captured, self.results, dict(self.dropped), lost, waiting, dict(self.resumes)
        )
