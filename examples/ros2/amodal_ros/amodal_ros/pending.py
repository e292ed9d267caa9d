"""Frames whose result has not come: their headers, and their images to draw on."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pending(Generic[T]):
    """What is kept of a frame until its result comes, by its number; the oldest go first."""

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._kept: OrderedDict[int, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, seq: int, value: T) -> None:
        """Keep what is known of a frame."""
        self._kept[seq] = value
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def take(self, seq: int) -> T | None:
        """Return what is known of a frame, and let go of it."""
        return self._kept.pop(seq, None)

    def drop(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Let go of frames that get no result; ranges have both ends included."""
        spans = list(ranges)
        gone = [seq for seq in self._kept if any(a <= seq <= b for a, b in spans)]
        for seq in gone:
            del self._kept[seq]
