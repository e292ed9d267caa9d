"""The command line in this process, as the fixture ``amodal`` runs it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import pytest

from amodal_service import cli


class Ran(NamedTuple):
    """What came of a command: its exit status, and what it printed."""

    code: int
    out: str
    err: str


Run: TypeAlias = Callable[..., Ran]
"""Takes the words after ``amodal``."""


def run_command(
    words: Sequence[object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ran:
    """Run ``amodal`` and return what came of it."""
    monkeypatch.setattr(sys, "argv", ["amodal", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return Ran(int(ended.value.code or 0), *capsys.readouterr())
