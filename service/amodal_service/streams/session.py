"""One live stream: what its client asks for, what it is told, what comes of its frames.

A session outlives its connections. Its methods run on the event loop, but for `take`, `due_s` and
`objects`, which the scheduler's threads call; what both touch is in the mailbox, behind a lock.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from amodal_client.stream_messages import (
    Ack,
    Bye,
    CloseCode,
    Counters,
    Credit,
    DropCause,
    PromptAck,
    PromptMessage,
    Remove,
    Reset,
    ServerMessage,
)
from amodal_client.stream_wire import Packet
from amodal_service.streams.admission import Terms
from amodal_service.streams.frame_work import Done, Order, Task
from amodal_service.streams.intake import Intake
from amodal_service.streams.mailbox import MAX_ORDERS, Mailbox
from amodal_service.streams.memory import StreamMemory
from amodal_service.streams.outbox import CloseStream, Outbox
from amodal_service.streams.snapshots import Leftovers
from amodal_service.streams.tables import StreamState
from amodal_service.streams.tally import Tally


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
        self._mailbox = Mailbox(terms.options, terms.max_age_s, lambda: wake(self))
        self._intake = Intake(terms.options, terms.limits.fps, memory.clock.seq)
        carried = leftovers or Leftovers()
        self._tally = Tally(carried)
        self.outbox.restore(carried.results)
        self._answers: deque[PromptAck] = deque(maxlen=MAX_ORDERS)
        self._resets: list[tuple[int, str]] = []

    # What the scheduler calls ------------------------------------------------------------------

    def due_s(self) -> float:
        """Return when it is the stream's turn; infinity: no frame waits."""
        return self._mailbox.due_s()

    def objects(self) -> int:
        """Return how many objects a step is likely to have."""
        state = self.memory.state
        return 1 if state is None else max(1, len(state.track_ids))

    def take(self, now_s: float, step_s: float) -> Task | None:
        """Return the frame to work on now; those that would be too late are dropped."""
        taken = self._mailbox.take(now_s, step_s)
        if taken is None:
            return None
        frame, orders, dropped, is_full = taken
        options, finder, pixels = self.terms.options, self.terms.finder, self.terms.limits.pixels
        return Task(frame, self.memory, options, finder, orders, dropped, pixels, is_full)

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
        for message in self._tally.told_after(last_result):
            self.say(message)
        self._intake.begin(self._mailbox.begin())
        self.settle()  # a stream that was ended before its client left still says goodbye
        return generation

    @property
    def credits(self) -> int:
        """Frames that the client may send now."""
        return self._intake.credits

    @property
    def last_seq(self) -> int:
        """Of the last frame that came; -1 before any."""
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
        self._tally.frames += 1
        now_s = self.spoken_s = time.monotonic()
        if not self._intake.pay():
            self._drop(header.seq, "overload", "sent without credit")
            self.say(self._intake.warning(header.seq))
            return
        is_live = self.terms.options.mode != "lossless"
        refusal = self._intake.refusal(header, now_s)
        if is_live and self.is_draining:  # what is stored by now does not hold it
            refusal = ("drained", "")
        if refusal is not None:
            self._drop(header.seq, *refusal)
            self._return_credit(1)
            return
        if is_live:  # before the new one can be taken: its result tells of them
            self._return_credit(self.drop_waiting("superseded"))
        self._mailbox.put(packet, meta, now_s)
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
        self._mailbox.order(Order(message, at, size))

    def reset(self, message: Reset) -> None:
        """Forget everything; frames that wait are dropped."""
        if self._is_answered(message.id):
            return
        self._return_credit(self.drop_waiting("reset"))
        self._mailbox.forget_orders()
        self._resets.append((self.last_seq + 1, message.id))
        if not self._mailbox.is_busy:
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
        if done.is_internal:
            self.outbox.fail(CloseStream(CloseCode.INTERNAL, f"frame {done.seq}: {done.error}"))
        if done.packet is None:
            self._mailbox.fail(() if self._resets else done.orders)
            self._drop(done.seq, "decode_error", done.error)
        else:
            self._mailbox.finish()
            self._tally.count_result()
            self.outbox.keep(done.seq, done.packet)
            for order in done.orders:
                reason = refused.get(id(order), "")
                self._answer(PromptAck(order.message.id, done.seq, reason))
        self._forget_all()
        self.settle()

    def settle(self) -> None:
        """Pass on what the scheduler's threads did: credit, drops; and offer what waits."""
        taken, late = self._mailbox.news()
        for drop in late:
            self._drop(*drop)
        self._return_credit(taken)
        self._poke()
        if self.is_ending and not self.waiting and self.leaves_as is None:
            self.part("end", CloseCode.NORMAL, "ended")

    def part(self, reason: str, code: int, state: StreamState) -> None:
        """Say goodbye after all that is there, and close; the stream is then in a state."""
        self.leaves_as = state
        self.outbox.finish(Bye(self.counters(), reason), code)

    def drop_waiting(self, cause: DropCause = "drained") -> int:
        """Drop the frames that wait; return how many that are.

        Where the server stops, a lossless stream's client sends them again.
        """
        seqs = self._mailbox.empty()
        for seq in seqs:
            self._drop(seq, cause)
        return len(seqs)

    def _poke(self) -> None:
        """Offer a frame that waits to the scheduler, where its result would have a place."""
        if self._mailbox.is_ready and self.outbox.has_room:
            self._offer(self)

    def _drop(self, seq: int, cause: DropCause, detail: str = "") -> None:
        self._mailbox.count_drop()
        self.say(self._tally.count_drop(seq, cause, detail))

    def _return_credit(self, count: int) -> None:
        returned = 0 if self.is_draining else self._intake.pay_back(count)
        if returned:
            self.say(Credit(returned))

    # What it looks like ------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Frames that have neither result nor been dropped."""
        return self._mailbox.waiting

    @property
    def is_blank(self) -> bool:
        """Whether nothing was ever sent that would have to be kept."""
        is_untouched = not self._tally.frames and not self._mailbox.has_orders
        return is_untouched and self.memory.clock.seq < 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is worked on and nothing waits."""
        return self.waiting == 0

    def leftovers(self) -> Leftovers:
        """Return what must be stored with the memory as it is now."""
        return self._tally.leftovers(self.memory.clock.seq, self.outbox.kept())

    def counters(self) -> Counters:
        """Return how the accepted frames ended."""
        return self._tally.counters(self.waiting)
