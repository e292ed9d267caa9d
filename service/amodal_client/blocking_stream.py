"""`Stream`: a live stream that blocks; threads of its own move the messages."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal

from amodal_client.errors import AnswerError, ClientError, UsageError, WaitTimeoutError
from amodal_client.exchange import Exchange
from amodal_client.stream_backlog import Shipment
from amodal_client.stream_core import StreamCore
from amodal_client.stream_events import Latency, StreamEvent, StreamResult, Totals
from amodal_client.stream_frames import Image, ImageCodec, Masks, make_frame
from amodal_client.stream_messages import Reset
from amodal_client.stream_opening import Door
from amodal_client.stream_options import ResumePoint, StreamSetup
from amodal_client.stream_orders import Said, prompt, removal
from amodal_client.stream_sockets import BlockingConnector, Socket, SocketClosed
from amodal_client.transport import run_blocking

END_S = 120.0
_JOIN_S = 3.0


class Stream:
    """A live stream; use it in ``with``. Arguments and methods are those of `AsyncStream`.

    `send` and reading may be in different threads. In one thread, `ready` gives what is there
    without waiting, and what is left can be read after `end`.
    """

    def __init__(self, exchange: Exchange, url: str, setup: StreamSetup) -> None:
        self._core = StreamCore(setup)
        self._door = Door(exchange, BlockingConnector(), self._core, url)
        self._size = setup.frame_size
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._socket: Socket | None = None
        self._readers = 0

    def __enter__(self) -> Stream:
        opened = run_blocking(self._door.connect())
        assert opened is not None  # noqa: S101  only a stream that was ended is gone
        self._core.opened(opened.welcome)
        self._socket = opened.socket
        self._thread = threading.Thread(target=self._run, args=(opened.socket,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._core.is_over:
                self.end()
        finally:
            self.close()

    # Sending -----------------------------------------------------------------------------------

    def send(
        self,
        image: bytes | Image | None = None,
        objects: Masks | None = None,
        *,
        capture_ns: int | None = None,
        deadline_ms: int = 0,
        codec: ImageCodec = "jpeg",
    ) -> int:
        """Send a frame and return its number; a lossless stream waits until it is taken.

        Raises:
            UsageError: nothing that can be sent.
            ClientError: the stream cannot go on.
        """
        core = self._core
        is_live = core.setup.request.mode != "lossless"
        if capture_ns is None:
            capture_ns = time.monotonic_ns() if is_live else 0
        times = (capture_ns, deadline_ms)
        frame = make_frame(image, objects, codec=codec, size=self._size, times=times)
        self._size = frame.size if frame.size != (0, 0) else self._size
        if not is_live:
            frame.code()
        taken_s = time.monotonic()
        with self._changed:
            while not core.may_send(frame.size_bytes):
                self._check_read()
                self._changed.notify_all()
                self._changed.wait()
            seq = core.send(frame, taken_s)
            self._changed.notify_all()
        return seq

    def _check_read(self) -> None:
        self._core.check_usable()
        if self._core.is_overfull and not self._readers:
            raise UsageError(
                f"over {self._core.setup.buffer_bytes} bytes of results wait to be read "
                "(buffer_bytes): read them while frames are sent"
            )

    def prompt(
        self,
        track_id: int,
        *,
        box: tuple[float, float, float, float] | None = None,
        points: Sequence[tuple[float, float, int]] = (),
        mask: Image | None = None,
        at: Literal["next"] | int = "next",
    ) -> str:
        """Show an object, from a frame on; a `PromptTaken` event of the id returned tells.

        Raises:
            UsageError: not exactly one of box, points and mask.
        """
        with self._changed:
            first = self._core.next_seq if at == "next" else at
            return self._order(prompt(Said(track_id, box, points, mask), first))

    def remove(self, *track_ids: int) -> str:
        """Forget objects, from the next frame on."""
        with self._changed:
            return self._order(removal(track_ids, self._core.next_seq))

    def reset(self) -> str:
        """Forget everything; frames that wait at the server are dropped."""
        with self._changed:
            return self._order(Reset)

    def _order(self, make: Callable[[str], object]) -> str:
        order_id = self._core.order(make)
        self._changed.notify_all()
        return order_id

    # Reading -----------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[StreamEvent]:
        """Yield what happens, until the stream is over.

        Raises:
            ClientError: it cannot go on.
        """
        with self._changed:
            self._readers += 1
        try:
            while (event := self._next()) is not None:
                yield event
        finally:
            with self._changed:
                self._readers -= 1

    def _next(self) -> StreamEvent | None:
        """Return the next event; None at the end."""
        with self._changed:
            while True:
                event = self._core.take_event()
                if event is not None:
                    self._changed.notify_all()
                    return event
                if self._core.error is not None:
                    raise self._core.error
                if self._core.is_over:
                    return None
                self._changed.wait()

    def results(self) -> Iterator[StreamResult]:
        """Yield the results alone."""
        for event in self:
            if isinstance(event, StreamResult):
                yield event

    def ready(self) -> list[StreamEvent]:
        """Return what has happened since it was last asked for, without waiting."""
        events = []
        with self._changed:
            while (event := self._core.take_event()) is not None:
                events.append(event)
            self._changed.notify_all()
        return events

    def latency(self) -> Latency:
        """Return the time from `send` to the result, over the latest results."""
        with self._changed:
            return self._core.latency()

    def totals(self) -> Totals:
        """Return how the frames ended so far."""
        with self._changed:
            return self._core.totals()

    # Ending ------------------------------------------------------------------------------------

    def end(self, timeout_s: float = END_S) -> Totals:
        """End the stream: wait for its last results, which can still be read; return the totals.

        Raises:
            WaitTimeoutError: it has not ended in time.
        """
        with self._changed:
            self._core.finish()
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._core.is_over, timeout_s):
                raise WaitTimeoutError(f"the stream has not ended after {timeout_s:g} s")
            if self._core.error is not None:
                raise self._core.error
            return self._core.totals()

    def close(self) -> ResumePoint:
        """Leave the stream; it can be gone on with for a while, from the point returned."""
        with self._changed:
            self._core.is_left = True
            self._changed.notify_all()
            socket = self._socket
        if socket is not None:
            run_blocking(socket.close())
        if self._thread is not None:
            self._thread.join(_JOIN_S)  # it may be waiting for a server: then it ends by itself
        return self._core.resume_point()

    # The connection ----------------------------------------------------------------------------

    def _run(self, socket: Socket) -> None:
        core = self._core
        try:
            while True:
                self._carry(socket)
                with self._changed:
                    self._changed.wait_for(lambda: core.wants_connection or core.is_over)
                opened = None if core.is_over else run_blocking(self._door.connect())
                if opened is None:
                    return
                socket = opened.socket
                with self._changed:
                    self._socket = socket
                    is_left = core.is_left
                    core.opened(opened.welcome)
                    self._changed.notify_all()
                if is_left:
                    run_blocking(socket.close())
        except ClientError as error:
            core.fail(error)
        except Exception as error:
            core.fail(ClientError(f"{type(error).__name__}: {error}"))
            raise
        finally:
            with self._changed:
                self._changed.notify_all()

    def _carry(self, socket: Socket) -> None:
        """Move messages until the connection ends."""
        is_over = threading.Event()
        writer = threading.Thread(target=self._write, args=(socket, is_over), daemon=True)
        writer.start()
        ending = SocketClosed(1006, "")
        try:
            while True:
                data = run_blocking(socket.receive())
                with self._changed:
                    self._core.received(data, time.monotonic())
                    if isinstance(data, bytes):
                        self._door.made_progress()
                    self._changed.notify_all()
        except SocketClosed as closed:
            ending = closed
        except AnswerError as error:
            self._core.fail(error)
        finally:
            is_over.set()
            run_blocking(socket.close())
            with self._changed:
                self._changed.notify_all()
            writer.join()
        with self._changed:
            self._core.closed(ending.code, ending.reason)
            self._changed.notify_all()

    def _write(self, socket: Socket, is_over: threading.Event) -> None:
        while True:
            with self._changed:
                message = None
                while not is_over.is_set():
                    now_s = time.monotonic()
                    message = self._core.outgoing(now_s)
                    if message is not None:
                        break
                    pause_s = self._core.due_s() - now_s
                    self._changed.wait(None if pause_s == math.inf else max(pause_s, 0.0))
            if message is None:
                return
            data = self._packed(message) if isinstance(message, Shipment) else message
            if data:
                try:
                    run_blocking(socket.send(data))
                except SocketClosed:
                    return  # the reader has found out, too

    def _packed(self, shipment: Shipment) -> bytes:
        """Return the message of a frame; empty where it turns out that it cannot be sent."""
        try:
            shipment.frame.code()
            return self._core.packed(shipment)
        except UsageError as error:
            with self._changed:
                self._core.refuse(shipment.seq, str(error))
                self._changed.notify_all()
            return b""
