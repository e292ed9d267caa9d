"""What arrives from the server of a stream: results in order, once each, and control messages."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from amodal_client.stream_backlog import Backlog
from amodal_client.stream_events import FramesDropped, LeavingServer, PromptTaken
from amodal_client.stream_inbox import Inbox
from amodal_client.stream_link import Link
from amodal_client.stream_messages import (
    Bye,
    Checkpoint,
    Credit,
    Dropped,
    ErrorMessage,
    GoAway,
    PromptAck,
    ServerMessage,
    Status,
    StreamObject,
    read_server_message,
)
from amodal_client.stream_orders import Orders
from amodal_client.stream_results import ResultReader
from amodal_client.stream_tally import Tally
from amodal_client.stream_wire import Packet, unpack

_log = logging.getLogger("amodal_client")


class Arrivals:
    """Takes messages in, and tells the other parts of a stream.

    Args:
        backlog: whose frames are answered.
        orders: that are acknowledged.
        link: the connection.
        inbox: of what the user is told.
        tally: of how frames ended.
        last_result: highest number whose result arrived before; -1: none.

    Attributes:
        last_result: highest number whose result has arrived.
        objects: of that result, whole, by track id.
    """

    def __init__(
        self,
        backlog: Backlog,
        orders: Orders,
        link: Link,
        inbox: Inbox,
        tally: Tally,
        *,
        last_result: int,
    ) -> None:
        self.last_result = last_result
        self.objects: dict[int, StreamObject] = {}
        self._backlog = backlog
        self._orders = orders
        self._link = link
        self._inbox = inbox
        self._tally = tally
        self._reader = ResultReader()

    def take(self, data: str | bytes, now_s: float) -> None:
        """Take a message in.

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
        meta = self._reader.read(packet)
        seq = packet.header.seq
        self._link.hear_result(seq, now_s)
        self._backlog.end_repeat(seq)
        if seq <= self.last_result:
            return  # sent again after a resume
        self.last_result, self.objects = seq, self._reader.objects
        self._tally.results += 1
        taken_s = self._backlog.answer(seq)
        latency_ms = math.nan if taken_s is None else self._tally.measure(now_s - taken_s)
        self._inbox.tell(self._reader.result(packet.header, meta, latency_ms), size_bytes)

    def _take_credit(self, message: Credit) -> None:
        self._link.credits += max(message.n, 0)

    def _take_dropped(self, message: Dropped) -> None:
        for first, last in message.ranges:
            self._backlog.end_repeat(last)
            if self._backlog.is_lossless and message.cause == "drained":
                continue  # it is sent again
            seqs = self._backlog.drop(first, last)
            if seqs:
                self.tell_dropped(seqs, FramesDropped((), message.cause, message.detail))

    def tell_dropped(self, seqs: list[int], event: FramesDropped) -> None:
        """Count drops and tell of them; the event says why."""
        self._tally.dropped[event.cause] += len(seqs)
        self._inbox.tell_dropped(seqs, event)

    def _take_checkpoint(self, message: Checkpoint) -> None:
        self._orders.stored(self._backlog.store(message.seq, self.last_result))

    def _take_prompt_ack(self, message: PromptAck) -> None:
        self._orders.taken(message)
        if message.id or message.error:
            self._inbox.tell(PromptTaken(message.id, message.effective_seq, message.error))

    def _take_goaway(self, message: GoAway) -> None:
        self._link.is_leaving = True
        self._inbox.tell(LeavingServer(message.reason, message.deadline_ms))

    def _take_error(self, message: ErrorMessage) -> None:
        if message.is_fatal:
            self._link.fatal = message
        else:
            _log.warning("stream: %s", message.detail or message.title)

    def _take_status(self, message: Status) -> None:
        level = logging.WARNING if message.level == "warning" else logging.INFO
        _log.log(level, "stream: %s", message.message)

    def _take_bye(self, message: Bye) -> None:
        self._link.bye_reason = message.reason


_TAKES: dict[type[ServerMessage] | type[None], Callable[[Arrivals, Any], None]] = {
    Credit: Arrivals._take_credit,
    Dropped: Arrivals._take_dropped,
    Checkpoint: Arrivals._take_checkpoint,
    PromptAck: Arrivals._take_prompt_ack,
    GoAway: Arrivals._take_goaway,
    ErrorMessage: Arrivals._take_error,
    Status: Arrivals._take_status,
    Bye: Arrivals._take_bye,
}
