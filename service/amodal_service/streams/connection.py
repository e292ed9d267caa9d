"""One websocket of a stream: what comes in is read and checked, what waits is written.

Two tasks run until one of them ends: the reader, and the writer, which alone sends after the
welcome. Every ending has a close code; one that is the client's fault, or ours, is told in an
``error`` message first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    Ack,
    CloseCode,
    End,
    ErrorMessage,
    Hello,
    ModelName,
    Ping,
    Pong,
    PromptMessage,
    Remove,
    Reset,
    Welcome,
    encode_message,
    read_client_message,
)
from amodal_client.stream_wire import SUBPROTOCOL, Op, unpack
from amodal_service.streams.hub import Connected, StreamHub
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.session import Session

_log = structlog.get_logger()

CAPABILITIES = (
    "codec:none", "codec:jpeg", "codec:png", "codec:rgb8",
    "masks:given", "masks:prompted", "masks:motion",
    "mode:realtime", "mode:lossless", "mode:paced",
    "delta", "remembered",
)  # fmt: skip
MAX_REASON_BYTES = 120
"""Of a close frame; the protocol allows 123."""
MAX_TEXT_BYTES = 1 << 20
_TITLES = {
    CloseCode.BAD_MESSAGE: ("bad-message", 400, "Message that is not valid"),
    CloseCode.AUTH: ("unknown-caller", 401, "No valid API key or ticket"),
    CloseCode.FORBIDDEN: ("access", 403, "Not allowed"),
    CloseCode.UNKNOWN_STREAM: ("missing", 404, "No such stream"),
    CloseCode.IDLE_OR_SLOW: ("slow", 408, "Idle or slow"),
    CloseCode.SUPERSEDED: ("superseded", 409, "Taken over by another connection"),
    CloseCode.RESUME_EXPIRED: ("expired", 410, "No longer there"),
    CloseCode.TOO_LARGE: ("limit", 413, "Larger than a limit"),
    CloseCode.CODEC: ("codec", 415, "Codec that is not known"),
    CloseCode.CREDIT_OR_QUOTA: ("quota", 429, "Credit or allowance used up"),
    CloseCode.DRAINING: ("unavailable", 503, "Not now"),
    CloseCode.NO_SLOT: ("no-slot", 507, "No memory for another stream"),
}
_INTERNAL = ("internal", 500, "Internal error")


async def serve_connection(
    websocket: WebSocket, hub: StreamHub, connect: Callable[[], Awaitable[Connected]]
) -> None:
    """Run a connection from its handshake to its close.

    Args:
        websocket: not yet accepted.
        hub: of the streams.
        connect: finds or makes the stream; raises `CloseStream` where it cannot.
    """
    is_offered = SUBPROTOCOL in websocket.scope.get("subprotocols", ())
    await websocket.accept(SUBPROTOCOL if is_offered else None)
    try:
        if not is_offered:
            raise CloseStream(CloseCode.BAD_MESSAGE, f"the subprotocol {SUBPROTOCOL} is needed")
        connected = await connect()
    except CloseStream as ending:
        await _close(websocket, ending)
        return
    try:
        await _run(websocket, hub, connected)
    finally:
        await hub.leave(connected)


async def _run(websocket: WebSocket, hub: StreamHub, connected: Connected) -> None:
    session = connected.session
    info = hub.segmenter.engine.info
    welcome = Welcome(
        session.terms.stream_id,
        session.epoch,
        connected.kind,
        session.credits,
        session.terms.limits,
        CAPABILITIES,
        connected.token,
        connected.received_seq,
        info.actual,
        ModelName(info.model_name, info.model_version),
        session.terms.memory_bytes,
    )
    try:
        await _send(websocket, encode_message(welcome), hub.settings.slow_s)
    except (CloseStream, WebSocketDisconnect):
        return
    reader = asyncio.create_task(_read(websocket, session))
    writer = asyncio.create_task(_write(websocket, connected, hub.settings.slow_s))
    seconds = session.terms.limits.seconds or None
    try:
        await asyncio.wait({reader, writer}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not reader.done() and not writer.done():
            limit = f"limit of {seconds:g} s a connection"
            session.outbox.fail(CloseStream(CloseCode.GOING_AWAY, limit, is_error=False))
            await asyncio.wait({writer}, timeout=hub.settings.slow_s)
        ending = await _ending(reader, writer, session, connected.generation)
    finally:
        reader.cancel()
        writer.cancel()
        await asyncio.gather(reader, writer, return_exceptions=True)
    if ending is not None:
        await _close(websocket, ending)


async def _ending(
    reader: asyncio.Task[CloseStream | None],
    writer: asyncio.Task[CloseStream | None],
    session: Session,
    generation: int,
) -> CloseStream | None:
    """Return how the connection ends; what was queued before goes out first."""
    if not reader.done():
        return writer.result() if writer.done() else None
    ending = reader.result()
    if ending is not None and not writer.done() and session.outbox.is_current(generation):
        session.outbox.fail(ending)
        await asyncio.wait({writer}, timeout=1.0)
    return ending


async def _read(websocket: WebSocket, session: Session) -> CloseStream | None:
    """Read until the client leaves (``None``) or breaks the protocol."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        try:
            _take_in(message, session)
        except AnswerError as error:
            code = CloseCode.CODEC if str(error).startswith("codec") else CloseCode.BAD_MESSAGE
            return CloseStream(code, str(error))
        except CloseStream as ending:
            return ending


def _take_in(message: Mapping[str, Any], session: Session) -> None:
    data = message.get("bytes")
    if data is None:
        text = message.get("text") or ""
        if len(text) > MAX_TEXT_BYTES:
            raise CloseStream(
                CloseCode.TOO_LARGE,
                f"control message is {len(text)} characters, limit {MAX_TEXT_BYTES}",
            )
        _obey(text, session)
        return
    limit = session.terms.limits.message_bytes
    if len(data) > limit:
        raise CloseStream(
            CloseCode.TOO_LARGE, f"message is {len(data)} bytes, limit {limit} (max_message_bytes)"
        )
    packet = unpack(data)
    if packet.header.op != Op.FRAME:
        raise AnswerError(f"binary message has op {packet.header.op}, a client sends 1 FRAME")
    if session.is_ending:
        raise CloseStream(CloseCode.BAD_MESSAGE, "a frame after 'end'")
    session.accept(packet)


def _obey(text: str, session: Session) -> None:
    said = read_client_message(text)
    session.hear()
    if isinstance(said, PromptMessage | Remove):
        session.order(said, len(text))
    elif isinstance(said, Ack):
        session.acknowledge(said)
    elif isinstance(said, Reset):
        session.reset(said)
    elif isinstance(said, Ping):
        session.say(Pong(said.t))
    elif isinstance(said, End):
        session.end()
    elif isinstance(said, Hello):
        name, version = said.client[:80], said.version[:40]
        _log.info("stream_client", stream_id=session.terms.stream_id, client=name, version=version)


async def _write(websocket: WebSocket, connected: Connected, slow_s: float) -> CloseStream | None:
    """Write until there is nothing more to say, or nobody to say it to (``None``)."""
    outbox = connected.session.outbox
    try:
        while True:
            await _send(websocket, await outbox.next(connected.generation), slow_s)
    except CloseStream as ending:
        return ending
    except (WebSocketDisconnect, RuntimeError):
        return None


async def _send(websocket: WebSocket, message: str | bytes, slow_s: float) -> None:
    """Send a message.

    Raises:
        CloseStream: the client does not read.
    """
    sending = (
        websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message)
    )
    try:
        async with asyncio.timeout(slow_s):
            await sending
    except TimeoutError:
        abort(websocket)
        raise CloseStream(
            CloseCode.IDLE_OR_SLOW, f"nothing was read for {slow_s:g} s", is_error=False
        ) from None


def abort(websocket: WebSocket) -> None:
    """Cut the connection of a client that does not read: a close would wait for it."""
    transport = websocket.scope.get("amodal_transport")
    if transport is not None:
        transport.abort()


async def _close(websocket: WebSocket, ending: CloseStream) -> None:
    if websocket.application_state is not WebSocketState.CONNECTED:
        return
    try:
        async with asyncio.timeout(1.0):
            if ending.is_error:
                slug, status, title = _TITLES.get(ending.code, _INTERNAL)
                problem = ErrorMessage(f"urn:amodal:problem:{slug}", title, status, ending.reason)
                await websocket.send_text(encode_message(problem))
            reason = ending.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            await websocket.close(ending.code, reason)
    except (TimeoutError, WebSocketDisconnect, RuntimeError):
        abort(websocket)
