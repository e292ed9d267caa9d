"""One live stream: what waits, what it is told, what became of its frames.

A session outlives its connections. Its methods run on the event loop, but for `take`, `due_s` and
`objects`, which the scheduler's threads call; what both touch is behind a lock.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from amodal_client.stream_messages import (
    Ack,
    Bye,
    CloseCode,
    Counters,
    Credit,
    DropCause,
    Dropped,
    PromptAck,
    PromptMessage,
    Remove,
    Reset,
    ServerMessage,
)
from amodal_client.stream_wire import Header, Packet
from amodal_service.streams.admission import Terms
from amodal_service.streams.frame_work import Done, Incoming, Order, Task, orders_for
from amodal_service.streams.intake import Intake
from amodal_service.streams.memory import StreamMemory
from amodal_service.streams.metrics import FRAMES
from amodal_service.streams.outbox import CloseStream, Outbox
from amodal_service.streams.snapshots import Leftovers
from amodal_service.streams.tables import StreamState

MAX_ORDERS = 64
MAX_ORDER_CHARACTERS = 1 << 20
"""Of all prompts and removals that wait."""
MAX_TOLD = 128
"""Latest drops that a client is told of again after a resume."""


@dataclass
class _Shared:
    """What the event loop and the scheduler's threads both touch."""

    mailbox: deque[Incoming] = field(default_factory=deque)
    orders: tuple[Order, ...] = ()
    drops: list[tuple[int, DropCause, str]] = field(default_factory=list)
    taken: int = 0
    told: int = 0
    turn_s: float = math.inf
    is_busy: bool = False
    is_full: bool = True


class Session:
    """One live stream in this process.

    Args:
        terms: what was agreed.
        memory: what is remembered of it.
        epoch: in which it is this process's.
        offer: lets the scheduler know that a frame waits.
        wake: has `settle` called on the event loop; may be called from any thread.
        leftovers: what was stored with the memory.
    """

    def __init__(
        self,
        terms: Terms,
        memory: StreamMemory,
        epoch: int,
        offer: Callable[[Session], None],
        wake: Callable[[Session], None],
        leftovers: Leftovers | None = None,
    ) -> None:
        self.terms = terms
        self.memory = memory
        self.epoch = epoch
        self.outbox = Outbox(terms.limits.unacked_results, self._poke)
        self.stored_seq = memory.clock.seq
        self.stored_s = time.monotonic()
        self.spoken_s = time.monotonic()
        self.detached_s: float | None = None
        self.is_ending = False
        self.is_draining = False
        self.leaves_as: StreamState | None = None
        self._offer = offer
        self._wake = wake
        self._lock = threading.Lock()
        self._shared = _Shared()
        self._intake = Intake(terms.options, terms.limits.fps, memory.clock.seq)
        carried = leftovers or Leftovers()
        self.outbox.restore(carried.results)
        self._frames = carried.frames
        self._results = carried.answered
        self._dropped: Counter[str] = Counter(carried.dropped)
        self._told: deque[Dropped] = deque(carried.told, maxlen=MAX_TOLD)
        self._answers: deque[PromptAck] = deque(maxlen=MAX_ORDERS)
        self._unreported = 0
        self._resets: list[tuple[int, str]] = []

    # What the scheduler calls ------------------------------------------------------------------

    def due_s(self) -> float:
        """Return when it is the stream's turn: when the first frame that waited was due.

        A frame that supersedes another takes its turn, or fast cameras would wait behind slow ones.
        """
        with self._lock:
            shared = self._shared
            return min(shared.turn_s, shared.mailbox[0].due_s) if shared.mailbox else math.inf

    def objects(self) -> int:
        """Return how many objects a step is likely to have."""
        state = self.memory.state
        return 1 if state is None else max(1, len(state.track_ids))

    def take(self, now_s: float, step_s: float) -> Task | None:
        """Return the frame to work on now; those that would be too late are dropped."""
        with self._lock:
            shared = self._shared
            if shared.is_busy:
                return None
            frame = self._next_in_time(now_s, step_s)
            if frame is None:
                self._wake(self)
                return None
            shared.is_busy = True
            shared.turn_s = math.inf
            now, shared.orders = orders_for(shared.orders, frame.header.seq)
            is_full, shared.is_full = shared.is_full, False
            dropped = shared.told = self._unreported + len(shared.drops)
            has_more = self.terms.options.mode == "lossless" and bool(shared.mailbox)
        if not has_more:  # else its credit goes with the result: the client is ahead as it is
            self._wake(self)
        terms = self.terms
        return Task(
            frame,
            self.memory,
            terms.options,
            terms.finder,
            now,
            dropped,
            terms.limits.pixels,
            is_full,
        )

    def _next_in_time(self, now_s: float, step_s: float) -> Incoming | None:
        shared = self._shared
        while shared.mailbox:
            frame = shared.mailbox.popleft()
            shared.taken += 1
            # half of its time is a frame's to wait in, however slow steps seem to have become
            margin_s = min(step_s, (frame.due_s - frame.arrived_s) / 2)
            if self.terms.options.mode == "lossless" or now_s + margin_s <= frame.due_s:
                return frame
            late_ms = 1000 * (now_s - frame.arrived_s)
            cause: DropCause = "deadline" if self._deadline_ms(frame.header) else "overload"
            detail = f"it waited {late_ms:.0f} ms, its step takes about {1000 * step_s:.0f} ms"
            shared.drops.append((frame.header.seq, cause, detail))
        return None

    def _deadline_ms(self, header: Header) -> int:
        return header.deadline_ms or self.terms.options.deadline_ms

    # What the connection calls -----------------------------------------------------------------

    def attach(self, last_result: int) -> int:
        """Begin a connection: results and drops that have not arrived are told again.

        Returns:
            What the connection is known by to the outbox.
        """
        self.detached_s = None
        self.leaves_as = None
        self.spoken_s = time.monotonic()
        generation = self.outbox.begin(last_result)
        for message in self._told:
            if message.ranges[0][0] > last_result:
                self.say(message)
        with self._lock:
            self._shared.is_full = True
            waiting = len(self._shared.mailbox) + self._shared.taken
        self._intake.begin(waiting)
        self.settle()  # a stream that was ended before its client left still says goodbye
        return generation

    @property
    def credits(self) -> int:
        """Frames that the client may send now."""
        return self._intake.credits

    @property
    def last_seq(self) -> int:
        """Of the last frame that came."""
        return self._intake.last_seq

    def detach(self) -> None:
        """End a connection; the stream goes on without."""
        self.detached_s = time.monotonic()

    def accept(self, packet: Packet) -> None:
        """Take a frame in.

        Raises:
            CloseStream: the connection must end.
            AnswerError: its meta is none.
        """
        header = packet.header
        meta = self._intake.read(packet)
        self._frames += 1
        now_s = self.spoken_s = time.monotonic()
        if not self._intake.pay():
            self._drop(header.seq, "overload", "sent without credit")
            self.say(self._intake.warning(header.seq))
            return
        refusal = self._intake.refusal(header, now_s)
        if self.is_draining and self.terms.options.mode != "lossless":
            refusal = ("drained", "")  # what is stored by now does not hold it
        if refusal is not None:
            self._drop(header.seq, *refusal)
            self._return_credit(1)
            return
        deadline_ms = self._deadline_ms(header)
        wait_s = deadline_ms / 1000 if deadline_ms else self.terms.max_age_s
        frame = Incoming(header, meta, packet.payload, now_s, now_s + wait_s)
        with self._lock:
            mailbox = self._shared.mailbox
            late = list(mailbox) if self.terms.options.mode != "lossless" else []
            if late:
                mailbox.clear()
            for old in late:  # before the new one can be taken: its result tells of them
                self._drop(old.header.seq, "superseded", "")
            mailbox.append(frame)
            self._shared.turn_s = min(self._shared.turn_s, frame.due_s)
        if late:
            self._return_credit(len(late))
        self._poke()

    def hear(self) -> None:
        """Note that the client lives."""
        self.spoken_s = time.monotonic()

    def order(self, message: PromptMessage | Remove, size: int = 0) -> None:
        """Keep a prompt or a removal for the frame it is meant for.

        Args:
            message: the order.
            size: of its text, characters.

        Raises:
            CloseStream: too many wait.
        """
        if self._is_answered(message.id):
            return
        at = -1
        if isinstance(message, PromptMessage) and message.at != "next":
            at = int(message.at)
        limit = self.terms.limits.objects
        count = len(message.objects if isinstance(message, PromptMessage) else message.track_ids)
        if count > limit:
            self._answer(PromptAck(message.id, -1, f"{count} objects, limit {limit} (max_objects)"))
            return
        with self._lock:
            if message.id and any(each.message.id == message.id for each in self._shared.orders):
                return  # sent again: it waits already
            if len(self._shared.orders) >= MAX_ORDERS:
                raise CloseStream(
                    CloseCode.CREDIT_OR_QUOTA, f"{MAX_ORDERS} prompts wait already, the limit"
                )
            waiting = sum(each.size for each in self._shared.orders)
            if waiting + size > MAX_ORDER_CHARACTERS:
                raise CloseStream(
                    CloseCode.CREDIT_OR_QUOTA,
                    f"{waiting + size} characters of prompts wait, limit {MAX_ORDER_CHARACTERS}",
                )
            self._shared.orders = (*self._shared.orders, Order(message, at, size))

    def reset(self, message: Reset) -> None:
        """Forget everything; frames that wait are dropped."""
        if self._is_answered(message.id):
            return
        with self._lock:
            waiting = list(self._shared.mailbox)
            self._shared.mailbox.clear()
            self._shared.orders = ()
            is_busy = self._shared.is_busy
        for frame in waiting:
            self._drop(frame.header.seq, "reset", "")
        self._return_credit(len(waiting))
        self._resets.append((self.last_seq + 1, message.id))
        if not is_busy:
            self._forget_all()

    def _forget_all(self) -> None:
        if self._resets:
            self.memory = StreamMemory(clock=self.memory.clock._replace(periods_ns=()))
            for seq, message_id in self._resets:
                self._answer(PromptAck(message_id, seq))
            self._resets.clear()
            if self.memory.clock.seq >= 0:  # that nothing is remembered is stored soon
                self.stored_seq = min(self.stored_seq, self.memory.clock.seq - 1)
                self.stored_s = -math.inf

    def _answer(self, answer: PromptAck) -> None:
        """Acknowledge a prompt, a removal or a reset."""
        self.say(answer)
        if answer.id:
            self._answers.append(answer)

    def _is_answered(self, message_id: str) -> bool:
        """Repeat the answer to a message that a client sends again, because it did not arrive."""
        found = [each for each in self._answers if message_id and each.id == message_id]
        for each in found:
            self.say(each)
        return bool(found)

    def acknowledge(self, message: Ack) -> None:
        """Let go of results that have arrived."""
        self.outbox.acknowledge(message.seq)
        self._poke()

    def end(self) -> None:
        """Finish what waits; then the stream is over."""
        self.is_ending = True
        self.settle()

    def say(self, message: ServerMessage) -> None:
        """Send a control message, if a client is there."""
        if self.detached_s is None:
            self.outbox.say(message)

    # What came of frames -----------------------------------------------------------------------

    def deliver(self, done: Done) -> None:
        """Take in what came of a frame."""
        self.hear()  # a stream that is worked for is not idle
        refused = {id(order): reason for order, reason in done.refused}
        self.memory = done.memory
        with self._lock:
            self._shared.is_busy = False
            if done.packet is None:  # what was meant for it is meant for the next
                kept = () if self._resets else done.orders
                self._shared.orders = (*kept, *self._shared.orders)
                self._shared.is_full = True
        if done.is_internal:
            self.outbox.fail(CloseStream(CloseCode.INTERNAL, f"frame {done.seq}: {done.error}"))
        if done.packet is None:
            self._drop(done.seq, "decode_error", done.error)
        else:
            self._results += 1
            self._unreported -= self._shared.told  # others were dropped meanwhile
            FRAMES.labels("result").inc()
            self.outbox.keep(done.seq, done.packet)
            for order in done.orders:
                reason = refused.get(id(order), "")
                self._answer(PromptAck(order.message.id, done.seq, reason))
        self._forget_all()
        self.settle()

    def settle(self) -> None:
        """Pass on what the scheduler's threads did: credit, drops; and offer what waits."""
        with self._lock:
            taken, self._shared.taken = self._shared.taken, 0
            drops, self._shared.drops = self._shared.drops, []
        for seq, cause, detail in drops:
            self._drop(seq, cause, detail)
        self._return_credit(taken)
        self._poke()
        if self.is_ending and not self.waiting and self.leaves_as is None:
            self.part("end", CloseCode.NORMAL, "ended")

    def part(self, reason: str, code: int, state: StreamState) -> None:
        """Say goodbye after all that is there, and close; the stream is then in a state."""
        self.leaves_as = state
        self.outbox.finish(Bye(self.counters(), reason), code)

    def drop_waiting(self) -> None:
        """Drop what waits because the server stops; a lossless stream's client sends it again."""
        with self._lock:
            waiting = list(self._shared.mailbox)
            self._shared.mailbox.clear()
        for frame in waiting:
            self._drop(frame.header.seq, "drained", "")

    def _poke(self) -> None:
        """Offer a frame that waits to the scheduler, where its result would have a place."""
        with self._lock:
            is_ready = bool(self._shared.mailbox) and not self._shared.is_busy
        if is_ready and self.outbox.has_room:
            self._offer(self)

    def _drop(self, seq: int, cause: DropCause, detail: str) -> None:
        self._dropped[cause] += 1
        self._unreported += 1
        FRAMES.labels(cause).inc()
        message = Dropped(((seq, seq),), cause, detail)
        self._told.append(message)
        self.say(message)

    def _return_credit(self, count: int) -> None:
        returned = 0 if self.is_draining else self._intake.pay_back(count)
        if returned:
            self.say(Credit(returned))

    # What it looks like ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Frames that have neither result nor been dropped."""
        with self._lock:
            shared = self._shared
            return len(shared.mailbox) + shared.is_busy + len(shared.drops)

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever sent that would have to be kept."""
        with self._lock:
            has_orders = bool(self._shared.orders)
        return not self._frames and self.memory.clock.seq < 0 and not has_orders

    @property
    def is_idle(self) -> bool:
        """Whether nothing is worked on and nothing waits."""
        return self.waiting == 0

    def leftovers(self) -> Leftovers:
        """Return what must be stored with the memory as it is now."""
        seq = self.memory.clock.seq
        later = [message for message in self._told if message.ranges[0][0] > seq]
        told = tuple(message for message in self._told if message not in later)
        dropped = self._dropped - Counter(message.cause for message in later)  # they come again
        results = self._results
        return Leftovers(
            self.outbox.kept(), told, results + dropped.total(), results, dict(dropped)
        )

    def counters(self) -> Counters:
        """Return how the accepted frames ended."""
        return Counters(self._frames, self._results, dict(self._dropped), self.waiting)
