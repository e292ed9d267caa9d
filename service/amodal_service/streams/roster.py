"""The streams that this process holds, and the memory that is promised to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from amodal_client.stream_messages import CloseCode
from amodal_model.errors import QuotaError
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.session import Session


class Roster:
    """The streams that are held here; used on the event loop alone.

    Args:
        settings: how much memory there is, and how many streams an owner may have.
        on_release: called with each session that is let go of.

    Attributes:
        reserved_bytes: of memory that is promised.
    """

    def __init__(self, settings: StreamSettings, on_release: Callable[[Session], None]) -> None:
        self.reserved_bytes = 0
        self._settings = settings
        self._on_release = on_release
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._sessions

    def find(self, stream_id: str) -> Session | None:
        """Return a stream; ``None`` where it is not held here."""
        return self._sessions.get(stream_id)

    def all(self) -> list[Session]:
        """Return all streams as they are now."""
        return list(self._sessions.values())

    def check_owner(self, owner: str) -> None:
        """Refuse an owner that has as many streams as one may have.

        Raises:
            QuotaError: it has.
        """
        limit = self._settings.per_owner
        if not limit:
            return
        count = sum(1 for each in self._sessions.values() if each.terms.owner == owner)
        if count >= limit:
            raise QuotaError(f"{count} streams are open, limit {limit}", 5.0)

    def check_room(self, needed_bytes: int) -> None:
        """Refuse a stream that there is no room for.

        Raises:
            CloseStream: there is none.
        """
        free_bytes = self._settings.memory_bytes - self.reserved_bytes
        if needed_bytes > free_bytes:
            raise CloseStream(
                CloseCode.NO_SLOT,
                f"a stream needs {needed_bytes} bytes, {free_bytes} are free "
                "(AMODAL_STREAM_MEMORY_BYTES)",
            )

    @contextmanager
    def reserved(self, needed_bytes: int) -> Iterator[None]:
        """Promise memory to a stream that is made in the block; an error in it takes it back.

        Raises:
            CloseStream: there is no room.
        """
        self.check_room(needed_bytes)
        self.reserved_bytes += needed_bytes
        try:
            yield
        except BaseException:
            self.reserved_bytes -= needed_bytes
            raise

    def hold(self, session: Session) -> None:
        """Take in a stream whose memory is reserved."""
        self._sessions[session.terms.stream_id] = session

    def release(self, session: Session) -> None:
        """Let go of a stream; of one that is not held here any more, nothing."""
        if self._sessions.get(session.terms.stream_id) is session:
            del self._sessions[session.terms.stream_id]
            self.reserved_bytes -= session.terms.memory_bytes
            self._on_release(session)

    def lose(self, session: Session, *, is_ended: bool) -> None:
        """Let go of a stream that is another replica's by now, or was ended."""
        self.release(session)
        if is_ended:
            session.part("killed", CloseCode.UNKNOWN_STREAM, "ended")
        else:
            session.outbox.fail(CloseStream(CloseCode.SUPERSEDED, "the stream is elsewhere by now"))
