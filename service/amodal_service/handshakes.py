"""Handshakes of live streams, taken past what only requests need.

Whoever connects a thousand times and vanishes costs the others little then: handshakes take turns,
with room for frames between two; each is parsed once, by the websocket's own parser; one whose
client is gone by then is not parsed at all; and no routes, dependencies and middleware stand before
the stream.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import get_remote_addr

SOCKET_PATH = "/v1/stream"
PAUSE_S = 0.002
"""Between two handshakes: 500 a second."""
_TARGET = re.compile(rb"GET " + SOCKET_PATH.encode() + rb"[ ?]")
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_NAME = re.compile(rb"\r\n[^:\r\n]+:")


class Turns:
    """Handshakes that wait: one at a time, and a pause before the next."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], bool]] = deque()
        self._is_busy = False

    def add(self, begin: Callable[[], bool]) -> None:
        """Have a handshake begun in its turn; it returns whether there was still something to do.

        How many wait is bounded by the connections that are open.
        """
        self._waiting.append(begin)
        if not self._is_busy:
            self._is_busy = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        while self._waiting:
            begin = self._waiting.popleft()
            timer = asyncio.get_running_loop().call_later(PAUSE_S, self._next)
            if begin():
                return
            timer.cancel()
        self._is_busy = False


class HandshakeProtocol(H11Protocol):
    """HTTP/1.1 of a server of streams: a whole handshake goes to the websocket's parser as it is.

    Handshakes that come in pieces, or after a request, and all requests go uvicorn's way.

    Args:
        turns: of the server's handshakes.
        parts: what uvicorn makes a protocol of.
    """

    def __init__(self, *, turns: Turns, **parts: Any) -> None:
        super().__init__(**parts)
        self._turns = turns
        self._is_new = True

    def data_received(self, data: bytes) -> None:
        """Take in what was read."""
        is_new, self._is_new = self._is_new, False
        if is_new and _is_handshake(data):
            self.transport.pause_reading()  # what comes after it is the websocket's
            self._turns.add(partial(self._begin, data))
        else:
            super().data_received(data)

    def _begin(self, handshake: bytes) -> bool:
        """Go on as a websocket; return whether the client is still there."""
        if self.transport.is_closing():
            return False
        if self._is_gone():
            self.transport.abort()
            return False
        self._upgrade(handshake)
        if not self.transport.is_closing():
            self.transport.resume_reading()
        return True

    def _is_gone(self) -> bool:
        """Return whether the client has left: its address is not known then.

        Of a Unix socket it never is, nor is there a port.
        """
        is_tcp = self.server is not None and self.server[1] is not None
        return is_tcp and get_remote_addr(self.transport) is None

    def _upgrade(self, data: bytes) -> None:
        assert self.ws_protocol_class is not None  # noqa: S101  the server is configured with one
        self.connections.discard(self)
        protocol = self.ws_protocol_class(  # type: ignore[call-arg]  # as uvicorn makes it
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        # ASGI's names are in small letters; who comes from where is judged by them
        protocol.data_received(_NAME.sub(lambda name: name[0].lower(), data))


def _is_handshake(data: bytes) -> bool:
    """Return whether bytes are the handshake of a stream, and all of it."""
    is_whole = data.endswith(b"\r\n\r\n")
    return is_whole and bool(_TARGET.match(data)) and bool(_UPGRADE.search(data))


class StreamSockets:
    """ASGI middleware, the outermost: websockets of streams go to their handler at once.

    Args:
        app: all else.
        serve: runs a stream over its websocket.
    """

    def __init__(self, app: ASGIApp, serve: Callable[[WebSocket], Awaitable[None]]) -> None:
        self._app = app
        self._serve = serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket" or _path(scope) != SOCKET_PATH:
            await self._app(scope, receive, send)
            return
        # how to cut off a client that does not read; of uvicorn's websockets
        scope["amodal_transport"] = getattr(getattr(send, "__self__", None), "transport", None)
        await self._serve(WebSocket(scope, receive, send))


def _path(scope: Scope) -> str:
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
