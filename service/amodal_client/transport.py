"""How requests are really made: one set of calls, blocking or on an event loop.

Everything above is written once, as coroutines over `Transport`. Under `BlockingTransport` they
never suspend, so `run_blocking` runs one to its end with a single ``send``: no event loop and no
thread stand behind the blocking client.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import httpx2

T = TypeVar("T")
Events: TypeAlias = AsyncGenerator[httpx2.ServerSentEvent, None]


class Transport(Protocol):
    """What the client needs of the world."""

    def build(self, method: str, path: str, **content: Any) -> httpx2.Request:
        """Return a request."""

    async def send(self, request: httpx2.Request, *, is_streamed: bool) -> httpx2.Response:
        """Return the answer, its body read unless it is streamed."""

    async def read(self, response: httpx2.Response) -> bytes:
        """Return the body of a streamed answer."""

    def parts(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body of a streamed answer."""

    def events(self, response: httpx2.Response) -> Events:
        """Yield the events of a streamed answer."""

    async def end(self, response: httpx2.Response) -> None:
        """Give up a streamed answer."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what a function returns that may block, such as one that reads a file."""

    async def close(self) -> None:
        """Close the connections."""


class BlockingTransport:
    """The calling thread does it all."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def build(self, method: str, path: str, **content: Any) -> httpx2.Request:
        """Return a request."""
        return self._client.build_request(method, path, **content)

    async def send(self, request: httpx2.Request, *, is_streamed: bool) -> httpx2.Response:
        """Return the answer, its body read unless it is streamed."""
        return self._client.send(request, stream=is_streamed)

    async def read(self, response: httpx2.Response) -> bytes:
        """Return the body of a streamed answer."""
        return response.read()

    async def parts(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body of a streamed answer."""
        for part in response.iter_bytes():
            yield part

    async def events(
        self, response: httpx2.Response
    ) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        """Yield the events of a streamed answer."""
        for event in httpx2.EventSource(response):
            yield event

    async def end(self, response: httpx2.Response) -> None:
        """Give up a streamed answer."""
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what a function returns."""
        return function(*args)

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()


class AsyncTransport:
    """An event loop does it; files are read and written in threads."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    def build(self, method: str, path: str, **content: Any) -> httpx2.Request:
        """Return a request."""
        return self._client.build_request(method, path, **content)

    async def send(self, request: httpx2.Request, *, is_streamed: bool) -> httpx2.Response:
        """Return the answer, its body read unless it is streamed."""
        return await self._client.send(request, stream=is_streamed)

    async def read(self, response: httpx2.Response) -> bytes:
        """Return the body of a streamed answer."""
        return await response.aread()

    async def parts(self, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body of a streamed answer."""
        async for part in response.aiter_bytes():
            yield part

    async def events(
        self, response: httpx2.Response
    ) -> AsyncGenerator[httpx2.ServerSentEvent, None]:
        """Yield the events of a streamed answer."""
        async for event in httpx2.EventSource(response):
            yield event

    async def end(self, response: httpx2.Response) -> None:
        """Give up a streamed answer."""
        with anyio.CancelScope(shield=True):  # also when the caller has just been cancelled
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await anyio.sleep(seconds)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """Return what a function returns that may block."""
        return await anyio.to_thread.run_sync(function, *args)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine over a `BlockingTransport` returns."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise AssertionError("a coroutine over the blocking transport has suspended")
