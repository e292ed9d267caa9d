"""One connection to a server under test: what was sent, and all that was heard.

Every message that arrives is read strictly: one that is none of the protocol is a violation in
whatever check hears it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, TypeVar

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    Bye,
    ClientMessage,
    Credit,
    Dropped,
    End,
    ErrorMessage,
    FrameMeta,
    GivenObject,
    ResultMeta,
    ServerMessage,
    Welcome,
    encode_message,
    read_server_message,
)
from amodal_client.stream_wire import (
    Header,
    Op,
    encode_meta,
    pack,
    read_meta,
    unpack,
)

SIZE = (64, 48)
"""Width and height of the frames that are sent, pixels."""

T = TypeVar("T")


class Violation(Exception):  # noqa: N818  what a check finds, not a fault of this program
    """The server does not keep to the protocol."""


class NotSeen(Exception):  # noqa: N818
    """The server gave no occasion to check it."""


class Result(NamedTuple):
    """A RESULT as it came."""

    header: Header
    meta: ResultMeta


class Closed(NamedTuple):
    """How a connection was closed."""

    code: int
    reason: str


def require(is_true: bool, what: str) -> None:
    """Raise Violation unless it is true."""
    if not is_true:
        raise Violation(what)


def boxes(count: int, shift: int = 0, size: tuple[int, int] = SIZE) -> tuple[GivenObject, ...]:
    """Return objects 1 to ``count`` as boxes that move with ``shift``, inside a frame."""
    width, height = size
    side = max(4, min(width, height) // 3)
    return tuple(
        GivenObject(
            number,
            box=(
                float((7 * number + shift) % (width - side)),
                float((5 * number) % (height - side)),
                float(side),
                float(side),
            ),
        )
        for number in range(1, count + 1)
    )


class Probe:
    """A connection; reads only while it is asked to."""

    def __init__(self, connection: ClientConnection, timeout_s: float) -> None:
        self.connection = connection
        self.timeout_s = timeout_s
        self.heard: list[ServerMessage | Result] = []
        self.sent: list[int] = []
        self.closed: Closed | None = None

    def __enter__(self) -> Probe:
        self.connection.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.connection.__exit__(kind, error, traceback)

    # Hearing -----------------------------------------------------------------------------------

    def hear(self, until: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Read until something is true, the connection is closed or time is up.

        Returns:
            Whether it is true.

        Raises:
            Violation: what arrives is no message of the protocol.
        """
        deadline_s = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while not until():
            left_s = deadline_s - time.monotonic()
            if self.closed is not None or left_s <= 0:
                return False
            try:
                message = self.connection.recv(timeout=left_s)
            except TimeoutError:
                return until()
            except ConnectionClosed:
                code = self.connection.close_code
                self.closed = Closed(code or 1006, self.connection.close_reason or "")
                return until()
            self._note(message)
        return True

    def _note(self, message: str | bytes) -> None:
        if isinstance(message, str):
            try:
                said = read_server_message(message)
            except AnswerError as error:
                raise Violation(f"{error}: {message[:120]}") from None
            if said is not None:
                self.heard.append(said)
            return
        try:
            packet = unpack(message)
            require(packet.header.op == Op.RESULT, f"binary message with op {packet.header.op}")
            self.heard.append(Result(packet.header, read_meta(packet.meta, ResultMeta)))
        except AnswerError as error:
            raise Violation(f"binary message of {len(message)} bytes: {error}") from None

    def all(self, kind: type[T]) -> list[T]:
        """Return everything of a kind that was heard."""
        return [each for each in self.heard if isinstance(each, kind)]

    def wait_for(self, kind: type[T], what: str, count: int = 1) -> T:
        """Return the message of a kind, the ``count``-th; a violation where it does not come."""
        self.hear(lambda: len(self.all(kind)) >= count)
        found = self.all(kind)
        require(len(found) >= count, f"{what}: none came{self._ending()}")
        return found[count - 1]

    def _ending(self) -> str:
        if self.closed is None:
            return f" within {self.timeout_s:g} s"
        return f", the connection was closed with {self.closed.code} {self.closed.reason!r}"

    def welcome(self) -> Welcome:
        """Return the welcome; a violation where anything comes before it."""
        self.hear(lambda: bool(self.heard))
        require(bool(self.heard), f"the server must speak first{self._ending()}")
        first = self.heard[0]
        if isinstance(first, ErrorMessage):
            raise Violation(f"refused: {first.detail}")
        if not isinstance(first, Welcome):
            raise Violation(f"the first message is {type(first).__name__}, must be welcome")
        return first

    @property
    def results(self) -> list[Result]:
        """The results so far."""
        return self.all(Result)

    @property
    def dropped(self) -> list[int]:
        """The frames of those sent that were dropped so far, as often as it was said."""
        ranges = [pair for each in self.all(Dropped) for pair in each.ranges]
        return [seq for first, last in ranges for seq in self.sent if first <= seq <= last]

    @property
    def outcomes(self) -> int:
        """How many outcomes of frames were told."""
        return len(self.results) + len(self.dropped)

    @property
    def credits(self) -> int:
        """Frames that may be sent now."""
        given = sum(each.n for each in self.all(Credit))
        return self.all(Welcome)[0].credits + given - len(self.sent)

    def expect_close(self, *codes: int, what: str) -> Closed:
        """Return how the server closes; a violation where it does not, or with another code."""
        self.hear(lambda: False)
        wanted = " or ".join(map(str, codes))
        require(self.closed is not None, f"{what}: not closed, expected {wanted}")
        assert self.closed is not None  # noqa: S101  for the type checker
        require(
            self.closed.code in codes,
            f"{what}: closed with {self.closed.code} {self.closed.reason!r}, expected {wanted}",
        )
        return self.closed

    # Saying ------------------------------------------------------------------------------------

    def say(self, message: ClientMessage) -> None:
        """Send a control message."""
        self.send(encode_message(message))

    def send(self, message: str | bytes) -> None:
        """Send anything; a connection that was closed meanwhile shows when it is read."""
        with suppress(ConnectionClosed):
            self.connection.send(message)

    def frame(
        self,
        seq: int,
        objects: Iterable[GivenObject] | None = None,
        *,
        size: tuple[int, int] = SIZE,
        payload: bytes = b"",
        is_credit_awaited: bool = True,
        **fields: int,
    ) -> None:
        """Send a frame with its visible masks, when there is credit for it.

        Args:
            seq: its number.
            objects: what shows; two boxes that move with ``seq`` where nothing is said.
            size: width and height, pixels.
            payload: the coded image.
            is_credit_awaited: whether to wait for credit.
            fields: of the header, such as ``capture_ns``.
        """
        if is_credit_awaited and not self.hear(lambda: self.credits > 0):
            raise Violation(f"no credit for frame {seq}{self._ending()}")
        given = tuple(boxes(2, seq, size) if objects is None else objects)
        header = Header(Op.FRAME, seq, width=size[0], height=size[1], **fields)
        self.sent.append(seq)
        self.send(pack(header, encode_meta(FrameMeta(given)), payload))

    def finish(self) -> Bye:
        """Say that there are no more frames, and return the bye; it must be the last message."""
        self.say(End())
        bye = self.wait_for(Bye, "bye after end")
        self.expect_close(1000, what="after end")
        require(self.heard[-1] is bye, "messages after bye")
        return bye

    def vanish(self) -> None:
        """Break the connection as a lost network does."""
        with suppress(OSError):
            self.connection.socket.shutdown(socket.SHUT_RDWR)
        self.connection.close_socket()
