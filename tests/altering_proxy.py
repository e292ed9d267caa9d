"""A proxy before a server of live streams that breaks the protocol in a way that is asked for."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2
import uvicorn
from service_processes import free_port, wait_until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from amodal_client.stream_wire import SUBPROTOCOL

Message = str | bytes
Alter = Callable[[Message], list[Message]]


def nothing(message: Message) -> list[Message]:
    return [message]


@dataclass(frozen=True)
class Faults:
    """What the proxy does to what passes.

    Attributes:
        from_server: what becomes of each message of the server.
        from_client: what becomes of each message of the client.
        codes: other close codes than the server's.
        statuses: other statuses of answers to requests.
        has_compression: negotiate permessage-deflate.
        has_subprotocol: select the subprotocol.
    """

    from_server: Alter = nothing
    from_client: Alter = nothing
    codes: Mapping[int, int] = field(default_factory=dict)
    statuses: Mapping[int, int] = field(default_factory=dict)
    has_compression: bool = False
    has_subprotocol: bool = True


def control(op: str, change: Callable[[dict[str, Any]], list[dict[str, Any]]]) -> Alter:
    """Return what changes the control messages with an op and nothing else."""

    def alter(message: Message) -> list[Message]:
        said = json.loads(message) if isinstance(message, str) else {}
        return [json.dumps(each) for each in change(said)] if said.get("op") == op else [message]

    return alter


def binary(change: Callable[[bytearray], list[bytearray]]) -> Alter:
    """Return what changes the binary messages and nothing else."""

    def alter(message: Message) -> list[Message]:
        if isinstance(message, str):
            return [message]
        return [bytes(each) for each in change(bytearray(message))]

    return alter


@contextmanager
def altering_proxy(server: str, faults: Faults) -> Iterator[str]:
    """Run the proxy before a server; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    async def answer(request: Request) -> Response:
        return await _answer(request, server, url, faults)

    async def stream(websocket: WebSocket) -> None:
        await _pass_on(websocket, server, faults)

    methods = ["GET", "POST", "DELETE"]
    app = Starlette(
        routes=[
            WebSocketRoute("/v1/stream", stream),
            Route("/{path:path}", answer, methods=methods),
        ]
    )
    config = uvicorn.Config(
        app,
        port=port,
        ws="websockets-sansio",
        ws_per_message_deflate=faults.has_compression,
        log_config=None,
        timeout_graceful_shutdown=1,
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)
    thread.start()
    wait_until(lambda: running.started)
    try:
        yield url
    finally:
        running.should_exit = True
        thread.join()


async def _answer(request: Request, server: str, url: str, faults: Faults) -> Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.request(
            request.method,
            f"{server}{request.url.path}",
            content=await request.body(),
            headers={"content-type": request.headers.get("content-type", "application/json")},
        )
    host, proxy_host = server.removeprefix("http://"), url.removeprefix("http://")
    content = answer.content.replace(host.encode(), proxy_host.encode())
    status = faults.statuses.get(answer.status_code, answer.status_code)
    media_type = answer.headers.get("content-type")
    return Response(content, status, media_type=media_type)


async def _pass_on(websocket: WebSocket, server: str, faults: Faults) -> None:
    offered = [Subprotocol(each) for each in websocket.scope["subprotocols"]]
    is_selected = faults.has_subprotocol and SUBPROTOCOL in offered
    await websocket.accept(SUBPROTOCOL if is_selected else None)
    query = websocket.scope["query_string"].decode()
    url = f"{server.replace('http', 'ws', 1)}/v1/stream?{query}"
    async with connect(
        url, subprotocols=offered or None, compression=None, proxy=None, close_timeout=1
    ) as behind:
        both = {
            asyncio.create_task(_from_client(websocket, behind, faults)),
            asyncio.create_task(_from_server(websocket, behind, faults)),
        }
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _from_client(websocket: WebSocket, behind: ClientConnection, faults: Faults) -> None:
    with suppress(WebSocketDisconnect, ConnectionClosed):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                break
            data = message.get("bytes")
            for each in faults.from_client(message["text"] if data is None else data):
                await behind.send(each)
        behind.transport.abort()


async def _from_server(websocket: WebSocket, behind: ClientConnection, faults: Faults) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        with suppress(ConnectionClosed):
            while True:
                for each in faults.from_server(await behind.recv()):
                    if isinstance(each, str):
                        await websocket.send_text(each)
                    else:
                        await websocket.send_bytes(each)
        code = behind.close_code or 1011
        await websocket.close(faults.codes.get(code, code), behind.close_reason or "")
