"""Real processes of the service, started and killed by tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

QUICK = {"AMODAL_POLL_S": "0.05", "AMODAL_HEARTBEAT_S": "0.3", "AMODAL_DEAD_AFTER_S": "3"}
"""Settings under which tests need not wait."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(is_true: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.02)


class ServiceProcess:
    """``amodal COMMAND`` as a process of its own; its log is in a file."""

    def __init__(self, command: str, settings: Mapping[str, str], log: Path, *options: str) -> None:
        code = "from amodal_service.cli import main; main()"
        path = os.pathsep.join(part for part in sys.path if part)
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AMODAL_")}
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                [sys.executable, "-c", code, command, *options],
                env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **QUICK, **settings},
                stdout=out,
                stderr=out,
            )

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop it where it is, without its knowing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after a `pause`."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, timeout_s: float = 60.0) -> int:
        """Ask it to end and return its exit status."""
        if self.is_running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        return self._process.wait(timeout_s)
