"""What waits for a client: control messages, and results until they have arrived.

Two lanes. Control is short and goes first; a client that leaves too much of it unread is let go.
Results are kept until they are acknowledged, for a resume; a stream whose lane is full gets no
further frame worked on, so that a slow client holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from amodal_client.stream_messages import Bye, CloseCode, ServerMessage, encode_message
from amodal_client.stream_wire import HEADER, REPLAYED

MAX_CONTROL = 256


class CloseStream(Exception):  # noqa: N818  an ending, not only an error
    """A connection must end.

    Attributes:
        code: close code of the websocket.
        reason: in one line.
        is_error: whether the client is told in an ``error`` message.
    """

    def __init__(self, code: int, reason: str, *, is_error: bool = True) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.is_error = is_error


class _Kept(NamedTuple):
    seq: int
    packet: bytes


class Outbox:
    """The two lanes of one stream; used on the event loop alone.

    Args:
        limit: results that are kept.
        on_room: called when a result was sent that made room for another.
    """

    def __init__(self, limit: int, on_room: Callable[[], None] = lambda: None) -> None:
        self._limit = limit
        self._on_room = on_room
        self._control: deque[str] = deque()
        self._results: deque[_Kept] = deque()
        self._sent = 0
        self._replayed_to = -1
        self._has_acked = False
        self._last: tuple[str, CloseStream] | None = None
        self._changed = asyncio.Event()
        self._failure: CloseStream | None = None
        self._generation = 0

    def begin(self, last_result: int) -> int:
        """Begin a connection: results that have not arrived are sent again.

        Returns:
            What `next` knows the connection by; one before it is superseded.
        """
        self._generation += 1
        self._control.clear()
        self._failure = None
        self._last = None
        self.acknowledge(last_result, is_by_client=False)
        self._sent = 0
        self._replayed_to = self._results[-1].seq if self._results else -1
        self._changed.set()
        return self._generation

    def say(self, message: ServerMessage) -> None:
        """Queue a control message; where too many wait, the connection is to end."""
        if len(self._control) >= MAX_CONTROL:
            self.fail(
                CloseStream(
                    CloseCode.IDLE_OR_SLOW,
                    f"{MAX_CONTROL} control messages wait unread, the limit",
                    is_error=False,
                )
            )
            return
        self._control.append(encode_message(message))
        self._changed.set()

    def keep(self, seq: int, packet: bytes) -> None:
        """Queue a result."""
        self._results.append(_Kept(seq, packet))
        self._make_room()
        self._changed.set()

    def restore(self, results: Iterable[tuple[int, bytes]]) -> None:
        """Take over results that a process before this one kept."""
        self._results.extend(_Kept(seq, packet) for seq, packet in results)

    def kept(self) -> tuple[tuple[int, bytes], ...]:
        """Return the results that are kept, with their seq."""
        return tuple(self._results)

    def acknowledge(self, seq: int, *, is_by_client: bool = True) -> None:
        """Let go of results up to ``seq``."""
        self._has_acked |= is_by_client
        while self._results and self._results[0].seq <= seq:
            self._results.popleft()
            self._sent = max(0, self._sent - 1)

    def _make_room(self) -> None:
        """Of a client that never acknowledges, what was sent counts as arrived."""
        while not self._has_acked and len(self._results) >= self._limit and self._sent:
            self._results.popleft()
            self._sent -= 1

    @property
    def has_room(self) -> bool:
        """Whether another result has a place."""
        self._make_room()
        return len(self._results) < self._limit

    def finish(self, message: Bye, code: int) -> None:
        """Say goodbye after everything else, and close."""
        self._last = (encode_message(message), CloseStream(code, message.reason, is_error=False))
        self._changed.set()

    def fail(self, ending: CloseStream) -> None:
        """End the connection now."""
        self._failure = self._failure or ending
        self._changed.set()

    def is_current(self, generation: int) -> bool:
        """Return whether a connection is still the stream's."""
        return generation == self._generation

    async def next(self, generation: int) -> str | bytes:
        """Return what is to be sent next, control first.

        Raises:
            CloseStream: nothing any more; the connection must end.
        """
        while True:
            if generation != self._generation:
                reason = "another connection has taken the stream over"
                raise CloseStream(CloseCode.SUPERSEDED, reason, is_error=False)
            message = self._pop()
            if message is not None:
                return message
            self._changed.clear()
            await self._changed.wait()

    def _pop(self) -> str | bytes | None:
        is_choked = len(self._control) >= MAX_CONTROL
        if self._failure is not None and (is_choked or not self._control):
            raise self._failure
        if self._control:
            return self._control.popleft()
        if self._sent < len(self._results):
            kept = self._results[self._sent]
            self._sent += 1
            if not self._has_acked and len(self._results) >= self._limit:
                self._on_room()
            return _replay(kept.packet) if kept.seq <= self._replayed_to else kept.packet
        if self._last is None:
            return None
        text, ending = self._last
        if not text:
            raise ending
        self._last = ("", ending)
        return text


def _replay(packet: bytes) -> bytes:
    """Return a result marked as sent again."""
    head = bytearray(packet[: HEADER.size])
    head[1] |= REPLAYED
    return bytes(head) + packet[HEADER.size :]
