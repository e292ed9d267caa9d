"""A user's interrupt, in the middle of a run."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from amodal_service.progress import Advance, Reporter


class StoppingReporter(Reporter):
    """Interrupts the run after some frames, never by default, and keeps what was said.

    Attributes:
        text: the lines so far.
    """

    def __init__(self, after: int | None = None) -> None:
        self.text = io.StringIO()
        super().__init__(Console(file=self.text, width=400))
        self._left = after

    @contextmanager
    def bar(self, label: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        yield self._advance

    def _advance(self, count: int) -> None:
        if self._left is not None:
            self._left -= count
            if self._left <= 0:
                raise KeyboardInterrupt
