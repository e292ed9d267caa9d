"""Websockets as a stream needs them: one set of calls, on an event loop or blocking."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection as BlockingConnection
from websockets.sync.client import connect as connect_blocking
from websockets.typing import Subprotocol

from amodal_client.errors import ConnectionLostError
from amodal_client.stream_wire import SUBPROTOCOL

OPEN_S = 10.0
MAX_MESSAGE_BYTES = 64 << 20
"""Of one message of the server; larger ones end the stream."""
_BROKEN = 1006
_OPTIONS: dict[str, Any] = {
    "compression": None,  # a 60 KB image takes 40 times as long with it
    "proxy": None,
    "user_agent_header": "amodal-client",
    "open_timeout": OPEN_S,
    "ping_interval": 5.0,
    "ping_timeout": 10.0,
    "close_timeout": 2.0,
    "max_size": MAX_MESSAGE_BYTES,
}
_FAILURES = (OSError, InvalidHandshake, InvalidURI)


class SocketClosed(Exception):  # noqa: N818  an ending, not only an error
    """A websocket was closed, or broke."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Socket(Protocol):
    """A websocket that is open."""

    async def send(self, message: str | bytes) -> None:
        """Send a message; waits while the server does not read."""

    async def receive(self, timeout_s: float | None = None) -> str | bytes:
        """Return the next message."""

    async def close(self) -> None:
        """Close it."""


class Connector(Protocol):
    """Opens websockets."""

    async def open(self, url: str, ticket: str) -> Socket:
        """Return a websocket to a stream.

        Raises:
            ConnectionLostError: there is nobody, or nobody who speaks this protocol.
        """


class AsyncConnector:
    """Opens websockets on the event loop."""

    async def open(self, url: str, ticket: str) -> Socket:
        """Return a websocket to a stream."""
        try:
            return _AsyncSocket(await connect(url, subprotocols=_protocols(ticket), **_OPTIONS))
        except _FAILURES as error:
            raise _lost(url, error) from error


class BlockingConnector:
    """Opens websockets that the calling thread waits on."""

    async def open(self, url: str, ticket: str) -> Socket:
        """Return a websocket to a stream."""
        try:
            opened = connect_blocking(url, subprotocols=_protocols(ticket), legacy=True, **_OPTIONS)
        except _FAILURES as error:
            raise _lost(url, error) from error
        return _BlockingSocket(opened)


def _protocols(ticket: str) -> list[Subprotocol]:
    return [Subprotocol(SUBPROTOCOL), Subprotocol(f"amodal.ticket.{ticket}")]


def _lost(url: str, error: Exception) -> ConnectionLostError:
    return ConnectionLostError(f"{url}: {str(error) or type(error).__name__}")


class _AsyncSocket:
    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        try:
            await self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self, timeout_s: float | None = None) -> str | bytes:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._connection.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self) -> None:
        await self._connection.close()


class _BlockingSocket:
    def __init__(self, connection: BlockingConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        try:
            self._connection.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def receive(self, timeout_s: float | None = None) -> str | bytes:
        try:
            return self._connection.recv(timeout_s)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self) -> None:
        self._connection.close()


def _closed(error: ConnectionClosed) -> SocketClosed:
    said = error.rcvd
    return (
        SocketClosed(_BROKEN, "the connection broke")
        if said is None
        else SocketClosed(said.code, said.reason)
    )
