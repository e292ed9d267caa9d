"""What is done again and again for the streams of a process: kept, closed, shown, swept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from anyio.to_thread import run_sync

from amodal_client.stream_messages import CloseCode
from amodal_service.database import Database
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import metrics, store
from amodal_service.streams.archive import Archive
from amodal_service.streams.ledger import Ledger
from amodal_service.streams.placement import Placement
from amodal_service.streams.roster import Roster
from amodal_service.streams.session import Session

_log = structlog.get_logger()

TICK_S = 0.25
SWEEP_S = 30.0


class Upkeep:
    """Looks after the streams of a process in tasks of its own.

    Args:
        database: of streams and replicas.
        settings: what streams may use.
        roster: of the streams that are held.
        ledger: of what is still to be written of them.
        archive: of their snapshots.
        placement: shows that this process lives.
    """

    def __init__(
        self,
        database: Database,
        settings: StreamSettings,
        roster: Roster,
        ledger: Ledger,
        archive: Archive,
        placement: Placement,
    ) -> None:
        self._database = database
        self._settings = settings
        self._roster = roster
        self._ledger = ledger
        self._archive = archive
        self._placement = placement
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        for work, pause_s in (
            (self.tick, TICK_S),
            (self.beat, self._settings.heartbeat_s),
            (self.sweep, SWEEP_S),
        ):
            self._tasks.append(asyncio.create_task(_repeat(work, pause_s)))

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def tick(self) -> None:
        """Store what has changed, close what is idle, let go of what nobody came back to."""
        await self._ledger.flush()
        now_s = time.monotonic()
        sessions = self._roster.all()
        gone = [each for each in sessions if self._is_gone(each, now_s)]
        idle = [each for each in sessions if self._is_idle(each, now_s)]
        due = [
            each
            for each in sessions
            if self._archive.is_due(each, self._settings, now_s)
            and each not in gone
            and each not in idle
        ]
        await self._archive.store(due, None)
        await self._archive.store([each for each in gone if each.leaves_as == "ended"], "ended")
        await self._archive.store(
            [*(each for each in gone if each.leaves_as != "ended"), *idle], "warm"
        )
        for session in idle:
            reason = f"idle for more than {self._settings.idle_s:g} s"
            session.part(reason, CloseCode.IDLE_OR_SLOW, "warm")
        for session in gone:
            if session.detached_s is not None:
                self._roster.release(session)
        self._measure(sessions)

    def _is_gone(self, session: Session, now_s: float) -> bool:
        """Return whether nobody came back to a stream in time."""
        if session.detached_s is None:
            return False
        return now_s - session.detached_s > self._settings.hot_s and session.is_idle

    def _is_idle(self, session: Session, now_s: float) -> bool:
        """Return whether a client has said nothing for too long."""
        if session.detached_s is not None or session.leaves_as is not None:
            return False
        return now_s - session.spoken_s > self._settings.idle_s

    def _measure(self, sessions: Sequence[Session]) -> None:
        connected = sum(1 for each in sessions if each.detached_s is None)
        metrics.STREAMS.labels("connected").set(connected)
        metrics.STREAMS.labels("hot").set(len(sessions) - connected)
        metrics.MEMORY_BYTES.set(self._roster.reserved_bytes)
        metrics.STALLED.set(sum(1 for each in sessions if not each.outbox.has_room))

    async def beat(self) -> None:
        """Show that this process lives, and let go of streams that are no longer its own."""
        await run_sync(store.show_replica, self._database, self._placement.own())
        await self._ledger.publish()
        held = {
            each.terms.stream_id: each.epoch
            for each in self._roster.all()
            if self._ledger.is_written(each.terms.stream_id)
        }
        lost = await run_sync(store.lost_streams, self._database, held)
        for stream_id, is_ended in lost.items():
            session = self._roster.find(stream_id)
            if session is not None and session.epoch == held[stream_id]:
                self._roster.lose(session, is_ended=is_ended)

    async def sweep(self) -> None:
        """Remove streams that can no longer be resumed."""
        live = [each.id for each in await run_sync(self._placement.live)]
        await run_sync(store.sweep_streams, self._database, 2 * self._settings.resume_s, live)


async def _repeat(work: Callable[[], Any], pause_s: float) -> None:
    while True:
        await asyncio.sleep(pause_s)
        try:
            await work()
        except Exception as error:
            _log.error("streams_upkeep_failed", work=work.__name__, exc_info=error)
