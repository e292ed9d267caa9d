"""Calls with patience: what fails in passing is tried again, for a bounded time."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import httpx2
import msgspec

from amodal_client.errors import (
    AnswerError,
    ClientError,
    ConnectionLostError,
    UsageError,
    problem_error,
)
from amodal_client.transport import Transport

T = TypeVar("T")

FIRST_CONTACT_S = 10.0
"""Patience until the server has answered once: an address that is wrong is said soon."""
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0


class Call(NamedTuple):
    """A request that can be made more than once.

    Attributes:
        content: what httpx2 takes: ``json``, ``content``, ``files``, ``headers``, ``params``.
        repeats: whether it is made again after an answer that never came.
    """

    method: str
    path: str
    content: dict[str, Any]
    repeats: bool = True


class Patience:
    """How long an operation that makes no progress is tried again."""

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._failing_since_s: float | None = None
        self._failures = 0

    def renew(self) -> None:
        """Begin anew, because there was progress."""
        self._failing_since_s, self._failures = None, 0

    def wait_s(self, error: ClientError) -> float:
        """Return the seconds to wait before the next try; raise the error when it is too late."""
        now_s = self._clock()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        longest_s = min(_FIRST_WAIT_S * 2.0**self._failures, _LONGEST_WAIT_S)
        jittered_s = longest_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads clients
        wait_s = max(jittered_s, error.retry_after_s)
        if now_s + wait_s > self._failing_since_s + self._limit_s:
            raise error
        self._failures = min(self._failures + 1, 16)
        return wait_s


class Exchange:
    """Makes calls over a transport, again where that helps."""

    def __init__(self, transport: Transport, retry_s: float) -> None:
        if not 0 <= retry_s <= 86400:
            raise UsageError(f"retry_s is {retry_s}, must be from 0 to 86400")
        self.transport = transport
        self._retry_s = retry_s
        self._has_answered = False

    def patience(self) -> Patience:
        """Return the patience of a new operation."""
        limit_s = self._retry_s if self._has_answered else min(self._retry_s, FIRST_CONTACT_S)
        return Patience(limit_s)

    async def pause(self, patience: Patience, error: ClientError) -> None:
        """Wait before the next try; raise the error where it will not pass or it is too late."""
        if not error.is_passing:
            raise error
        await self.transport.sleep(patience.wait_s(error))

    async def once(self, call: Call) -> httpx2.Response:
        """Return the answer of a call that is made once.

        Raises:
            ClientError: no answer, or one that is a problem.
        """
        async with self.opened(call, is_streamed=False) as response:
            return response

    async def call(self, call: Call) -> httpx2.Response:
        """Return the answer of a call, which is made again where it failed in passing."""
        patience = self.patience()
        while True:
            try:
                return await self.once(call)
            except ClientError as error:
                if isinstance(error, ConnectionLostError) and not call.repeats:
                    raise
                await self.pause(patience, error)

    async def fetch(self, call: Call, kind: type[T]) -> T:
        """Return the answer of a call as a value."""
        return decode((await self.call(call)).content, kind)

    @asynccontextmanager
    async def opened(
        self, call: Call, *, is_streamed: bool = True
    ) -> AsyncIterator[httpx2.Response]:
        """Hold the answer of a call open, made once; losses inside are `ConnectionLostError`."""
        response: httpx2.Response | None = None
        try:
            request = self.transport.build(call.method, call.path, **call.content)
            response = await self.transport.send(request, is_streamed=is_streamed)
            self._has_answered = True
            if not response.is_success:
                body = await self.transport.read(response)
                raise problem_error(response.status_code, response.headers, body)
            yield response
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            reason = str(error) or type(error).__name__
            raise ConnectionLostError(f"{call.method} {call.path}: {reason}") from error
        finally:
            if response is not None and is_streamed:
                await self.transport.end(response)


def decode(body: bytes, kind: type[T]) -> T:
    """Return the value of a body.

    Raises:
        AnswerError: it is not of this kind.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise AnswerError(f"answer is no {kind.__name__} of this service: {error}") from None
