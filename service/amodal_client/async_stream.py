"""`AsyncStream`: a live stream on an event loop (asyncio)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Callable, Sequence
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
from amodal_client.stream_sockets import AsyncConnector, Socket, SocketClosed

END_S = 120.0


class AsyncStream:
    """A live stream; use it in ``async with``, read it while frames are sent.

    Leaving the block ends the stream, an error in it leaves the stream resumable. A lost
    connection is made again, on any of the servers; a `Resumed` event says so.
    """

    def __init__(self, exchange: Exchange, url: str, setup: StreamSetup) -> None:
        self._core = StreamCore(setup)
        self._door = Door(exchange, AsyncConnector(), self._core, url)
        self._size = setup.frame_size
        self._has_changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._socket: Socket | None = None
        self._readers = 0

    async def __aenter__(self) -> AsyncStream:
        opened = await self._door.connect()
        assert opened is not None  # noqa: S101  only a stream that was ended is gone
        self._core.opened(opened.welcome)
        self._socket = opened.socket
        self._task = asyncio.create_task(self._run(opened.socket))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self._core.is_over:
                await self.end()
        finally:
            await self.close()

    # Sending -----------------------------------------------------------------------------------

    async def send(
        self,
        image: bytes | Image | None = None,
        objects: Masks | None = None,
        *,
        capture_ns: int | None = None,
        deadline_ms: int = 0,
        codec: ImageCodec = "jpeg",
    ) -> int:
        """Send a frame and return its number.

        A realtime stream drops the frame before where that could not be sent yet, and never waits;
        a lossless one waits until the server takes the frame.

        Args:
            image: RGB uint8 (H, W, 3), or the bytes of a JPEG or PNG file; none: masks only.
            objects: visible masks, bool (H, W), by track id; or `GivenObject` values.
            capture_ns: when it was taken, ns of any steady clock; 0: not known. Left out, it is now
                in a live stream, and not known in a lossless one.
            deadline_ms: within which its result is wanted; 0: the stream's own.
            codec: how an array is coded: ``jpeg``, ``png`` or ``rgb8``.

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
        if not is_live and not frame.is_coded:
            await asyncio.to_thread(frame.code)
        taken_s = time.monotonic()
        while not core.may_send(frame.size_bytes):
            self._check_read()
            self._notify()
            await self._wait()
        seq = core.send(frame, taken_s)
        self._notify()
        await asyncio.sleep(0)  # a loop that only sends must let the connection work
        return seq

    def _check_read(self) -> None:
        self._core.check_usable()
        if self._core.is_overfull and not self._readers:
            raise UsageError(
                f"over {self._core.setup.buffer_bytes} bytes of results wait to be read "
                "(buffer_bytes): read them while frames are sent"
            )

    async def prompt(
        self,
        track_id: int,
        *,
        box: tuple[float, float, float, float] | None = None,
        points: Sequence[tuple[float, float, int]] = (),
        mask: Image | None = None,
        at: Literal["next"] | int = "next",
    ) -> str:
        """Show an object, from a frame on; a `PromptTaken` event of the id returned tells.

        Args:
            track_id: its id.
            box: x, y, width, height around what shows of it, pixels.
            points: (x, y, label); label 1 on the object, 0 beside it.
            mask: its visible mask, bool (H, W).
            at: number of the frame; ``next``: the one that is sent next.

        Raises:
            UsageError: not exactly one of box, points and mask.
        """
        first = self._core.next_seq if at == "next" else at
        return self._order(prompt(Said(track_id, box, points, mask), first))

    async def remove(self, *track_ids: int) -> str:
        """Forget objects, from the next frame on."""
        return self._order(removal(track_ids, self._core.next_seq))

    async def reset(self) -> str:
        """Forget everything; frames that wait at the server are dropped."""
        return self._order(Reset)

    def _order(self, make: Callable[[str], object]) -> str:
        order_id = self._core.order(make)
        self._notify()
        return order_id

    # Reading -----------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncGenerator[StreamEvent, None]:
        """Yield what happens, until the stream is over.

        Raises:
            ClientError: it cannot go on.
        """
        self._readers += 1
        try:
            while True:
                event = self._core.take_event()
                if event is not None:
                    self._notify()
                    yield event
                elif self._core.error is not None:
                    raise self._core.error
                elif self._core.is_over:
                    return
                else:
                    await self._wait()
        finally:
            self._readers -= 1

    async def results(self) -> AsyncGenerator[StreamResult, None]:
        """Yield the results alone."""
        async for event in self:
            if isinstance(event, StreamResult):
                yield event

    def ready(self) -> list[StreamEvent]:
        """Return what has happened since it was last asked for, without waiting."""
        events = []
        while (event := self._core.take_event()) is not None:
            events.append(event)
        self._notify()
        return events

    def latency(self) -> Latency:
        """Return the time from `send` to the result, over the latest results."""
        return self._core.latency()

    def totals(self) -> Totals:
        """Return how the frames ended so far."""
        return self._core.totals()

    # Ending ------------------------------------------------------------------------------------

    async def end(self, timeout_s: float = END_S) -> Totals:
        """End the stream: wait for its last results, which can still be read; return the totals.

        Raises:
            WaitTimeoutError: it has not ended in time.
        """
        self._core.finish()
        self._notify()
        try:
            async with asyncio.timeout(timeout_s):
                while not self._core.is_over:
                    await self._wait()
        except TimeoutError:
            raise WaitTimeoutError(f"the stream has not ended after {timeout_s:g} s") from None
        if self._core.error is not None:
            raise self._core.error
        return self._core.totals()

    async def close(self) -> ResumePoint:
        """Leave the stream; it can be gone on with for a while, from the point returned."""
        self._core.is_left = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._socket is not None:
            await self._socket.close()
        self._notify()
        return self._core.resume_point()

    # The connection ----------------------------------------------------------------------------

    def _notify(self) -> None:
        before, self._has_changed = self._has_changed, asyncio.Event()
        before.set()

    async def _wait(self) -> None:
        await self._has_changed.wait()

    async def _run(self, socket: Socket) -> None:
        core = self._core
        try:
            while True:
                await self._carry(socket)
                while not core.wants_connection and not core.is_over:
                    await self._wait()
                opened = None if core.is_over else await self._door.connect()
                if opened is None:
                    return
                socket = self._socket = opened.socket
                core.opened(opened.welcome)
                self._notify()
        except ClientError as error:
            core.fail(error)
        except Exception as error:
            core.fail(ClientError(f"{type(error).__name__}: {error}"))
            raise
        finally:
            self._notify()

    async def _carry(self, socket: Socket) -> None:
        """Move messages until the connection ends."""
        writer = asyncio.create_task(self._write(socket))
        ending = SocketClosed(1006, "")
        try:
            while True:
                data = await socket.receive()
                self._core.received(data, time.monotonic())
                if isinstance(data, bytes):
                    self._door.made_progress()
                self._notify()
        except SocketClosed as closed:
            ending = closed
        except AnswerError as error:
            self._core.fail(error)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        await socket.close()
        self._core.closed(ending.code, ending.reason)
        self._notify()

    async def _write(self, socket: Socket) -> None:
        while True:
            now_s = time.monotonic()
            message = self._core.outgoing(now_s)
            if message is None:
                await self._pause(self._core.due_s() - now_s)
                continue
            data = await self._packed(message) if isinstance(message, Shipment) else message
            if data:
                try:
                    await socket.send(data)
                except SocketClosed:
                    return  # the reader has found out, too

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(None if seconds == math.inf else max(seconds, 0.0)):
                await self._wait()
        except TimeoutError:
            return

    async def _packed(self, shipment: Shipment) -> bytes:
        """Return the message of a frame; empty where it turns out that it cannot be sent."""
        try:
            if not shipment.frame.is_coded:
                await asyncio.to_thread(shipment.frame.code)
            return self._core.packed(shipment)
        except UsageError as error:
            self._core.refuse(shipment.seq, str(error))
            self._notify()
            return b""
