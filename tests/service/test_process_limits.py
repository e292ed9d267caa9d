"""What a limited process may still do, asked of a real one."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

linux = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="the system call filter is Linux's",
)

_START = """
import os, socket, sys, threading
from amodal_service.process_limits import limit_process, refuse_system_calls
limit_process(memory_bytes=64 << 20, cpu_s=5)
assert refuse_system_calls()
path = sys.argv[1]
"""


def run_limited(code: str, path: Path) -> str:
    """Return the last line that a limited process says, on either stream."""
    ran = subprocess.run(  # noqa: S603  (our own code)
        [sys.executable, "-c", _START + code, str(path)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    return (ran.stdout + ran.stderr).strip().splitlines()[-1]


@linux
@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socketpair()",
        "os.execv('/bin/true', ['true'])",
        "os.fork()",
        "os.kill(os.getppid(), 0)",
        "os.unlink(path)",
        "os.rename(path, path + '2')",
        "os.truncate(path, 0)",
        "open(path, 'w')",
        "open(path, 'r+')",
        "open(path + '2', 'x')",
        "os.mkdir(path + '2')",
        "os.chmod(path, 0o777)",
        "os.symlink(path, path + '2')",
    ],
)
def test_what_is_not_reading_is_refused(code: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    assert "Operation not permitted" in run_limited(code, path)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "content"


@linux
def test_reading_threads_and_computing_are_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("content")
    code = """
thread = threading.Thread(target=lambda: print(open(path).read() + ' read', flush=True))
thread.start()
thread.join()
"""
    assert run_limited(code, path) == "content read"


@linux
def test_memory_beyond_the_limit_is_an_error(tmp_path: Path) -> None:
    assert run_limited("bytearray(32 << 20); print('enough')", tmp_path) == "enough"
    assert run_limited("bytearray(128 << 20)", tmp_path) == "MemoryError"
