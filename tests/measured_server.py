"""A server as it is by default, and what its processes use: processor time, memory, open files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
from service_processes import ServiceProcess, free_port, wait_until

MEGABYTE = 1 << 20
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_UNHURRIED = {"AMODAL_POLL_S": "0.5", "AMODAL_HEARTBEAT_S": "2", "AMODAL_DEAD_AFTER_S": "15"}


class MeasuredServer:
    """A server process; figures are of it and of all that it started, unless they say otherwise.

    Args:
        folder: where its data and its log are.
        settings: environment beside the defaults.
        options: of ``amodal serve``.
        port: to listen on; 0: any.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, str], *options: str, port: int = 0
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        environment = {"AMODAL_DATA": str(folder / "data"), **_UNHURRIED, **settings}
        command = ("--port", str(self.port), *options)
        self.process = ServiceProcess("serve", environment, folder / "log", *command)
        self.pid = self.process.pid

    def wait(self) -> None:
        """Wait until it answers."""
        wait_until(lambda: not self.process.is_running or self._answers(), timeout_s=120)
        assert self.process.is_running, f"the server did not start, see {self.process.log}"

    def _answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx2.TransportError:
            return False

    def cpu_s(self) -> float:
        """Return the processor time so far, of ended processes too."""
        # utime, stime, and both of the children that were waited for
        spent = (sum(map(int, _fields(each)[11:15])) for each in self.family())
        return sum(spent) / _TICKS_A_SECOND

    def memory_bytes(self) -> int:
        """Return the resident memory."""
        pages = sum(int(_fields(each)[21]) for each in self.family())
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        """Return how many files and sockets the server process itself has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def family(self) -> list[int]:
        """Return the process and its descendants."""
        parents = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended since
                parents[int(folder.name)] = int(_fields(int(folder.name))[1])
        family = [self.pid]
        for member in family:  # grows meanwhile
            family += [child for child, parent in parents.items() if parent == member]
        return family


@contextmanager
def running_server(
    folder: Path, *options: str, settings: Mapping[str, str] | None = None
) -> Iterator[MeasuredServer]:
    """Run a server as it is by default, not in a hurry as in tests."""
    server = MeasuredServer(folder, settings or {}, *options)
    try:
        server.wait()
        time.sleep(3)
        yield server
    finally:
        server.process.stop()


def _fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the state on, the third by its manual."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
