"""One live stream as its client sees it: a value machine without sockets, threads or clocks.

A shell (`async_stream`, `blocking_stream`) moves messages: what `outgoing` returns is sent, what
arrives goes to `received`. The core counts credits, holds the latest frame or the frames that a
resume needs, puts results in order, once each, and says what happened as events.
"""

from __future__ import annotations

import logging
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from amodal_client.errors import AnswerError, ClientError, UsageError, stream_error
from amodal_client.stream_events import (
    Ended,
    FramesDropped,
    Latency,
    LeavingServer,
    PromptTaken,
    Resumed,
    StreamedObject,
    StreamEvent,
    StreamResult,
    Totals,
    runs_of,
)
from amodal_client.stream_frames import OutgoingFrame
from amodal_client.stream_messages import (
    RESUMABLE_CODES,
    Ack,
    Bye,
    Checkpoint,
    CloseCode,
    Credit,
    Dropped,
    End,
    ErrorMessage,
    GoAway,
    PromptAck,
    ResultMeta,
    ServerMessage,
    Status,
    StreamObject,
    Welcome,
    encode_message,
    read_server_message,
)
from amodal_client.stream_options import ResumePoint, StreamSetup
from amodal_client.stream_orders import LastMasks, Orders
from amodal_client.stream_wire import REPLAYED, Op, Packet, read_meta, unpack

_log = logging.getLogger("amodal_client")

ACK_RESULTS = 8
ACK_S = 0.5
PACED_SLACK = 0.75
"""Share of the wanted period that must have passed between two frames, as at the server."""
MAX_UNANSWERED = 4096
MAX_KEPT = 16
"""Latest frames of a camera's stream that are kept for a server that forgets them."""
_LATENCIES = 4096
_EVENT_BYTES = 128


class Shipment(NamedTuple):
    """A frame that is to be sent now."""

    seq: int
    frame: OutgoingFrame
    flags: int


@dataclass
class _Sent:
    """A frame that was sent, or is to be: ``frame`` is kept only where it may be sent again."""

    taken_s: float
    frame: OutgoingFrame | None = None
    cost: int = 0
    is_answered: bool = False
    is_of_before: bool = False


class StreamCore:
    """The state of one stream over all of its connections.

    Attributes:
        error: why the stream cannot go on; None while it can.
        ended: how it ended; None while it has not.
        is_left: whether the user left it, so that it can be resumed.
        setup: what it was opened with.
    """

    def __init__(self, setup: StreamSetup) -> None:
        self.setup = setup
        self.error: ClientError | None = None
        self.ended: Ended | None = None
        self.is_left = False
        self.is_connected = False
        self._point = setup.resume or ResumePoint("", -1, 0)
        self._is_lossless = setup.request.mode == "lossless"
        # who follows objects through images is to see again what a snapshot does not hold
        self._is_shown_again = not self._is_lossless and setup.request.masks != "given"
        self._repeating: int | None = None
        self._thinned_seq = -1
        self._credits = 0
        self._mailbox: tuple[int, OutgoingFrame] | None = None
        self._queue: deque[int] = deque()
        self._again: deque[int] = deque()
        self._frames: dict[int, _Sent] = {}
        self._kept_bytes = 0
        self._evicted = 0
        self._stored_seq = -1
        self._orders = Orders()
        self._control: deque[str] = deque()
        self._objects: dict[int, StreamObject] = {}
        self._latest: dict[int, StreamObject] = {}
        self._unacked, self._ack_due_s, self._received_seq = 0, math.inf, -1
        self._events: deque[tuple[StreamEvent, int]] = deque()
        self._event_bytes = 0
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCIES)
        self._paced_ns = 0
        self._is_finishing = self._is_end_sent = self._is_leaving = self._is_dormant = False
        self._fatal: ErrorMessage | None = None
        self._bye_reason = ""
        self._message_bytes = setup.request.max_message_bytes
        self._captured = self._results = self._lost = 0
        self._dropped: Counter[str] = Counter()
        self._resumes: Counter[str] = Counter()

    # What the user does ------------------------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen any more."""
        return self.error is not None or self.ended is not None or self.is_left

    @property
    def next_seq(self) -> int:
        """Number of the next frame."""
        return self._point.next_seq

    @property
    def is_overfull(self) -> bool:
        """Whether more results wait to be read than there is room for."""
        return self._event_bytes > self.setup.buffer_bytes

    def may_send(self, size_bytes: int) -> bool:
        """Return whether a frame of this size is taken now; lossless streams make it wait."""
        if not self._is_lossless:
            return True
        self._is_dormant = False
        if not self.is_connected or self._is_leaving or self.is_overfull:
            return False
        if self._credits <= len(self._queue) + len(self._again):
            return False
        return not self._frames or self._has_room(size_bytes)

    def _has_room(self, size_bytes: int) -> bool:
        """Return whether a frame can be kept; lets go of the oldest that have their result."""
        room = self.setup.buffer_bytes
        if self._kept_bytes + size_bytes <= room:
            return True
        for seq in [seq for seq, sent in self._frames.items() if sent.is_answered]:
            self._forget(seq)
            self._evicted += 1
            if self._kept_bytes + size_bytes <= room:
                return True
        return False

    def send(self, frame: OutgoingFrame, now_s: float) -> int:
        """Take a frame and return its number; one that is not sent is dropped and told of.

        Raises:
            UsageError: the stream is ending, or the frame is larger than a message may be.
        """
        self._check_going(frame)
        seq = self._point.next_seq
        self._point = self._point._replace(next_seq=seq + 1)
        self._captured += 1
        self._is_dormant = False
        if self._is_lossless:
            self._frames[seq] = _Sent(now_s, frame, frame.size_bytes)
            self._kept_bytes += frame.size_bytes
            self._queue.append(seq)
        elif self._is_too_soon(frame):
            self._drop_here([seq])
        else:
            if self._mailbox is not None:
                self._frames.pop(self._mailbox[0], None)
                self._drop_here([self._mailbox[0]])
            self._mailbox = (seq, frame)
            self._frames[seq] = _Sent(now_s)
        return seq

    def _check_going(self, frame: OutgoingFrame) -> None:
        self.check_usable()
        if frame.is_coded and frame.size_bytes > self._message_bytes:
            raise UsageError(
                f"frame is {frame.size_bytes} bytes, limit {self._message_bytes} "
                "(max_message_bytes)"
            )

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
        order = self._orders.add(make, self._point.next_seq)
        if self.is_connected:
            self._control.append(encode_message(order.message))
        return order.id

    def finish(self) -> None:
        """Take no more frames; those that are there are sent, then the stream is over."""
        self._is_finishing, self._is_dormant = True, False

    def take_event(self) -> StreamEvent | None:
        """Return the oldest event that was not taken yet; None where there is none."""
        if not self._events:
            return None
        event, cost = self._events.popleft()
        self._event_bytes -= cost
        return event

    def resume_point(self) -> ResumePoint:
        """Return from where the stream can be gone on with."""
        return self._point

    def latency(self) -> Latency:
        """Return the time from sending a frame to its result, over the latest results."""
        if not self._latencies_ms:
            return Latency(0, math.nan, math.nan, math.nan)
        found = np.percentile(np.fromiter(self._latencies_ms, float), (50, 95, 99))
        return Latency(len(self._latencies_ms), *(round(float(each), 3) for each in found))

    def totals(self) -> Totals:
        """Return how all captured frames ended so far."""
        waiting = sum(1 for sent in self._frames.values() if not sent.is_answered)
        return Totals(
            self._captured,
            self._results,
            dict(self._dropped),
            self._lost,
            waiting,
            dict(self._resumes),
        )

    # What a connection does --------------------------------------------------------------------

    @property
    def wants_connection(self) -> bool:
        """Whether a lost connection is to be made again now: not while an idle stream stays so."""
        return not (self.is_over or self._is_dormant)

    @property
    def is_leaving(self) -> bool:
        """Whether the server said that it will close."""
        return self._is_leaving

    def opened(self, welcome: Welcome) -> None:
        """Begin a connection: what has not arrived is sent again, or given up."""
        kind = welcome.session
        is_first = not self._point.resume_token
        self.is_connected, self._is_leaving = True, False
        self._credits = max(welcome.credits, 0)
        self._message_bytes = min(
            welcome.limits.message_bytes, self.setup.request.max_message_bytes
        )
        received = welcome.received_seq if kind in ("hot", "warm") else -1
        next_seq = max(self._point.next_seq, welcome.received_seq + 1)
        self._point = self._point._replace(resume_token=welcome.resume_token, next_seq=next_seq)
        self._received_seq = self._point.last_result
        if is_first:
            return
        told = "cold" if kind == "new" else kind
        lost = self._restore(told, received)
        self._resumes[told] += 1
        self._tell(Resumed(told, welcome.epoch, runs_of(lost), self._skipped(told)))

    def _restore(self, kind: str, received: int) -> list[int]:
        """Queue what is to be sent again and return the frames that are lost."""
        is_prompted = self.setup.request.masks == "prompted"
        latest = self._point.last_result
        at = latest + 1 if self._is_lossless else latest if self._is_kept(latest) else None
        floor = received
        if kind == "cold" and is_prompted:  # its memory comes from prompts with the last masks
            floor = latest if at is None else at - 1
        is_forgotten = kind == "cold" or (kind == "warm" and self._thinned_seq > received)
        restored = self._orders.again(
            kind,
            received,
            self._latest if is_prompted else {},
            LastMasks(at, is_forgotten, is_for_all_frames=self._is_lossless),
        )
        self._control.extend(encode_message(message) for message in restored.messages)
        floor = max(floor, restored.reset_at - 1)
        lost = self._lost_frames(kind == "hot", received, floor)
        for seq in lost:
            self._forget(seq)
        self._lost += len(lost)
        if kind != "hot":
            self._stored_seq = received
            for seq in [s for s, sent in self._frames.items() if sent.is_answered and s <= floor]:
                self._forget(seq)
        unsent = set(self._queue)
        self._again = deque(
            seq
            for seq, sent in self._frames.items()
            if sent.frame is not None and seq > floor and seq not in unsent
        )
        for seq in self._again:
            self._frames[seq].is_of_before = False
        return lost

    def _lost_frames(self, is_hot: bool, received: int, floor: int) -> list[int]:
        """Return the frames that will get no outcome any more; marks those that still may."""
        unsent = {*self._queue, *([self._mailbox[0]] if self._mailbox else [])}
        lost = []
        for seq, sent in self._frames.items():
            if sent.is_answered or seq in unsent:
                continue
            if is_hot and seq <= received:
                sent.is_of_before = True
            elif not self._is_lossless or sent.frame is None or seq <= floor:
                lost.append(seq)
        return lost

    def _is_kept(self, seq: int) -> bool:
        sent = self._frames.get(seq)
        return sent is not None and sent.frame is not None

    def _skipped(self, kind: str) -> int:
        skipped = self._evicted if kind != "hot" else 0
        self._evicted -= skipped
        return skipped

    def closed(self, code: int, reason: str) -> None:
        """End a connection; `error` or `ended` is set where it cannot be resumed."""
        self.is_connected = False
        self._credits = 0
        self._control.clear()
        self._unacked, self._ack_due_s = 0, math.inf
        self._again.clear()
        self._repeating = None
        was_end_sent, self._is_end_sent = self._is_end_sent, False
        if self.is_over:
            return
        if code == CloseCode.NORMAL:
            self._end("end" if was_end_sent else self._bye_reason or reason)
        elif code in RESUMABLE_CODES or code == CloseCode.INTERNAL:
            is_idle = code == CloseCode.IDLE_OR_SLOW and self._bye_reason == "idle"
            self._is_dormant = is_idle and not self._has_work
        else:
            self.fail(stream_error(code, reason, self._fatal))
        self._fatal, self._bye_reason = None, ""

    @property
    def _has_work(self) -> bool:
        waits = any(not sent.is_answered for sent in self._frames.values())
        return waits or self._is_finishing or self._orders.is_waiting

    def fail(self, error: ClientError) -> None:
        """Give the stream up."""
        self.error = self.error or error

    def is_gone(self) -> bool:
        """Take in that the server knows the stream no more; return whether that is its end."""
        if not self._is_finishing or any(not s.is_answered for s in self._frames.values()):
            return False
        self._end("end")
        return True

    def _end(self, reason: str) -> None:
        lost = [seq for seq, sent in self._frames.items() if not sent.is_answered]
        self._lost += len(lost)
        self._frames.clear()
        self._kept_bytes = 0
        self.ended = Ended(self.totals(), reason)
        self._tell(self.ended)

    # Going out ---------------------------------------------------------------------------------

    def outgoing(self, now_s: float) -> str | Shipment | None:
        """Return what is to be sent now; None where nothing is."""
        if not self.is_connected:
            return None
        if self._control:
            return self._control.popleft()
        if self._is_ack_due(now_s):
            self._unacked, self._ack_due_s = 0, math.inf
            return encode_message(Ack(self._received_seq))
        if self._is_leaving:
            return None
        shipment = self._next_frame() if self._credits > 0 else None
        if shipment is not None:
            self._credits -= 1
            return shipment
        has_more = self._again or self._queue or self._mailbox
        if self._is_finishing and not self._is_end_sent and not has_more:
            self._is_end_sent = True
            return encode_message(End())
        return None

    def _is_ack_due(self, now_s: float) -> bool:
        if not self._unacked or (self.is_overfull and not self._is_finishing):
            return False
        return self._unacked >= ACK_RESULTS or now_s >= self._ack_due_s

    def due_s(self) -> float:
        """Return when `outgoing` has something to say even if nothing happens; or infinity."""
        return math.inf if self.is_overfull else self._ack_due_s

    def _next_frame(self) -> Shipment | None:
        if self._repeating is not None:
            return None  # it would be superseded
        for queued, flags in ((self._again, REPLAYED), (self._queue, 0)):
            while queued:
                seq = queued.popleft()
                sent = self._frames.get(seq)
                if sent is not None and sent.frame is not None:  # not let go of meanwhile
                    self._repeating = None if self._is_lossless else seq
                    return Shipment(seq, sent.frame, flags)
        if self._mailbox is None:
            return None
        (seq, frame), self._mailbox = self._mailbox, None
        self._bound_unanswered()
        if self._is_shown_again:
            self._keep(seq, frame)
        return Shipment(seq, frame, 0)

    def _bound_unanswered(self) -> None:
        """Give up the oldest frames of a server that answers nothing."""
        while len(self._frames) > MAX_UNANSWERED:
            seq = next(seq for seq, sent in self._frames.items() if not sent.is_answered)
            self._forget(seq)
            self._lost += 1

    def _keep(self, seq: int, frame: OutgoingFrame) -> None:
        """Keep a camera's frame beside those before it, which are thinned out for it."""
        sent = self._frames[seq]
        sent.frame, sent.cost = frame, frame.size_bytes
        self._kept_bytes += sent.cost
        kept = [each for each, sent in self._frames.items() if sent.frame is not None]
        while len(kept) > 1 and (
            len(kept) > MAX_KEPT or self._kept_bytes > self.setup.buffer_bytes
        ):
            # the one without which the time between two is shortest; the latest stays
            spans = [later - sooner for sooner, later in zip(kept, kept[2:], strict=False)]
            self._thin_out(kept.pop(spans.index(min(spans)) + 1 if spans else 0))

    def _thin_out(self, seq: int) -> None:
        self._thinned_seq = max(self._thinned_seq, seq)
        sent = self._frames[seq]
        if sent.is_answered:
            self._forget(seq)
            return
        self._kept_bytes -= sent.cost
        sent.frame, sent.cost = None, 0

    def packed(self, shipment: Shipment) -> bytes:
        """Return the message of a frame whose image is coded.

        Raises:
            UsageError: it is larger than a message may be.
        """
        message = shipment.frame.packed(shipment.seq, shipment.flags)
        if len(message) > self._message_bytes:
            raise UsageError(
                f"frame is {len(message)} bytes, limit {self._message_bytes} (max_message_bytes)"
            )
        return message

    def refuse(self, seq: int, reason: str) -> None:
        """Drop a frame of which it turned out late that it cannot be sent."""
        self._credits += 1
        self._end_repeat(seq)
        sent = self._frames.get(seq)
        self._forget(seq)
        if sent is None or not sent.is_answered:
            self._drop_here([seq], reason)

    def _end_repeat(self, seq: int) -> None:
        """Let the next frame go out after one that is shown again."""
        if self._repeating is not None and seq >= self._repeating:
            self._repeating = None

    # Coming in ---------------------------------------------------------------------------------

    def received(self, data: str | bytes, now_s: float) -> None:
        """Take a message of the server in.

        Raises:
            AnswerError: it is not one of this protocol.
        """
        if isinstance(data, bytes):
            self._take_result(unpack(data), len(data), now_s)
            return
        message = read_server_message(data)
        take = _TAKES.get(type(message))
        if take is not None:
            take(self, message)

    def _take_result(self, packet: Packet, size_bytes: int, now_s: float) -> None:
        header = packet.header
        if header.op != Op.RESULT:
            raise AnswerError(f"binary message has op {header.op}, a server sends 2 RESULT")
        meta = read_meta(packet.meta, ResultMeta)
        self._objects = {each.track_id: self._whole(each) for each in meta.objects}
        self._received_seq = max(self._received_seq, header.seq)
        self._ack_due_s = min(self._ack_due_s, now_s + ACK_S)
        self._unacked += 1
        self._end_repeat(header.seq)
        if header.seq <= self._point.last_result:
            return  # sent again after a resume
        self._latest = self._objects
        self._point = self._point._replace(last_result=header.seq)
        latency_ms = self._answer(header.seq, now_s)
        self._results += 1
        size = (header.height, header.width)
        result = StreamResult(
            seq=header.seq,
            capture_ns=header.capture_ns,
            frame_size=size,
            objects=tuple(StreamedObject(size, each) for each in self._objects.values()),
            order=meta.order,
            timings=meta.timings,
            dropped=meta.dropped,
            frame_gap=meta.frame_gap,
            model=meta.model,
            latency_ms=latency_ms,
        )
        self._tell(result, size_bytes)

    def _whole(self, each: StreamObject) -> StreamObject:
        if not each.unchanged:
            return each
        known = self._objects.get(each.track_id)
        if known is None:
            raise AnswerError(f"track {each.track_id} is unchanged, but was never told")
        return known

    def _answer(self, seq: int, now_s: float) -> float:
        """Note the outcome of a frame; return the time since it was given, ms (NaN: not known)."""
        passed = [s for s, sent in self._before(seq) if sent.is_of_before and not sent.is_answered]
        for each in passed:  # results come in order: theirs will not
            self._forget(each)
        self._lost += len(passed)
        sent = self._frames.get(seq)
        if sent is None:
            return math.nan
        self._settle(seq)
        latency_ms = round(1000 * (now_s - sent.taken_s), 3)
        self._latencies_ms.append(latency_ms)
        return latency_ms

    def _before(self, seq: int) -> list[tuple[int, _Sent]]:
        found = []
        for each, sent in self._frames.items():
            if each >= seq:
                break
            found.append((each, sent))
        return found

    def _settle(self, seq: int) -> None:
        """Mark a frame as answered; it is kept where a server restarted would need it again."""
        sent = self._frames[seq]
        sent.is_answered = True
        if self._is_shown_again:
            self._forget_stored()
        if sent.frame is None or (seq <= self._stored_seq and not self._is_shown_again):
            self._forget(seq)

    def _forget_stored(self) -> None:
        """Let go of frames that have their result and are in a snapshot.

        The latest of a camera's stream stays: objects are shown in it if the snapshot is lost.
        """
        stored = self._before(self._stored_seq + 1)
        latest = self._point.last_result if self._is_shown_again else -1
        for seq in [seq for seq, sent in stored if sent.is_answered and seq != latest]:
            self._forget(seq)

    def _forget(self, seq: int) -> None:
        sent = self._frames.pop(seq, None)
        if sent is not None:
            self._kept_bytes -= sent.cost

    def _take_credit(self, message: Credit) -> None:
        self._credits += max(message.n, 0)

    def _take_dropped(self, message: Dropped) -> None:
        for first, last in message.ranges:
            self._end_repeat(last)
            if self._is_lossless and message.cause == "drained":
                continue  # it is sent again
            seqs = [
                seq
                for seq, sent in self._frames.items()
                if first <= seq <= last and not sent.is_answered
            ]
            for seq in seqs:
                self._forget(seq)
            if seqs:
                self._tell_dropped(seqs, FramesDropped((), message.cause, message.detail))

    def _take_checkpoint(self, message: Checkpoint) -> None:
        self._stored_seq = max(self._stored_seq, message.seq)
        self._orders.stored(self._stored_seq)
        self._forget_stored()
        if not any(sent.is_answered for sent in self._frames.values()):
            self._evicted = 0

    def _take_prompt_ack(self, message: PromptAck) -> None:
        self._orders.taken(message)
        if message.id or message.error:
            self._tell(PromptTaken(message.id, message.effective_seq, message.error))

    def _take_goaway(self, message: GoAway) -> None:
        self._is_leaving = True
        self._tell(LeavingServer(message.reason, message.deadline_ms))

    def _take_error(self, message: ErrorMessage) -> None:
        if message.is_fatal:
            self._fatal = message
        else:
            _log.warning("stream: %s", message.detail or message.title)

    def _take_status(self, message: Status) -> None:
        level = logging.WARNING if message.level == "warning" else logging.INFO
        _log.log(level, "stream: %s", message.message)

    def _take_bye(self, message: Bye) -> None:
        self._bye_reason = message.reason

    # Events ------------------------------------------------------------------------------------

    def _tell(self, event: StreamEvent, cost: int = _EVENT_BYTES) -> None:
        self._events.append((event, cost))
        self._event_bytes += cost

    def _drop_here(self, seqs: list[int], detail: str = "") -> None:
        self._tell_dropped(seqs, FramesDropped((), "source", detail))

    def _tell_dropped(self, seqs: list[int], event: FramesDropped) -> None:
        """Tell of drops, with those told of just before; only count them where nobody reads."""
        self._dropped[event.cause] += len(seqs)
        if self.is_overfull:
            return
        ranges = runs_of(seqs)
        last = self._events[-1] if self._events else None
        if (
            last is not None
            and isinstance(last[0], FramesDropped)
            and (last[0].cause, last[0].detail) == (event.cause, event.detail)
        ):
            self._events.pop()
            self._event_bytes -= last[1]
            ranges = _joined(last[0].ranges, ranges)
        merged = FramesDropped(ranges, event.cause, event.detail)
        self._tell(merged, _EVENT_BYTES + 32 * len(ranges))


def _joined(
    before: tuple[tuple[int, int], ...], after: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    if before[-1][1] + 1 == after[0][0]:
        return (*before[:-1], (before[-1][0], after[0][1]), *after[1:])
    return (*before, *after)


_TAKES: dict[type[ServerMessage] | type[None], Callable[[StreamCore, Any], None]] = {
    Credit: StreamCore._take_credit,
    Dropped: StreamCore._take_dropped,
    Checkpoint: StreamCore._take_checkpoint,
    PromptAck: StreamCore._take_prompt_ack,
    GoAway: StreamCore._take_goaway,
    ErrorMessage: StreamCore._take_error,
    Status: StreamCore._take_status,
    Bye: StreamCore._take_bye,
}
