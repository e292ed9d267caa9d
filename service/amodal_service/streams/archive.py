"""Snapshots of the streams of this process: when they are due, written, and recalled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from anyio.to_thread import run_sync

from amodal_client.stream_messages import Checkpoint, SessionKind
from amodal_model.stream import AmodalSegmenter
from amodal_service.database import Database
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.finders import Finders
from amodal_service.streams.ledger import Ledger
from amodal_service.streams.memory import Clock, StreamMemory, load_memory, save_memory
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.roster import Roster
from amodal_service.streams.session import Session
from amodal_service.streams.snapshots import Leftovers, pack_snapshot, unpack_snapshot
from amodal_service.streams.store import Change, Snapshot, StreamRow
from amodal_service.streams.tables import StreamState

_log = structlog.get_logger()

SNAPSHOT_SHARE = 0.1
"""Share of the time that snapshots may take before they are made less often."""
CAMERA_SNAPSHOT_S = 0.5
"""Seconds between snapshots of a camera's stream whose objects are followed in its images."""
MAX_SNAPSHOT_S = 10.0
"""Seconds between snapshots of a stream, however many streams there are."""
_SMOOTHING = 0.2
"""Weight of the latest write in the time that a snapshot is thought to take."""


class Recalled(NamedTuple):
    """What is left of a stream that no process holds."""

    memory: StreamMemory
    leftovers: Leftovers
    kind: SessionKind


class Archive:
    """Writes snapshots of sessions, and makes memories of them again.

    Args:
        database: where they are.
        ledger: of streams that the database does not know yet: these wait.
        roster: of the streams that are held.
        segmenter: of all streams.
        finders: their sources of visible masks.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        roster: Roster,
        segmenter: AmodalSegmenter,
        finders: Finders,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._roster = roster
        self._segmenter = segmenter
        self._finders = finders
        self._each_s = 0.0

    def is_due(self, session: Session, settings: StreamSettings, now_s: float) -> bool:
        """Return whether a stream has gone on since its snapshot, and that is old enough."""
        if session.memory.clock.seq <= session.stored_seq:
            return False
        all_s = self._each_s * len(self._roster)
        wanted_s = wanted_pause_s(session.terms.options, settings)
        return now_s - session.stored_s > snapshot_pause_s(wanted_s, all_s)

    async def store(self, sessions: Sequence[Session], state: StreamState | None) -> None:
        """Write snapshots of streams; ``state`` ``None`` leaves each in its own."""
        if sessions:
            await self._ledger.publish()
        sessions = [each for each in sessions if self._ledger.is_written(each.terms.stream_id)]
        if not sessions:
            return
        found = [(each, each.memory, each.leftovers()) for each in sessions]  # of one moment
        began_s = time.monotonic()
        changes = await run_sync(self._changes, found, state)
        lost = await self._ledger.attempt(store.write_changes, changes)
        if lost is None:
            return
        now_s = time.monotonic()
        self._each_s += _SMOOTHING * ((now_s - began_s) / len(changes) - self._each_s)
        for session, change in zip(sessions, changes, strict=True):
            if change.stream_id in lost:
                if session.epoch == change.epoch:  # else it was connected to meanwhile
                    await self._let_go(session)
            elif change.snapshot is not None:
                session.stored_seq, session.stored_s = change.snapshot.seq, now_s
                session.say(Checkpoint(change.snapshot.seq))

    def _changes(
        self,
        found: Sequence[tuple[Session, StreamMemory, Leftovers]],
        state: StreamState | None,
    ) -> list[Change]:
        changes = []
        for session, memory, leftovers in found:
            snapshot = None
            if memory.clock.seq > session.stored_seq:
                content = b""  # of a stream that was reset
                if memory.state is not None:
                    terms = session.terms
                    masks = terms.options.masks
                    content = save_memory(memory, self._segmenter, terms.finder, masks)
                snapshot = Snapshot(memory.clock.seq, pack_snapshot(content, leftovers))
            now: StreamState = "connected" if session.detached_s is None else "hot"
            change = Change(session.terms.stream_id, session.epoch, state or now, snapshot)
            changes.append(change)
        return changes

    async def _let_go(self, session: Session) -> None:
        """Let go of a stream whose row could not be written."""
        held = {session.terms.stream_id: session.epoch}
        for is_ended in (await run_sync(store.lost_streams, self._database, held)).values():
            self._roster.lose(session, is_ended=is_ended)

    async def recall(self, row: StreamRow, options: StreamOptions) -> Recalled:
        """Return what is left of a stream; nothing of one that is new."""
        if row.snapshot_seq is not None:
            return await run_sync(self._recall, row, options)
        return _nothing("new" if row.epoch <= 1 else "cold")

    def _recall(self, row: StreamRow, options: StreamOptions) -> Recalled:
        snapshot = store.load_snapshot(self._database, row.id)
        if snapshot is None:
            return _nothing("cold")
        source = self._finders.find(options.masks)
        try:
            content, leftovers = unpack_snapshot(snapshot.content)
            memory = StreamMemory(clock=Clock(snapshot.seq))
            if content:  # else the stream was reset
                memory = load_memory(content, self._segmenter, source, options.masks)
        except Exception as error:  # whatever is wrong with it: the stream begins anew
            _log.warning("stream_snapshot_unusable", stream_id=row.id, error=str(error))
            return _nothing("cold")
        return Recalled(memory, leftovers, "warm")


def _nothing(kind: SessionKind) -> Recalled:
    return Recalled(StreamMemory(), Leftovers(), kind)


def wanted_pause_s(options: StreamOptions, settings: StreamSettings) -> float:
    """Return how long a stream should wait for its next snapshot, seconds."""
    is_seen_once = options.mode != "lossless" and options.masks != "given"
    return min(settings.snapshot_s, CAMERA_SNAPSHOT_S) if is_seen_once else settings.snapshot_s


def snapshot_pause_s(wanted_s: float, all_s: float) -> float:
    """Return how long a stream waits for its next snapshot, seconds.

    Args:
        wanted_s: as it is set.
        all_s: what one snapshot of every stream takes, seconds.
    """
    return max(wanted_s, min(all_s / SNAPSHOT_SHARE, MAX_SNAPSHOT_S))
