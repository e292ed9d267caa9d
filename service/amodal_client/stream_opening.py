"""How a stream comes to a server: opened, placed, connected; and again after a break."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec

from amodal_client.errors import (
    AnswerError,
    ClientError,
    ConnectionLostError,
    MissingError,
    ProblemError,
    UsageError,
    stream_error,
)
from amodal_client.exchange import Call, Exchange, Patience, decode
from amodal_client.stream_core import StreamCore
from amodal_client.stream_messages import ErrorMessage, Welcome, read_server_message
from amodal_client.stream_sockets import OPEN_S, Connector, Socket, SocketClosed
from amodal_client.stream_wire import SUBPROTOCOL

COLD_AFTER_S = 5.0
"""Some servers do not know the stream, the others are away: from then on it begins anew."""
_STEADY_S = 10.0
"""A connection that lasted longer was no failure."""
_PASSING_LATER = frozenset({401, 500, 507})
"""Statuses of a lost stream that may pass: a ticket overtaken by another, a fault, no room."""
_UNKNOWN, _EXPIRED = 404, 410


class Placed(msgspec.Struct, frozen=True):
    """Where a stream is to be connected to."""

    stream_id: str
    ws_url: str
    ticket: str


class Opened(NamedTuple):
    """A connection to a stream, and the first message of its server."""

    socket: Socket
    welcome: Welcome


class Door:
    """Opens and reopens the connection of one stream, on any of its servers.

    Args:
        exchange: makes the calls.
        connector: opens websockets.
        core: the stream.
        url: of the client's own server.
    """

    def __init__(
        self, exchange: Exchange, connector: Connector, core: StreamCore, url: str
    ) -> None:
        self._exchange = exchange
        self._connector = connector
        self._core = core
        self._servers = [_server(each) for each in (url, *core.setup.servers)]
        self._patience: Patience | None = None
        self._opened_s: float | None = None
        self._lost_s = 0.0
        self._is_anew = False

    def made_progress(self) -> None:
        """Note that the connection was worth it: the next break has the whole patience."""
        self._patience = None

    async def connect(self) -> Opened | None:
        """Return a connection; None where the stream turns out to have ended as wanted.

        Raises:
            ClientError: it cannot be opened or resumed, or could not for too long.
        """
        self._lost_s = time.monotonic()
        if self._opened_s is not None and self._lost_s - self._opened_s > _STEADY_S:
            self.made_progress()
        if self._patience is not None:
            await self._pause(ConnectionLostError("closed again before any result came"))
        while True:
            opened, error = await self._round()
            if opened is not None:
                self._opened_s = time.monotonic()
                self._is_anew = False
                self._patience = self._patience or self._new_patience()
                return opened
            if error is None:
                return None
            await self._pause(error)

    async def _pause(self, error: ClientError) -> None:
        if self._patience is None:
            self._patience = self._new_patience()
        await self._exchange.transport.sleep(self._patience.wait_s(error))

    def _new_patience(self) -> Patience:
        retry_s = self._core.setup.retry_s
        return self._exchange.patience() if retry_s is None else Patience(retry_s)

    async def _round(self) -> tuple[Opened | None, ClientError | None]:
        """Try every server once; return a connection or why there is none (None: it is over)."""
        away: ClientError | None = None
        unknown: ClientError | None = None
        for server in self._in_turn():
            try:
                opened = await self._try(server)
            except ClientError as error:
                if self._is_known_nowhere(error):
                    unknown = error
                elif isinstance(error, MissingError) and self._core.is_gone():
                    return None, None
                elif self._is_passing(error):
                    away = error
                else:
                    raise
                continue
            self._servers.remove(server)
            self._servers.insert(0, server)
            return opened, None
        return self._judge(away, unknown)

    def _judge(
        self, away: ClientError | None, unknown: ClientError | None
    ) -> tuple[Opened | None, ClientError | None]:
        if unknown is not None:
            if self._core.is_gone():
                return None, None
            if away is None or time.monotonic() - self._lost_s > COLD_AFTER_S:
                self._is_anew = True
        return None, away or unknown

    def _in_turn(self) -> list[str]:
        """Return the servers, the last one first unless it said that it leaves."""
        first, *others = self._servers
        return [*others, first] if self._core.is_leaving else [first, *others]

    @property
    def _is_lost(self) -> bool:
        return self._opened_s is not None

    def _is_known_nowhere(self, error: ClientError) -> bool:
        is_unknown = isinstance(error, MissingError) and error.status == _UNKNOWN
        return self._is_lost and not self._is_anew and is_unknown

    def _is_passing(self, error: ClientError) -> bool:
        later = isinstance(error, ProblemError) and error.status in _PASSING_LATER
        return error.is_passing or (self._is_lost and later)

    async def _try(self, server: str) -> Opened:
        body = msgspec.to_builtins(self._core.setup.request)
        point = self._core.resume_point()
        if point.resume_token and not self._is_anew:
            body = {"resume_token": point.resume_token, "last_result": point.last_result}
        call = Call("POST", f"{server}/v1/streams", {"json": body})
        placed = decode((await self._exchange.once(call)).content, Placed)
        if not placed.ws_url.startswith(("ws://", "wss://")):
            raise AnswerError(f"ws_url is {placed.ws_url[:80]!r}, must be ws:// or wss://")
        socket = await self._connector.open(placed.ws_url, placed.ticket)
        try:
            return Opened(socket, await _welcome(socket))
        except BaseException:
            await socket.close()
            raise


async def _welcome(socket: Socket) -> Welcome:
    """Return the first message of the server.

    Raises:
        ClientError: it refuses, or does not speak this protocol.
    """
    told: ErrorMessage | None = None
    try:
        while True:
            data = await socket.receive(OPEN_S)
            message = read_server_message(data) if isinstance(data, str) else None
            if isinstance(message, Welcome):
                return message
            if not isinstance(message, ErrorMessage):
                raise AnswerError(f"the server does not begin with a welcome of {SUBPROTOCOL}")
            told = message
    except SocketClosed as ending:
        if told is None:
            raise ConnectionLostError(f"closed before its welcome: {ending.reason}") from None
        raise stream_error(ending.code, ending.reason, told) from None
    except TimeoutError:
        raise ConnectionLostError(f"no welcome within {OPEN_S:g} s") from None


def _server(url: Any) -> str:
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        raise UsageError(f"server {url!r}, must be http://HOST[:PORT] or https://HOST[:PORT]")
    return url.rstrip("/")
