"""Lines always, bars on terminals only."""

import io

from rich.console import Console

from amodal_service.progress import Reporter


def _run(*, terminal: bool) -> str:
    out = io.StringIO()
    reporter = Reporter(Console(file=out, force_terminal=terminal, width=80))
    with reporter.bar("segmenting", 10, done=2) as advance:
        advance(3)
        reporter.line("warning: " + "long " * 40 + "[end]")
    return out.getvalue()


def test_away_from_a_terminal_only_lines_are_written() -> None:
    text = _run(terminal=False)
    assert text.count("\n") == 1
    assert text.endswith("long [end]\n")


def test_on_a_terminal_there_is_a_bar_with_count_and_time_left() -> None:
    text = _run(terminal=True)
    assert "segmenting" in text
    assert "5/10" in text
