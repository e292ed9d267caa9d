"""What holds while one connection lasts: credits, control messages, acknowledgements."""

from __future__ import annotations

import math
from collections import deque

from amodal_client.stream_messages import (
    Ack,
    ErrorMessage,
    PromptMessage,
    Reset,
    Welcome,
    encode_message,
)

ACK_RESULTS = 8
ACK_S = 0.5


class Link:
    """The connection of a stream, over and over.

    Args:
        message_bytes: of one message at most, until a server says less.

    Attributes:
        is_open: whether there is a connection.
        is_leaving: whether its server said that it will close.
        is_end_sent: whether the stream's end was said.
        credits: frames that the server takes now.
        message_bytes: of one message, at most.
        fatal: why the server closes.
        bye_reason: what its goodbye gave as the reason.
    """

    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = self._wanted_bytes = message_bytes
        self.is_leaving = False
        self.close()

    def open(self, welcome: Welcome, last_result: int) -> None:
        """Begin a connection; results up to one have arrived before it."""
        self.is_open, self.is_leaving = True, False
        self.credits = max(welcome.credits, 0)
        self.message_bytes = min(welcome.limits.message_bytes, self._wanted_bytes)
        self._received_seq = last_result

    def close(self) -> None:
        """End the connection; whether its server was leaving is known until the next."""
        self.is_open = self.is_end_sent = False
        self.credits = 0
        self.fatal: ErrorMessage | None = None
        self.bye_reason = ""
        self._control: deque[str] = deque()
        self._unacked, self._ack_due_s, self._received_seq = 0, math.inf, -1

    def say(self, message: PromptMessage | Reset) -> None:
        """Queue a control message, if there is a connection; else a resume sends it."""
        if self.is_open:
            self._control.append(encode_message(message))

    def hear_result(self, seq: int, now_s: float) -> None:
        """Note a result that is to be acknowledged."""
        self._received_seq = max(self._received_seq, seq)
        self._ack_due_s = min(self._ack_due_s, now_s + ACK_S)
        self._unacked += 1

    @property
    def ack_due_s(self) -> float:
        """When results are to be acknowledged; infinity: none wait for it."""
        return self._ack_due_s

    def control(self, now_s: float, *, may_ack: bool) -> str | None:
        """Return the control message that is to be sent now, acknowledgements last."""
        if self._control:
            return self._control.popleft()
        is_due = self._unacked >= ACK_RESULTS or now_s >= self._ack_due_s
        if not (may_ack and self._unacked and is_due):
            return None
        self._unacked, self._ack_due_s = 0, math.inf
        return encode_message(Ack(self._received_seq))
