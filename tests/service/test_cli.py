"""The command line's own part: version, help, exit codes."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from amodal_service import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["amodal", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return (int(caught.value.code or 0), *capsys.readouterr())

    return call


def test_the_version_is_one_line(run: Run) -> None:
    code, out, _ = run("--version")
    assert (code, out.split()[0], out.count("\n")) == (0, "amodal", 1)


def test_help_lists_the_commands(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    for command in ("annotate", "doctor", "demo"):
        assert command in out


def test_wrong_usage_is_exit_code_2(run: Run) -> None:
    assert run("annotate")[0] == 2
    assert run("dance")[0] == 2
    assert run("annotate", "a.mp4", "-o", "out", "--mode", "sideways")[0] == 2


def test_an_output_that_cannot_be_written_is_one_line(
    run: Run, frames: Callable[..., Path], tmp_path: Path
) -> None:
    frames(tmp_path / "clip", 1)
    visible = '{"videos": [{"id": 1, "file_name": "clip", "width": 64, "height": 48, "length": 1}]'
    (tmp_path / "visible.json").write_text(visible + ', "annotations": []}')
    (tmp_path / "out").write_text("a file")
    masks = ("--visible", tmp_path / "visible.json")
    code, out, err = run("annotate", tmp_path / "clip", *masks, "-o", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "out") in err
    assert (tmp_path / "out").read_text() == "a file"


def test_a_missing_demo_is_one_line(run: Run, tmp_path: Path) -> None:
    code, _, err = run("demo", "--clips", tmp_path, "-o", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"amodal: {tmp_path}: no demo clips")
