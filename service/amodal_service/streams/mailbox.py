"""What waits of a stream: frames, and the orders for them.

The event loop puts in, the scheduler's threads take out. What both touch is here, behind one lock.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from amodal_client.stream_messages import CloseCode, DropCause, FrameMeta
from amodal_client.stream_wire import Header, Packet
from amodal_service.streams.frame_work import Incoming, Order, orders_for
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream

MAX_ORDERS = 64
MAX_ORDER_CHARACTERS = 1 << 20
"""Of all prompts and removals that wait."""
Drop = tuple[int, DropCause, str]
"""A frame without result: its seq, the cause, and the cause in words."""


class Taken(NamedTuple):
    """A frame to work on; its orders, earlier drops and whether it stands alone as in `Task`."""

    frame: Incoming
    orders: tuple[Order, ...]
    dropped: int
    is_full: bool


class Mailbox:
    """The frames and orders of one stream that wait.

    Args:
        options: of the stream.
        max_age_s: how long a frame without a deadline may take.
        on_news: called, in any thread, when there is `news`.
    """

    def __init__(
        self, options: StreamOptions, max_age_s: float, on_news: Callable[[], None]
    ) -> None:
        self._options = options
        self._max_age_s = max_age_s
        self._on_news = on_news
        self._lock = threading.Lock()
        self._frames: deque[Incoming] = deque()
        self._orders: tuple[Order, ...] = ()
        self._turn_s = math.inf
        self._is_busy = False
        self._is_full = True
        self._taken = 0
        self._late: list[Drop] = []
        self._unreported = 0
        self._reported = 0

    # What the scheduler's threads call ---------------------------------------------------------

    def due_s(self) -> float:
        """Return when it is the stream's turn: when the first frame that waited was due.

        A frame that supersedes another takes its turn, or fast cameras would wait behind slow ones.
        """
        with self._lock:
            return min(self._turn_s, self._frames[0].due_s) if self._frames else math.inf

    def take(self, now_s: float, step_s: float) -> Taken | None:
        """Return the frame to work on now; until `finish` or `fail` there is no other.

        Frames that would be too late are passed over, and are in the `news`.
        """
        with self._lock:
            if self._is_busy:
                return None
            frame = self._next_in_time(now_s, step_s)
            taken = None if frame is None else self._begin(frame)
            has_more = self._options.mode == "lossless" and bool(self._frames)
        if not has_more:  # else its credit goes with the result: the client is ahead as it is
            self._on_news()
        return taken

    def _next_in_time(self, now_s: float, step_s: float) -> Incoming | None:
        while self._frames:
            frame = self._frames.popleft()
            self._taken += 1
            # half of its time is a frame's to wait in, however slow steps seem to have become
            margin_s = min(step_s, (frame.due_s - frame.arrived_s) / 2)
            if self._options.mode == "lossless" or now_s + margin_s <= frame.due_s:
                return frame
            late_ms = 1000 * (now_s - frame.arrived_s)
            cause: DropCause = "deadline" if self._deadline_ms(frame.header) else "overload"
            detail = f"it waited {late_ms:.0f} ms, its step takes about {1000 * step_s:.0f} ms"
            self._late.append((frame.header.seq, cause, detail))
        return None

    def _deadline_ms(self, header: Header) -> int:
        return header.deadline_ms or self._options.deadline_ms

    def _begin(self, frame: Incoming) -> Taken:
        self._is_busy = True
        self._turn_s = math.inf
        orders, self._orders = orders_for(self._orders, frame.header.seq)
        is_full, self._is_full = self._is_full, False
        self._reported = self._unreported + len(self._late)
        return Taken(frame, orders, self._reported, is_full)

    # What the event loop calls -----------------------------------------------------------------

    def begin(self) -> int:
        """Begin a connection: its first result stands alone. Return how many frames hold credit."""
        with self._lock:
            self._is_full = True
            return len(self._frames) + self._taken

    def put(self, packet: Packet, meta: FrameMeta, now_s: float) -> None:
        """Take a frame in, behind those that wait."""
        deadline_ms = self._deadline_ms(packet.header)
        due_s = now_s + (deadline_ms / 1000 if deadline_ms else self._max_age_s)
        with self._lock:
            self._frames.append(Incoming(packet.header, meta, packet.payload, now_s, due_s))
            self._turn_s = min(self._turn_s, due_s)

    def order(self, order: Order) -> None:
        """Keep an order for its frame; one whose id waits already is the same, sent again.

        Raises:
            CloseStream: too many wait.
        """
        with self._lock:
            key = order.message.id
            if key and any(each.message.id == key for each in self._orders):
                return
            if len(self._orders) >= MAX_ORDERS:
                raise CloseStream(
                    CloseCode.CREDIT_OR_QUOTA, f"{MAX_ORDERS} prompts wait already, the limit"
                )
            size = order.size + sum(each.size for each in self._orders)
            if size > MAX_ORDER_CHARACTERS:
                raise CloseStream(
                    CloseCode.CREDIT_OR_QUOTA,
                    f"{size} characters of prompts wait, limit {MAX_ORDER_CHARACTERS}",
                )
            self._orders = (*self._orders, order)

    def empty(self) -> list[int]:
        """Let go of the frames that wait; return their seqs."""
        with self._lock:
            seqs = [frame.header.seq for frame in self._frames]
            self._frames.clear()
            return seqs

    def forget_orders(self) -> None:
        """Let go of the orders that wait."""
        with self._lock:
            self._orders = ()

    def count_drop(self) -> None:
        """Count a frame that was dropped: the next result tells how many were."""
        with self._lock:
            self._unreported += 1

    def finish(self) -> None:
        """Note that the frame that was taken has its result."""
        with self._lock:
            self._is_busy = False
            self._unreported -= self._reported  # others were dropped meanwhile

    def fail(self, orders: Sequence[Order]) -> None:
        """Note that the frame that was taken has none: its orders are meant for the next."""
        with self._lock:
            self._is_busy = False
            self._is_full = True
            self._orders = (*orders, *self._orders)

    def news(self) -> tuple[int, list[Drop]]:
        """Return what threads did since the last call: frames taken out, and the late of these."""
        with self._lock:
            taken, self._taken = self._taken, 0
            late, self._late = self._late, []
            return taken, late

    # What it looks like ------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether a frame is worked on."""
        return self._is_busy

    @property
    def is_ready(self) -> bool:
        """Whether a frame waits and none is worked on."""
        with self._lock:
            return bool(self._frames) and not self._is_busy

    @property
    def has_orders(self) -> bool:
        """Whether an order waits."""
        return bool(self._orders)

    @property
    def waiting(self) -> int:
        """Frames that have neither result nor been dropped."""
        with self._lock:
            return len(self._frames) + self._is_busy + len(self._late)
