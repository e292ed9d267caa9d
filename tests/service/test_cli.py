"""The command line's own part: version, help, exit codes."""

from collections.abc import Callable
from pathlib import Path

from command_line import Run


def test_the_version_is_one_line(amodal: Run) -> None:
    code, out, _ = amodal("--version")
    assert (code, out.split()[0], out.count("\n")) == (0, "amodal", 1)


def test_help_lists_the_commands(amodal: Run) -> None:
    code, out, _ = amodal("--help")
    assert code == 0
    for command in ("annotate", "doctor", "demo"):
        assert command in out


def test_wrong_usage_is_exit_code_2(amodal: Run) -> None:
    assert amodal("annotate")[0] == 2
    assert amodal("dance")[0] == 2
    assert amodal("annotate", "a.mp4", "-o", "out", "--mode", "sideways")[0] == 2


def test_an_output_that_cannot_be_written_is_one_line(
    amodal: Run, frames: Callable[..., Path], tmp_path: Path
) -> None:
    frames(tmp_path / "clip", 1)
    visible = '{"videos": [{"id": 1, "file_name": "clip", "width": 64, "height": 48, "length": 1}]'
    (tmp_path / "visible.json").write_text(visible + ', "annotations": []}')
    (tmp_path / "out").write_text("a file")
    masks = ("--visible", tmp_path / "visible.json")
    code, out, err = amodal("annotate", tmp_path / "clip", *masks, "-o", tmp_path / "out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(tmp_path / "out") in err
    assert (tmp_path / "out").read_text() == "a file"


def test_a_missing_demo_is_one_line(amodal: Run, tmp_path: Path) -> None:
    code, _, err = amodal("demo", "--clips", tmp_path, "-o", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"amodal: {tmp_path}: no demo clips")
