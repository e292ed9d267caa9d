"""A tiny client of live streams over a real websocket, and servers to connect it to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx2
from live_streams import Result, read_result
from service_processes import ServiceProcess, free_port, wait_until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol

from amodal_client.stream_messages import (
    Ack,
    ClientMessage,
    ServerMessage,
    Welcome,
    encode_message,
    read_server_message,
)
from amodal_client.stream_wire import SUBPROTOCOL

T = TypeVar("T")
TIMEOUT_S = 60.0
QUICK = {
    "AMODAL_EMBEDDED_WORKER": "false",
    "AMODAL_STREAM_SNAPSHOT_S": "0.2",
    "AMODAL_STREAM_HEARTBEAT_S": "0.2",
    "AMODAL_STREAM_DEAD_AFTER_S": "2",
}


class StreamServer:
    """A server process; several may share a data folder."""

    def __init__(self, data: Path, log: Path, settings: Mapping[str, str] | None = None) -> None:
        port = free_port()
        given = {"AMODAL_DATA": str(data), "AMODAL_PORT": str(port)}
        self._settings = {**QUICK, **given, **(settings or {})}
        self._log = log
        self.url = f"http://127.0.0.1:{port}"
        self.socket_url = f"ws://127.0.0.1:{port}/v1/stream"
        self.start()

    def start(self) -> None:
        """Start it, again if need be, and wait until it answers."""
        self.process = ServiceProcess("serve", self._settings, self._log)
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.is_running, self._log.read_text()
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def post(self, key: str = "", **wanted: Any) -> httpx2.Response:
        """Open or resume a stream."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx2.post(f"{self.url}/v1/streams", json=wanted, headers=headers)

    def place(self, **wanted: Any) -> Socket:
        """Open or resume a stream over REST, and connect to it where it was placed."""
        answer = self.post(**wanted)
        assert answer.status_code == 201, answer.text
        placed = answer.json()
        return Socket(placed["ws_url"], placed["ticket"])


@contextmanager
def stream_server(
    data: Path, log: Path, settings: Mapping[str, str] | None = None
) -> Iterator[StreamServer]:
    """Run a server."""
    server = StreamServer(data, log, settings)
    try:
        yield server
    finally:
        server.process.stop()


class Socket:
    """A connection; what arrives is kept in ``said`` and ``results``."""

    opened: ClassVar[list[Socket]] = []
    """Those that `close_all` closes at the end of a test."""

    def __init__(self, url: str, ticket: str = "", **wanted: Any) -> None:
        offered = [Subprotocol(SUBPROTOCOL)]
        if ticket:
            offered.append(Subprotocol(f"amodal.ticket.{ticket}"))
        if "origin" in wanted:
            wanted["origin"] = Origin(wanted["origin"])
        options = {"subprotocols": offered, "compression": None, "proxy": None, **wanted}
        self.web: ClientConnection = connect(url, max_size=None, legacy=True, **options)
        self.said: list[ServerMessage] = []
        self.results: list[Result] = []
        self.close_code = 0
        self.opened.append(self)

    @classmethod
    def close_all(cls) -> None:
        """Close every connection, as a client that goes away does."""
        while cls.opened:
            cls.opened.pop().web.close()

    def receive(self) -> bool:
        """Take in one message; return whether there was one before the close."""
        try:
            message = self.web.recv(timeout=TIMEOUT_S)
        except ConnectionClosed as error:
            self.close_code = error.rcvd.code if error.rcvd is not None else 1006
            return False
        if isinstance(message, bytes):
            self.results.append(read_result(message))
        else:
            said = read_server_message(message)
            assert said is not None
            self.said.append(said)
        return True

    def until(self, kind: type[T]) -> T:
        """Return the next control message of a kind."""
        seen = len(self.said)
        while self.receive():
            for each in self.said[seen:]:
                if isinstance(each, kind):
                    return each
            seen = len(self.said)
        raise AssertionError(f"closed with {self.close_code}, no {kind.__name__}: {self.said}")

    def welcome(self) -> Welcome:
        """Return the first message."""
        return self.until(Welcome)

    def read_results(self, up_to: int) -> None:
        """Read until the result of a frame is there; acknowledge it."""
        while not self.results or self.results[-1].header.seq < up_to:
            assert self.receive(), (self.close_code, self.said)
        self.say(Ack(up_to))

    def read_to_the_end(self) -> int:
        """Read all there is; return the close code."""
        while self.receive():
            pass
        return self.close_code

    def say(self, message: ClientMessage) -> None:
        """Send a control message."""
        self.web.send(encode_message(message))

    def send(self, frame: bytes) -> None:
        """Send a frame."""
        self.web.send(frame)

    def exchange(self, frame: bytes, seq: int) -> None:
        """Send a frame and wait for its result."""
        self.send(frame)
        self.read_results(seq)

    def all(self, kind: type[T]) -> list[T]:
        """Return the control messages of a kind so far."""
        return [each for each in self.said if isinstance(each, kind)]

    def cut(self) -> None:
        """Break the connection without a word."""
        self.web.socket.close()
