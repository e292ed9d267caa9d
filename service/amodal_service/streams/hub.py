"""All live streams of this process: connected, left, drained, killed.

The hub lives on the event loop and composes what looks after streams. The database is touched in
threads; frames are worked on in the scheduler's. A stream is *connected*, then *hot* while its
memory is still here without a connection, then *warm*: a snapshot in the database that any replica
can go on from.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog
from anyio.to_thread import run_sync

from amodal_client.stream_messages import CloseCode, GoAway, SessionKind
from amodal_model.errors import MissingItemError, QuotaError
from amodal_model.onnx_session import CPU
from amodal_model.stream import AmodalSegmenter
from amodal_service.database import Database
from amodal_service.gate import Gate
from amodal_service.mask_sources import Runtime
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import metrics, store
from amodal_service.streams.admission import Terms, stream_bytes, stream_limits
from amodal_service.streams.archive import Archive
from amodal_service.streams.finders import Finders
from amodal_service.streams.frame_work import Done
from amodal_service.streams.ledger import Ledger
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.placement import Placement
from amodal_service.streams.roster import Roster
from amodal_service.streams.scheduler import Scheduler
from amodal_service.streams.session import Session
from amodal_service.streams.store import Change, StreamRow
from amodal_service.streams.tables import StreamState
from amodal_service.streams.upkeep import Upkeep

_log = structlog.get_logger()

_POLL_S = 0.02
"""Between two looks whether the streams of a server that stops are done."""
_PARTING_S = 1.0
"""Beside the time to drain, for connections to close."""
_MAX_CPU_THREADS = 4
_CPU_BATCH = 8
_GPU_BATCH = 256


class Connected(NamedTuple):
    """A stream that a connection was made to.

    Attributes:
        session: the stream.
        kind: what is left of its memory.
        token: for the next connection.
        generation: what the connection is known by to the outbox.
        received_seq: highest seq that needs no sending again; -1: none.
    """

    session: Session
    kind: SessionKind
    token: str
    generation: int
    received_seq: int


class StreamHub:
    """All live streams of this process.

    Args:
        database: of streams and replicas.
        segmenter: of all streams.
        gate: that other work on the model waits at.
        settings: what streams may use.
        own_url: how clients reach this process, where no public URL is set.
        runtime: of the networks that find visible masks.

    Attributes:
        roster: the streams that are held here.
        ledger: what is still to be written of them.
        placement: opens streams, and places them on replicas.
        upkeep: stores, closes and lets go of streams.
        scheduler: works on their frames.
    """

    def __init__(
        self,
        database: Database,
        segmenter: AmodalSegmenter,
        gate: Gate,
        settings: StreamSettings,
        own_url: str,
        runtime: Runtime,
    ) -> None:
        self.settings = settings
        self.segmenter = segmenter
        self._database = database
        self._loop: asyncio.AbstractEventLoop | None = None
        self.scheduler = _scheduler(segmenter, gate, settings, self._deliver)
        self._finders = Finders(runtime)
        self.roster = Roster(settings, self.scheduler.withdraw)
        self.ledger = Ledger(database, self.roster)
        self._archive = Archive(database, self.ledger, self.roster, segmenter, self._finders)
        self.placement = Placement(database, settings, self.roster, self.ledger, own_url)
        self.upkeep = Upkeep(
            database, settings, self.roster, self.ledger, self._archive, self.placement
        )

    # Life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take streams."""
        self._loop = asyncio.get_running_loop()
        self.scheduler.start()
        info = self.segmenter.engine.info
        metrics.PROVIDER.labels(info.requested[0], info.actual).set(1)
        await run_sync(store.show_replica, self._database, self.placement.own())
        self.upkeep.start()

    async def drain(self) -> None:
        """Take no more streams, end those that are here, keep what they remember."""
        if self.placement.is_draining:
            return
        self.placement.is_draining = True
        _log.info("streams_draining", streams=len(self.roster))
        deadline_s = time.monotonic() + self.settings.drain_s
        await self.ledger.attempt(store.show_replica, self.placement.own())
        for session in self.roster.all():
            session.is_draining = True  # what comes in now would not be finished
            session.say(GoAway("drain", round(1000 * self.settings.drain_s)))
            if session.terms.options.mode != "lossless":
                session.drop_waiting()
        while time.monotonic() < deadline_s and not all(
            session.is_idle for session in self.roster.all()
        ):
            await asyncio.sleep(_POLL_S)
        sessions = self.roster.all()
        await self._archive.store(sessions, "warm")
        for session in sessions:
            session.drop_waiting()
            session.part("drain", CloseCode.GOING_AWAY, "warm")
        while len(self.roster) and time.monotonic() < deadline_s + _PARTING_S:
            for session in [s for s in self.roster.all() if s.detached_s is not None]:
                self.roster.release(session)
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End everything."""
        await self.drain()
        await self.upkeep.stop()
        await run_sync(self.scheduler.stop)
        await self.ledger.flush()
        await self.ledger.attempt(store.forget_replica, self.placement.replica_id)

    async def kill(self, stream_id: str) -> None:
        """End a stream for good, wherever it is."""
        await self.ledger.publish()
        await run_sync(store.end_stream, self._database, stream_id)
        session = self.roster.find(stream_id)
        if session is not None:
            session.part("killed", CloseCode.UNKNOWN_STREAM, "ended")
            if session.detached_s is not None:
                self.roster.release(session)

    # Connections -------------------------------------------------------------------------------

    async def connect_new(self, owner: str, options: StreamOptions) -> Connected:
        """Open a stream here and connect to it at once.

        Raises:
            CloseStream: it cannot be.
        """
        try:
            self.roster.check_owner(owner)
        except QuotaError as error:
            raise CloseStream(CloseCode.CREDIT_OR_QUOTA, str(error)) from None
        self.roster.check_room(stream_bytes(options))
        self._check_going()
        new = store.connected_stream(owner, options.model_dump(), self.placement.replica_id)
        self.ledger.add(new)  # written within a tick, if it is still there
        try:
            return await self._connect(new.row, new.token)
        except BaseException:
            self.ledger.withdraw(new.row.id)
            raise

    async def connect(self, ticket: str) -> Connected:
        """Connect to the stream of a ticket, which is used up.

        Raises:
            CloseStream: it cannot be.
        """
        self._check_going()
        try:
            row, token = await run_sync(
                store.redeem_ticket, self._database, ticket, self.placement.replica_id
            )
        except MissingItemError as error:
            raise CloseStream(CloseCode.AUTH, str(error)) from None
        return await self._connect(row, token)

    def _check_going(self) -> None:
        if self.placement.is_draining:
            raise CloseStream(CloseCode.DRAINING, "the server is stopping")

    async def _connect(self, row: StreamRow, token: str) -> Connected:
        session = self.roster.find(row.id)
        kind: SessionKind = "hot"
        if session is not None and session.epoch != row.epoch - 1:
            # it was elsewhere meanwhile, and went on there
            self.roster.lose(session, is_ended=False)
            session = None
        if session is None:
            session, kind = await self._make_or_leave(row)
        session.epoch = row.epoch
        received = session.last_seq
        generation = session.attach(row.last_result)
        if kind != "new":
            metrics.RESUMES.labels(kind).inc()
        _log.info(
            "stream_connected",
            stream_id=row.id,
            owner=row.owner,
            session=kind,
            epoch=row.epoch,
            seq=received,
        )
        return Connected(session, kind, token, generation, received)

    async def _make_or_leave(self, row: StreamRow) -> tuple[Session, SessionKind]:
        """Make the session of a stream; where it cannot be, the stream is left to others."""
        try:
            return await self._make(row)
        except BaseException:
            change = Change(row.id, row.epoch, "warm")
            await self.ledger.attempt(store.write_changes, [change])
            raise

    async def _make(self, row: StreamRow) -> tuple[Session, SessionKind]:
        options = StreamOptions.model_validate(row.options)
        needed_bytes = stream_bytes(options)
        with self.roster.reserved(needed_bytes):
            memory, leftovers, kind = await self._archive.recall(row, options)
            terms = Terms(
                row.id,
                row.owner,
                options,
                stream_limits(options, self.settings),
                needed_bytes,
                self.settings.max_age_s,
                self._finders.find(options.masks),
            )
            self._supersede(row)
            offer = self.scheduler.offer
            session = Session(terms, memory, row.epoch, offer, self._wake, leftovers)
            self.roster.hold(session)
        return session, kind

    def _supersede(self, row: StreamRow) -> None:
        """Let go of what another connection that was made at the same time holds of a stream.

        Raises:
            CloseStream: that one came later.
        """
        other = self.roster.find(row.id)
        if other is None:
            return
        if other.epoch > row.epoch:
            raise CloseStream(
                CloseCode.SUPERSEDED, "another connection has taken the stream over", is_error=False
            )
        self.roster.lose(other, is_ended=False)

    async def leave(self, connected: Connected) -> None:
        """End a connection: the stream stays here for a while, unless it is over."""
        session = connected.session
        if not session.outbox.is_current(connected.generation):
            return
        session.detach()
        state: StreamState = session.leaves_as or ("warm" if session.is_blank else "hot")
        counters = session.counters()
        _log.info(
            "stream_left",
            stream_id=session.terms.stream_id,
            state=state,
            frames=counters.frames,
            results=counters.results,
            dropped=counters.dropped,
        )
        if state != "hot":
            self.roster.release(session)
        if session.is_blank and self.ledger.withdraw(session.terms.stream_id):
            return  # nobody will ask for it
        self.ledger.leave(Change(session.terms.stream_id, session.epoch, state))
        if not session.is_blank:  # those that had no frame wait for each other, up to a tick
            await self.ledger.flush()

    # What came of frames -----------------------------------------------------------------------

    def _deliver(self, done: list[tuple[Session, Done]]) -> None:
        metrics.BATCH_FRAMES.observe(len(done))
        self._call(_take_in, done)

    def _wake(self, session: Session) -> None:
        self._call(session.settle)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)


def _take_in(done: list[tuple[Session, Done]]) -> None:
    for session, each in done:
        session.deliver(each)


def _scheduler(
    segmenter: AmodalSegmenter,
    gate: Gate,
    settings: StreamSettings,
    deliver: Callable[[list[tuple[Session, Done]]], None],
) -> Scheduler:
    is_cpu = segmenter.engine.info.actual == CPU
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return Scheduler(
        segmenter,
        gate,
        deliver,
        threads=settings.threads or (min(_MAX_CPU_THREADS, cores) if is_cpu else 1),
        batch_objects=settings.batch_objects or (_CPU_BATCH if is_cpu else _GPU_BATCH),
    )
