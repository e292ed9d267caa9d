"""A real server process that can be killed, and started again with the same port and data."""

from __future__ import annotations

from pathlib import Path

import httpx2
from service_processes import ServiceProcess, free_port, wait_until

SETTINGS = {"AMODAL_CHUNK_FRAMES": "10"}


class Served:
    """A server with its own worker."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.data = folder / "data"
        self.log = folder / "log"
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        given = {"AMODAL_DATA": str(self.data), "AMODAL_PORT": str(self._port), **SETTINGS}
        self.process = ServiceProcess("serve", given, self.log)

    def wait_until_up(self) -> None:
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.is_running, self.log.read_text()
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False
