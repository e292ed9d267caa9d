"""The frames of a stream from when they are given until nothing asks for them any more.

A live stream holds the latest frame alone, a lossless one all that a resume may need. A camera's
stream whose objects are followed in its images also keeps some frames that were sent: a server that
has forgotten them is shown them again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from amodal_client.stream_frames import OutgoingFrame
from amodal_client.stream_wire import REPLAYED

MAX_UNANSWERED = 4096
MAX_KEPT = 16
"""Latest frames of a camera's stream that are kept for a server that forgets them."""


class Shipment(NamedTuple):
    """A frame that is to be sent now."""

    seq: int
    frame: OutgoingFrame
    flags: int


@dataclass
class _Given:
    """A frame that was sent, or is to be: ``frame`` is kept only where it may be sent again."""

    taken_s: float
    frame: OutgoingFrame | None = None
    cost: int = 0
    is_answered: bool = False
    is_of_before: bool = False


class Backlog:
    """Frames by their number.

    Args:
        is_lossless: whether all are sent, and kept until they are stored.
        is_shown_again: whether latest ones are kept to show them again.
        room_bytes: of frames that are kept.

    Attributes:
        is_lossless: as given.
        kept_bytes: of frames that are kept.
        lost: frames that were given up without an outcome.
        thinned_seq: highest number of a frame that was let go of to keep others; -1: none.
    """

    def __init__(self, *, is_lossless: bool, is_shown_again: bool, room_bytes: int) -> None:
        self.kept_bytes = 0
        self.lost = 0
        self.thinned_seq = -1
        self.is_lossless = is_lossless
        self._is_shown_again = is_shown_again
        self._room_bytes = room_bytes
        self._frames: dict[int, _Given] = {}
        self._mailbox: tuple[int, OutgoingFrame] | None = None
        self._queue: deque[int] = deque()
        self._again: deque[int] = deque()
        self._repeating: int | None = None
        self._evicted = 0
        self._stored_seq = -1

    # Taken in ----------------------------------------------------------------------------------

    def has_room(self, size_bytes: int) -> bool:
        """Return whether a frame can be kept; lets go of the oldest that have their result."""
        if not self._frames or self.kept_bytes + size_bytes <= self._room_bytes:
            return True
        for seq in [seq for seq, given in self._frames.items() if given.is_answered]:
            self._forget(seq)
            self._evicted += 1
            if self.kept_bytes + size_bytes <= self._room_bytes:
                return True
        return False

    def add(self, seq: int, frame: OutgoingFrame, now_s: float) -> int | None:
        """Take a frame in; return the number of the one that it supersedes, if any."""
        if self.is_lossless:
            self._frames[seq] = _Given(now_s, frame, frame.size_bytes)
            self.kept_bytes += frame.size_bytes
            self._queue.append(seq)
            return None
        superseded = None if self._mailbox is None else self._mailbox[0]
        if superseded is not None:
            self._frames.pop(superseded, None)
        self._mailbox = (seq, frame)
        self._frames[seq] = _Given(now_s)
        return superseded

    # Sent --------------------------------------------------------------------------------------

    @property
    def queued(self) -> int:
        """Frames of a lossless stream that are to be sent."""
        return len(self._queue) + len(self._again)

    @property
    def has_unsent(self) -> bool:
        """Whether there is a frame that is to be sent."""
        return bool(self._again or self._queue or self._mailbox)

    def next(self) -> Shipment | None:
        """Return the frame that is to be sent next; None where there is none yet."""
        if self._repeating is not None:
            return None  # it would be superseded
        for queued, flags in ((self._again, REPLAYED), (self._queue, 0)):
            while queued:
                seq = queued.popleft()
                given = self._frames.get(seq)
                if given is not None and given.frame is not None:  # not let go of meanwhile
                    self._repeating = None if self.is_lossless else seq
                    return Shipment(seq, given.frame, flags)
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
            seq = next(seq for seq, given in self._frames.items() if not given.is_answered)
            self._forget(seq)
            self.lost += 1

    def _keep(self, seq: int, frame: OutgoingFrame) -> None:
        """Keep a camera's frame beside those before it, which are thinned out for it."""
        given = self._frames[seq]
        given.frame, given.cost = frame, frame.size_bytes
        self.kept_bytes += given.cost
        kept = [each for each, given in self._frames.items() if given.frame is not None]
        while len(kept) > 1 and (len(kept) > MAX_KEPT or self.kept_bytes > self._room_bytes):
            # the one without which the time between two is shortest; the latest stays
            spans = [later - sooner for sooner, later in zip(kept, kept[2:], strict=False)]
            self._thin_out(kept.pop(spans.index(min(spans)) + 1 if spans else 0))

    def _thin_out(self, seq: int) -> None:
        self.thinned_seq = max(self.thinned_seq, seq)
        given = self._frames[seq]
        if given.is_answered:
            self._forget(seq)
            return
        self.kept_bytes -= given.cost
        given.frame, given.cost = None, 0

    def end_repeat(self, seq: int) -> None:
        """Let the next frame go out after one that is shown again."""
        if self._repeating is not None and seq >= self._repeating:
            self._repeating = None

    # Answered ----------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Frames without an outcome."""
        return sum(1 for given in self._frames.values() if not given.is_answered)

    def is_kept(self, seq: int) -> bool:
        """Return whether a frame could be sent again."""
        given = self._frames.get(seq)
        return given is not None and given.frame is not None

    def answer(self, seq: int) -> float | None:
        """Note the result of a frame; return when that was given, None where it is not known."""
        before = self._up_to(seq - 1)
        passed = [s for s, given in before if given.is_of_before and not given.is_answered]
        for each in passed:  # results come in order: theirs will not
            self._forget(each)
        self.lost += len(passed)
        given = self._frames.get(seq)
        if given is None:
            return None
        given.is_answered = True
        if self._is_shown_again:
            self._forget_stored(seq)
        if given.frame is None or (seq <= self._stored_seq and not self._is_shown_again):
            self._forget(seq)
        return given.taken_s

    def drop(self, first: int, last: int) -> list[int]:
        """Note that frames were dropped; return those that had no outcome yet."""
        seqs = [
            seq
            for seq, given in self._frames.items()
            if first <= seq <= last and not given.is_answered
        ]
        for seq in seqs:
            self._forget(seq)
        return seqs

    def refuse(self, seq: int) -> bool:
        """Let go of a frame that cannot be sent; return whether it had no result yet."""
        self.end_repeat(seq)
        given = self._frames.get(seq)
        self._forget(seq)
        return given is None or not given.is_answered

    def store(self, seq: int, last_result: int) -> int:
        """Note that a snapshot holds frames up to one; return up to which by now.

        Args:
            seq: of the last frame in the snapshot.
            last_result: highest number whose result has arrived.
        """
        self._stored_seq = max(self._stored_seq, seq)
        self._forget_stored(last_result)
        if not any(given.is_answered for given in self._frames.values()):
            self._evicted = 0
        return self._stored_seq

    def _forget_stored(self, last_result: int) -> None:
        """Let go of frames that have their result and are in a snapshot.

        The latest of a camera's stream stays: objects are shown in it if the snapshot is lost.
        """
        stored = self._up_to(self._stored_seq)
        latest = last_result if self._is_shown_again else -1
        for seq in [seq for seq, given in stored if given.is_answered and seq != latest]:
            self._forget(seq)

    def _up_to(self, last: int) -> list[tuple[int, _Given]]:
        found = []
        for each, given in self._frames.items():
            if each > last:
                break
            found.append((each, given))
        return found

    def _forget(self, seq: int) -> None:
        given = self._frames.pop(seq, None)
        if given is not None:
            self.kept_bytes -= given.cost

    # Connections -------------------------------------------------------------------------------

    def part(self) -> None:
        """Take in that the connection is lost."""
        self._again.clear()
        self._repeating = None

    def rewind(self, received: int, floor: int, *, is_hot: bool) -> list[int]:
        """Queue what is to be sent again after a resume; return the frames that are lost.

        Args:
            received: highest number that the server still knows of.
            floor: frames up to this one are not sent again.
            is_hot: whether it knows all that it received.
        """
        lost = self._lost_frames(received, floor, is_hot=is_hot)
        for seq in lost:
            self._forget(seq)
        self.lost += len(lost)
        if not is_hot:
            self._stored_seq = received
            for seq in [s for s, given in self._frames.items() if given.is_answered and s <= floor]:
                self._forget(seq)
        unsent = set(self._queue)
        self._again = deque(
            seq
            for seq, given in self._frames.items()
            if given.frame is not None and seq > floor and seq not in unsent
        )
        for seq in self._again:
            self._frames[seq].is_of_before = False
        return lost

    def _lost_frames(self, received: int, floor: int, *, is_hot: bool) -> list[int]:
        """Return the frames that will get no outcome any more; marks those that still may."""
        unsent = {*self._queue, *([self._mailbox[0]] if self._mailbox else [])}
        lost = []
        for seq, given in self._frames.items():
            if given.is_answered or seq in unsent:
                continue
            if is_hot and seq <= received:
                given.is_of_before = True
            elif not self.is_lossless or given.frame is None or seq <= floor:
                lost.append(seq)
        return lost

    def take_skipped(self) -> int:
        """Return how many frames with results were let go of that a server may lack, once."""
        skipped, self._evicted = self._evicted, 0
        return skipped

    def end(self) -> None:
        """Give up what has no outcome: none will come."""
        self.lost += self.waiting
        self._frames.clear()
        self.kept_bytes = 0
