"""Which of a client's frames are taken in: those with credit, at the agreed rate and pace."""

from __future__ import annotations

from amodal_client.stream_messages import CloseCode, DropCause, FrameMeta, Status
from amodal_client.stream_wire import Header, Packet, read_meta
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream

CREDITS = {"realtime": 2, "paced": 2, "lossless": 4}
"""Frames that a client may send before credit comes back."""
MAX_META_BYTES = 1 << 20
"""Of a frame's meta: its numbers take up to 32 times as much once they are read."""
FLOOD = 8
"""Frames without credit that a connection is closed for."""
PACED_SLACK = 0.75
"""Share of the wanted period that must have passed between two frames that are taken."""


class Intake:
    """What the client of one stream may send.

    Args:
        options: of the stream.
        limit_fps: frames a second that are taken, on average; 0: no limit.
        last_seq: of the last frame before.

    Attributes:
        credits: frames that may be sent now.
        last_seq: of the last frame that came.
    """

    def __init__(self, options: StreamOptions, limit_fps: float, last_seq: int) -> None:
        self._options = options
        self._limit_fps = limit_fps
        self._allowed = CREDITS[options.mode]
        self.credits = self._allowed
        self.last_seq = last_seq
        self._flooded = 0
        self._taken_ns = 0
        self._rate_s = 0.0

    def begin(self, held: int) -> None:
        """Begin a connection, with the credit that no frame holds."""
        self.credits = max(0, self._allowed - held)
        self._flooded = 0

    def read(self, packet: Packet) -> FrameMeta:
        """Return the meta of a frame that is the next.

        Raises:
            CloseStream: the connection must end.
            AnswerError: its meta is none.
        """
        seq, size = packet.header.seq, len(packet.meta)
        if seq <= self.last_seq:
            text = f"seq {seq} after {self.last_seq}: it must rise"
            raise CloseStream(CloseCode.BAD_MESSAGE, text)
        if size > MAX_META_BYTES:
            text = f"meta of frame {seq} is {size} bytes, limit {MAX_META_BYTES}"
            raise CloseStream(CloseCode.TOO_LARGE, text)
        meta = read_meta(packet.meta, FrameMeta) if size else FrameMeta()
        self.last_seq = seq
        return meta

    def pay(self) -> bool:
        """Take the credit of a frame; return whether there was one."""
        if self.credits <= 0:
            return False
        self.credits -= 1
        return True

    def pay_back(self, count: int) -> int:
        """Return the credit of frames, no more than is paid; return how much that is."""
        count = min(count, self._allowed - self.credits)
        self.credits += count
        return count

    def warning(self, seq: int) -> Status:
        """Return what is said of a frame without credit.

        Raises:
            CloseStream: it is one too many.
        """
        self._flooded += 1
        limit = f"limit {self._allowed} at a time"
        if self._flooded >= FLOOD:
            text = f"{self._flooded} frames were sent without credit, {limit}"
            raise CloseStream(CloseCode.CREDIT_OR_QUOTA, text)
        return Status("warning", f"frame {seq} was sent without credit: wait for it ({limit})")

    def refusal(self, header: Header, now_s: float) -> tuple[DropCause, str] | None:
        """Return why a frame is not taken, if it is one too many or comes too early."""
        if self._limit_fps:
            self._rate_s = max(self._rate_s, now_s - 1.0)
            if self._rate_s > now_s:
                return "overload", f"limit {self._limit_fps:g} frames a second"
            self._rate_s += 1.0 / self._limit_fps
        options = self._options
        if options.mode == "paced" and options.fps and header.capture_ns:
            passed_ns = header.capture_ns - self._taken_ns
            if self._taken_ns and 0 <= passed_ns < PACED_SLACK * 1e9 / options.fps:
                return "superseded", ""
            self._taken_ns = header.capture_ns
        return None
