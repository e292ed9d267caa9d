"""``amodal annotate``, interrupted: the same command goes on and ends with the same files."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MakeScene = Callable[..., Any]

_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from amodal_service.cli import main
main()
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def _start(scene: Any, output: Path) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, "-c", _PROGRAM, "annotate"),
        *(str(scene.video), "--visible", str(scene.visible), "--output", str(output)),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(  # noqa: S603  our own command
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _interrupt_after_a_checkpoint(process: "subprocess.Popen[str]", output: Path) -> Ran:
    deadline_s = time.monotonic() + 60
    while not list(output.glob(".amodal-work/*/checkpoint.npz")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Ran(process.returncode, out, err)


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(
    scene: MakeScene, tmp_path: Path
) -> None:
    made = scene(count=800)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    out, err = _start(made, whole).communicate(timeout=120)
    assert (out, err) == (f"{whole / 'amodal.json'}\n", "")
    ran = _interrupt_after_a_checkpoint(_start(made, parts), parts)
    assert ran.code == 130
    assert ran.err.count("\n") == 1
    assert "the same command goes on" in ran.err
    assert [p.name for p in parts.iterdir()] == [".amodal-work"]
    again = _start(made, parts)
    out, err = again.communicate(timeout=120)
    assert (again.returncode, err.split(":")[0]) == (0, "resuming")
    assert sorted(p.name for p in parts.iterdir()) == ["amodal.json", "frames.csv"]
    for name in ("amodal.json", "frames.csv"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
