"""Handshakes of live streams, taken past what only requests need.

Whoever connects a thousand times and vanishes costs the others little then: a handshake is parsed
once, by the websocket's own parser; one whose client is gone already is not parsed at all; and no
routes, dependencies and middleware stand before the stream.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol

SOCKET_PATH = "/v1/stream"
_TARGET = re.compile(rb"GET " + SOCKET_PATH.encode() + rb"[ ?]")
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket[ \t]*\r\n", re.IGNORECASE)
_NAME = re.compile(rb"\r\n[^:\r\n]+:")


class HandshakeProtocol(H11Protocol):
    """HTTP/1.1 of a server of streams: a whole handshake goes to the websocket's parser as it is.

    Handshakes that come in pieces, or after a request, and all requests go uvicorn's way.
    """

    _is_new = True

    def data_received(self, data: bytes) -> None:
        """Take in what was read."""
        is_new, self._is_new = self._is_new, False
        if not (is_new and _is_handshake(data)):
            super().data_received(data)
        elif self._is_gone():
            self.transport.abort()
        else:
            self._upgrade(data)

    def _is_gone(self) -> bool:
        """Return whether the client left before it was heard: its address is not known then.

        Of a Unix socket it never is, nor is there a port.
        """
        return self.client is None and self.server is not None and self.server[1] is not None

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
