"""One live stream as its client sees it: a value machine without sockets, threads or clocks.

A shell (`async_stream`, `blocking_stream`) moves messages: what `outgoing` returns is sent, what
arrives goes to `received`. The core has a frame's way decided by its parts: the backlog of frames,
the orders, what holds while one connection lasts, and the inbox of events.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from amodal_client.errors import ClientError, UsageError, stream_error
from amodal_client.stream_arrivals import Arrivals
from amodal_client.stream_backlog import Backlog, Shipment
from amodal_client.stream_events import (
    Ended,
    FramesDropped,
    Latency,
    Resumed,
    StreamEvent,
    Totals,
    runs_of,
)
from amodal_client.stream_frames import OutgoingFrame
from amodal_client.stream_inbox import Inbox
from amodal_client.stream_link import Link
from amodal_client.stream_messages import (
    RESUMABLE_CODES,
    CloseCode,
    End,
    Welcome,
    encode_message,
)
from amodal_client.stream_options import ResumePoint, StreamSetup
from amodal_client.stream_orders import LastMasks, Orders
from amodal_client.stream_tally import Tally

PACED_SLACK = 0.75
"""Share of the wanted period that must have passed between two frames, as at the server."""


class StreamCore:
    """The state of one stream over all of its connections.

    Attributes:
        error: why the stream cannot go on; None while it can.
        ended: how it ended; None while it has not.
        is_left: whether the user left it, so that it can be resumed.
        setup: what it was opened with.
    """

    def __init__(self, setup: StreamSetup) -> None:
        request = setup.request
        self.setup = setup
        self.error: ClientError | None = None
        self.ended: Ended | None = None
        self.is_left = False
        point = setup.resume or ResumePoint("", -1, 0)
        self._token, self._next_seq = point.resume_token, point.next_seq
        self._is_lossless = request.mode == "lossless"
        self._backlog = Backlog(
            is_lossless=self._is_lossless,
            # who follows objects through images is to see again what a snapshot does not hold
            is_shown_again=not self._is_lossless and request.masks != "given",
            room_bytes=setup.buffer_bytes,
        )
        self._orders = Orders()
        self._link = Link(request.max_message_bytes)
        self._inbox = Inbox(setup.buffer_bytes)
        self._tally = Tally()
        self._arrivals = Arrivals(
            self._backlog,
            self._orders,
            self._link,
            self._inbox,
            self._tally,
            last_result=point.last_result,
        )
        self._paced_ns = 0
        self._is_finishing = self._is_dormant = False

    # What the user does ------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self.error is not None or self.ended is not None or self.is_left

    @property
    def next_seq(self) -> int:
        """Number of the next frame."""
        return self._next_seq

    @property
    def is_overfull(self) -> bool:
        """Whether more results wait to be read than there is room for."""
        return self._inbox.is_overfull

    def may_send(self, size_bytes: int) -> bool:
        """Return whether a frame of this size is taken now; lossless streams make it wait."""
        if not self._is_lossless:
            return True
        self._is_dormant = False
        if not self._link.is_open or self._link.is_leaving or self.is_overfull:
            return False
        return self._link.credits > self._backlog.queued and self._backlog.has_room(size_bytes)

    def send(self, frame: OutgoingFrame, now_s: float) -> int:
        """Take a frame and return its number; one that is not sent is dropped and told of.

        Raises:
            UsageError: the stream is ending, or the frame is larger than a message may be.
        """
        self.check_usable()
        if frame.is_coded:
            self._check_size(frame.size_bytes)
        seq, self._next_seq = self._next_seq, self._next_seq + 1
        self._tally.captured += 1
        self._is_dormant = False
        dropped = seq if self._is_too_soon(frame) else self._backlog.add(seq, frame, now_s)
        if dropped is not None:
            self._arrivals.tell_dropped([dropped], FramesDropped((), "source"))
        return seq

    def _check_size(self, size_bytes: int) -> None:
        limit = self._link.message_bytes
        if size_bytes > limit:
            raise UsageError(f"frame is {size_bytes} bytes, limit {limit} (max_message_bytes)")

    def check_usable(self) -> None:
        """Raise where the stream takes nothing any more.

        Raises:
            ClientError: why it cannot go on.
            UsageError: it has been ended.
        """
        if self.error is not None:
            raise self.error
        if self._is_finishing or self.is_over:
            raise UsageError("the stream has been ended")

    def _is_too_soon(self, frame: OutgoingFrame) -> bool:
        """Return whether a frame of a paced stream is one too many."""
        request = self.setup.request
        if request.mode != "paced" or not request.fps or not frame.capture_ns:
            return False
        passed_ns = frame.capture_ns - self._paced_ns
        if self._paced_ns and 0 <= passed_ns < PACED_SLACK * 1e9 / request.fps:
            return True
        self._paced_ns = frame.capture_ns
        return False

    def order(self, make: Callable[[str], Any]) -> str:
        """Send a prompt, removal or reset made with an id; return the id."""
        self.check_usable()
        self._is_dormant = False
        order = self._orders.add(make, self._next_seq)
        self._link.say(order.message)
        return order.id

    def finish(self) -> None:
        """Take no more frames; those that are there are sent, then the stream is over."""
        self._is_finishing, self._is_dormant = True, False

    def take_event(self) -> StreamEvent | None:
        """Return the oldest event that was not taken yet; None where there is none."""
        return self._inbox.take()

    def resume_point(self) -> ResumePoint:
        """Return from where the stream can be gone on with."""
        return ResumePoint(self._token, self._arrivals.last_result, self._next_seq)

    def latency(self) -> Latency:
        """Return the time from sending a frame to its result, over the latest results."""
        return self._tally.latency()

    def totals(self) -> Totals:
        """Return how all captured frames ended so far."""
        return self._tally.totals(lost=self._backlog.lost, waiting=self._backlog.waiting)

    # What a connection does --------------------------------------------------------------------

    @property
    def wants_connection(self) -> bool:
        """Whether a lost connection is to be made again now: not while an idle stream stays so."""
        return not (self.is_over or self._is_dormant)

    @property
    def is_leaving(self) -> bool:
        """Whether the server said that it will close."""
        return self._link.is_leaving

    def opened(self, welcome: Welcome) -> None:
        """Begin a connection: what has not arrived is sent again, or given up."""
        kind = welcome.session
        is_first, self._token = not self._token, welcome.resume_token
        self._link.open(welcome, self._arrivals.last_result)
        received = welcome.received_seq if kind in ("hot", "warm") else -1
        self._next_seq = max(self._next_seq, welcome.received_seq + 1)
        if is_first:
            return
        told = "cold" if kind == "new" else kind
        lost = self._restore(told, received)
        skipped = 0 if told == "hot" else self._backlog.take_skipped()
        self._tally.resumes[told] += 1
        self._inbox.tell(Resumed(told, welcome.epoch, runs_of(lost), skipped))

    def _restore(self, kind: str, received: int) -> list[int]:
        """Queue what is to be sent again and return the frames that are lost."""
        is_prompted = self.setup.request.masks == "prompted"
        latest = self._arrivals.last_result
        at = latest if self._backlog.is_kept(latest) else None
        if self._is_lossless:
            at = latest + 1
        floor = received
        if kind == "cold" and is_prompted:  # its memory comes from prompts with the last masks
            floor = latest if at is None else at - 1
        has_thinned = self._backlog.thinned_seq > received
        is_forgotten = kind == "cold" or (kind == "warm" and has_thinned)
        restored = self._orders.again(
            kind,
            received,
            self._arrivals.objects if is_prompted else {},
            LastMasks(at, is_forgotten, is_for_all_frames=self._is_lossless),
        )
        for message in restored.messages:
            self._link.say(message)
        floor = max(floor, restored.reset_at - 1)
        return self._backlog.rewind(received, floor, is_hot=kind == "hot")

    def closed(self, code: int, reason: str) -> None:
        """End a connection; `error` or `ended` is set where it cannot be resumed."""
        link = self._link
        was_end_sent, fatal, bye_reason = link.is_end_sent, link.fatal, link.bye_reason
        link.close()
        self._backlog.part()
        if self.is_over:
            return
        if code == CloseCode.NORMAL:
            self._end("end" if was_end_sent else bye_reason or reason)
        elif code in RESUMABLE_CODES or code == CloseCode.INTERNAL:
            is_idle = code == CloseCode.IDLE_OR_SLOW and bye_reason == "idle"
            self._is_dormant = is_idle and not self._has_work
        else:
            self.fail(stream_error(code, reason, fatal))

    @property
    def _has_work(self) -> bool:
        return bool(self._backlog.waiting) or self._is_finishing or self._orders.is_waiting

    def fail(self, error: ClientError) -> None:
        """Give the stream up."""
        self.error = self.error or error

    def is_gone(self) -> bool:
        """Take in that the server knows the stream no more; return whether that is its end."""
        if not self._is_finishing or self._backlog.waiting:
            return False
        self._end("end")
        return True

    def _end(self, reason: str) -> None:
        self._backlog.end()
        self.ended = Ended(self.totals(), reason)
        self._inbox.tell(self.ended)

    # Going out ---------------------------------------------------------------------------------

    def outgoing(self, now_s: float) -> str | Shipment | None:
        """Return what is to be sent now; None where nothing is."""
        link = self._link
        if not link.is_open:
            return None
        may_ack = self._is_finishing or not self.is_overfull
        message = link.control(now_s, may_ack=may_ack)
        if message is not None or link.is_leaving:
            return message
        shipment = self._backlog.next() if link.credits > 0 else None
        if shipment is not None:
            link.credits -= 1
            return shipment
        if self._is_finishing and not link.is_end_sent and not self._backlog.has_unsent:
            link.is_end_sent = True
            return encode_message(End())
        return None

    def due_s(self) -> float:
        """Return when `outgoing` has something to say even if nothing happens; or infinity."""
        return math.inf if self.is_overfull else self._link.ack_due_s

    def packed(self, shipment: Shipment) -> bytes:
        """Return the message of a frame whose image is coded.

        Raises:
            UsageError: it is larger than a message may be.
        """
        message = shipment.frame.packed(shipment.seq, shipment.flags)
        self._check_size(len(message))
        return message

    def refuse(self, seq: int, reason: str) -> None:
        """Drop a frame of which it turned out late that it cannot be sent."""
        self._link.credits += 1
        if self._backlog.refuse(seq):
            self._arrivals.tell_dropped([seq], FramesDropped((), "source", reason))

    # Coming in ---------------------------------------------------------------------------------

    def received(self, data: str | bytes, now_s: float) -> None:
        """Take a message of the server in.

        Raises:
            AnswerError: it is not one of this protocol.
        """
        self._arrivals.take(data, now_s)
