"""All live streams of this process: admitted, connected, resumed, stored, drained.

The hub lives on the event loop. The database is touched in threads; frames are worked on in the
scheduler's. A stream is *connected*, then *hot* while its memory is still here without a
connection, then *warm*: a snapshot in the database that any replica can go on from.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import structlog
from anyio.to_thread import run_sync

from amodal_client.stream_messages import Checkpoint, CloseCode, GoAway, SessionKind
from amodal_model.errors import (
    ExpiredError,
    LimitError,
    MissingItemError,
    NoSlotError,
    QuotaError,
    UnavailableError,
)
from amodal_model.onnx_session import CPU, provider_of
from amodal_model.source_given import GivenSource
from amodal_model.stream import AmodalSegmenter
from amodal_model.visible_source import VisibleMaskSource
from amodal_service.database import Database
from amodal_service.gate import Gate
from amodal_service.live_workers import new_worker_name
from amodal_service.mask_sources import SOURCES
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import metrics, store
from amodal_service.streams.admission import stream_bytes, stream_limits
from amodal_service.streams.frame_work import Done
from amodal_service.streams.memory import Clock, StreamMemory, load_memory, save_memory
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.scheduler import Scheduler
from amodal_service.streams.session import Session, Terms
from amodal_service.streams.snapshots import Leftovers, pack_snapshot, unpack_snapshot
from amodal_service.streams.store import Change, NewStream, Replica, Snapshot, StreamRow
from amodal_service.streams.tables import StreamState

_log = structlog.get_logger()

TICK_S = 0.25
SWEEP_S = 30.0
SNAPSHOT_SHARE = 0.1
"""Share of the time that snapshots may take before they are made less often."""
CAMERA_SNAPSHOT_S = 0.5
"""Seconds between snapshots of a camera's stream whose objects are followed in its images."""
MAX_SNAPSHOT_S = 10.0
"""Seconds between snapshots of a stream, however many streams there are."""
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


class Placed(NamedTuple):
    """A stream that may be connected to, and where."""

    stream_id: str
    url: str
    ticket: str
    options: StreamOptions


class StreamHub:
    """All live streams of this process.

    Args:
        database: of streams and replicas.
        segmenter: of all streams.
        gate: that other work on the model waits at.
        settings: what streams may use.
        own_url: how clients reach this process, where no public URL is set.
    """

    def __init__(
        self,
        database: Database,
        segmenter: AmodalSegmenter,
        gate: Gate,
        settings: StreamSettings,
        own_url: str,
    ) -> None:
        self.settings = settings
        self.segmenter = segmenter
        self.replica_id = new_worker_name().id
        self.is_draining = False
        self._database = database
        self._url = settings.public_url or own_url
        self._sessions: dict[str, Session] = {}
        self._reserved = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._new: dict[str, NewStream] = {}
        self._left: list[Change] = []
        self._writing = asyncio.Lock()
        self._store_s = 0.0
        self._sources: dict[str, VisibleMaskSource[Any]] = {"given": GivenSource()}
        is_cpu = segmenter.engine.info.actual == CPU
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        threads = settings.threads or (min(_MAX_CPU_THREADS, cores) if is_cpu else 1)
        self.scheduler = Scheduler(
            segmenter,
            gate,
            self._deliver,
            threads=threads,
            batch_objects=settings.batch_objects or (_CPU_BATCH if is_cpu else _GPU_BATCH),
        )

    # Life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take streams."""
        self._loop = asyncio.get_running_loop()
        self.scheduler.start()
        info = self.segmenter.engine.info
        metrics.PROVIDER.labels(info.requested[0], info.actual).set(1)
        await run_sync(store.show_replica, self._database, self._as_replica())
        for repeat, pause_s in (
            (self._tick, TICK_S),
            (self._beat, self.settings.heartbeat_s),
            (self._sweep, SWEEP_S),
        ):
            self._tasks.append(asyncio.create_task(self._repeat(repeat, pause_s)))

    async def drain(self) -> None:
        """Take no more streams, end those that are here, keep what they remember."""
        if self.is_draining:
            return
        self.is_draining = True
        _log.info("streams_draining", streams=len(self._sessions))
        deadline_s = time.monotonic() + self.settings.drain_s
        await self._try(store.show_replica, self._database, self._as_replica())
        for session in self._sessions.values():
            session.is_draining = True  # what comes in now would not be finished
            session.say(GoAway("drain", round(1000 * self.settings.drain_s)))
            if session.terms.options.mode != "lossless":
                session.drop_waiting()
        while time.monotonic() < deadline_s and not all(
            session.is_idle for session in self._sessions.values()
        ):
            await asyncio.sleep(0.02)
        sessions = list(self._sessions.values())
        await self._store(sessions, "warm")
        for session in sessions:
            session.drop_waiting()
            session.part("drain", CloseCode.GOING_AWAY, "warm")
        while self._sessions and time.monotonic() < deadline_s + 1.0:
            for session in [s for s in self._sessions.values() if s.detached_s is not None]:
                self._release(session)
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End everything."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await run_sync(self.scheduler.stop)
        await self._write_left()
        await self._try(store.forget_replica, self._database, self.replica_id)

    def check(self, options: StreamOptions) -> None:
        """Refuse options beyond what a stream may ask for.

        Raises:
            LimitError: one is; names it.
        """
        settings = self.settings
        for name, value, limit, variable in (
            ("max_objects", options.max_objects, settings.objects, "OBJECTS"),
            (
                "max_message_bytes",
                options.max_message_bytes,
                settings.message_bytes,
                "MESSAGE_BYTES",
            ),
        ):
            if value > limit:
                raise LimitError(f"{name} is {value}, limit {limit} (AMODAL_STREAM_{variable})")

    # Opening -----------------------------------------------------------------------------------

    async def open(self, owner: str, options: StreamOptions) -> Placed:
        """Make a stream and place it where there is most room.

        Raises:
            LimitError: more than a stream may ask for.
            QuotaError: the owner has too many.
            NoSlotError: no replica has room.
            UnavailableError: this server is stopping.
        """
        self._check_owner(owner)
        place = await self._place(stream_bytes(options))
        row, _, ticket = await run_sync(
            store.create_stream, self._database, owner, options.model_dump(), place.id
        )
        return Placed(row.id, self._url_of(place), ticket, options)

    def _url_of(self, place: Replica) -> str:
        """Return how to reach a replica; empty: as the request reached this one."""
        is_here = place.id == self.replica_id
        return "" if is_here and not self.settings.public_url else place.url

    async def reopen(self, owner: str | None, token: str, last_result: int) -> Placed:
        """Place a stream that is to be resumed: where its memory is, else where there is room.

        Raises:
            MissingItemError: the token is of no stream of the owner's.
            ExpiredError: it can no longer be resumed.
            NoSlotError: no replica has room.
            UnavailableError: this server is stopping.
        """
        await self.publish()
        row = await run_sync(self._find_by_token, owner, token)
        options = StreamOptions.model_validate(row.options)
        replicas = await run_sync(self._live)
        holder = next((each for each in replicas if each.id == row.replica), None)
        is_held = row.state in ("connected", "hot") and holder is not None
        if is_held and holder is not None and not holder.is_draining:
            place = holder
        else:
            place = await self._place(stream_bytes(options))
            if row.state in ("connected", "hot"):
                row = replace(row, state="warm")
        ticket = await run_sync(
            store.issue_ticket, self._database, row, token, place.id, last_result
        )
        return Placed(row.id, self._url_of(place), ticket, options)

    def _find_by_token(self, owner: str | None, token: str) -> StreamRow:
        with self._database.read() as connection:
            row = store.find_by_token(connection, token)
        if owner is not None and row.owner != owner:
            raise MissingItemError("the resume token is of no stream")
        silent_s = time.time() - row.seen_s
        if row.state in ("placed", "warm") and silent_s > self.settings.resume_s:
            raise ExpiredError(
                f"stream {row.id} was left {silent_s:.0f} s ago, limit {self.settings.resume_s:g}"
            )
        return row

    def _check_owner(self, owner: str) -> None:
        limit = self.settings.per_owner
        count = sum(1 for each in self._sessions.values() if each.terms.owner == owner)
        if limit and count >= limit:
            raise QuotaError(f"{count} streams are open, limit {limit}", 5.0)

    async def _place(self, needed: int) -> Replica:
        replicas = await run_sync(self._live)
        able = [
            each
            for each in replicas
            if not each.is_draining and each.room_bytes - each.used_bytes >= needed
        ]
        if able:
            return able[0]
        if all(each.is_draining for each in replicas):
            raise UnavailableError("the server is stopping, try another or later")
        room = max(each.room_bytes - each.used_bytes for each in replicas)
        raise NoSlotError(
            f"a stream needs {needed} bytes, {max(room, 0)} are free "
            "(AMODAL_STREAM_MEMORY_BYTES); fewer max_objects or max_message_bytes need less"
        )

    def _live(self) -> list[Replica]:
        others = store.live_replicas(self._database, self.settings.dead_after_s)
        replicas = [each for each in others if each.id != self.replica_id]
        replicas.append(self._as_replica())
        return sorted(replicas, key=lambda each: (each.used_bytes / each.room_bytes, each.streams))

    # Connecting --------------------------------------------------------------------------------

    async def connect_new(self, owner: str, options: StreamOptions) -> Connected:
        """Open a stream here and connect to it at once.

        Raises:
            CloseStream: it cannot be.
        """
        try:
            self._check_owner(owner)
        except QuotaError as error:
            raise CloseStream(CloseCode.CREDIT_OR_QUOTA, str(error)) from None
        self._check_room(stream_bytes(options))
        if self.is_draining:
            raise CloseStream(CloseCode.DRAINING, "the server is stopping")
        made = (owner, options.model_dump(), self.replica_id)
        new = store.connected_stream(self._database, *made)
        self._new[new.row.id] = new  # written within a tick, if it is still there
        try:
            return await self._connect(new.row, new.token)
        except BaseException:
            self._new.pop(new.row.id, None)
            raise

    async def connect(self, ticket: str) -> Connected:
        """Connect to the stream of a ticket, which is used up.

        Raises:
            CloseStream: it cannot be.
        """
        if self.is_draining:
            raise CloseStream(CloseCode.DRAINING, "the server is stopping")
        try:
            row, token = await run_sync(
                store.redeem_ticket, self._database, ticket, self.replica_id
            )
        except MissingItemError as error:
            raise CloseStream(CloseCode.AUTH, str(error)) from None
        return await self._connect(row, token)

    async def _connect(self, row: StreamRow, token: str) -> Connected:
        session = self._sessions.get(row.id)
        kind: SessionKind = "hot"
        if session is not None and session.epoch != row.epoch - 1:
            self._lose(session, is_ended=False)  # it was elsewhere meanwhile, and went on there
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
            await self._try(
                store.write_changes, self._database, [Change(row.id, row.epoch, "warm")]
            )
            raise

    async def _make(self, row: StreamRow) -> tuple[Session, SessionKind]:
        options = StreamOptions.model_validate(row.options)
        needed = stream_bytes(options)
        self._check_room(needed)
        self._reserved += needed
        memory, leftovers = StreamMemory(), Leftovers()
        kind: SessionKind = "new" if row.epoch <= 1 else "cold"
        if row.snapshot_seq is not None:
            try:
                memory, leftovers, kind = await run_sync(self._recall, row, options)
            except BaseException:
                self._reserved -= needed
                raise
        terms = Terms(
            row.id,
            row.owner,
            options,
            stream_limits(options, self.settings),
            needed,
            self.settings.max_age_s,
            self._source(options.masks),
        )
        other = self._sessions.get(row.id)  # of a connection that was made at the same time
        if other is not None and other.epoch > row.epoch:
            self._reserved -= needed
            raise CloseStream(
                CloseCode.SUPERSEDED, "another connection has taken the stream over", is_error=False
            )
        if other is not None:
            self._lose(other, is_ended=False)
        session = Session(terms, memory, row.epoch, self.scheduler.offer, self._wake, leftovers)
        self._sessions[row.id] = session
        return session, kind

    def _recall(
        self, row: StreamRow, options: StreamOptions
    ) -> tuple[StreamMemory, Leftovers, SessionKind]:
        snapshot = store.load_snapshot(self._database, row.id)
        if snapshot is None:
            return StreamMemory(), Leftovers(), "cold"
        source = self._source(options.masks)
        try:
            content, leftovers = unpack_snapshot(snapshot.content)
            memory = StreamMemory(clock=Clock(snapshot.seq))
            if content:  # else the stream was reset
                memory = load_memory(content, self.segmenter, source, options.masks)
        except Exception as error:  # whatever is wrong with it: the stream begins anew
            _log.warning("stream_snapshot_unusable", stream_id=row.id, error=str(error))
            return StreamMemory(), Leftovers(), "cold"
        return memory, leftovers, "warm"

    def _source(self, masks: str) -> VisibleMaskSource[Any]:
        if masks not in self._sources:
            provider = provider_of(self.segmenter.engine.info.requested)
            self._sources[masks] = SOURCES[masks].make(provider)
        return self._sources[masks]

    def _check_room(self, needed: int) -> None:
        free = self.settings.memory_bytes - self._reserved
        if needed > free:
            raise CloseStream(
                CloseCode.NO_SLOT,
                f"a stream needs {needed} bytes, {free} are free (AMODAL_STREAM_MEMORY_BYTES)",
            )

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
            self._release(session)
        if session.is_blank and self._new.pop(session.terms.stream_id, None) is not None:
            return  # nobody will ask for it
        self._left.append(Change(session.terms.stream_id, session.epoch, state))
        if not session.is_blank:  # those that had no frame wait for each other, up to a tick
            await self._write_left()

    async def publish(self) -> None:
        """Make new streams known to all; those that cannot be written wait for the next time."""
        async with self._writing:
            new, self._new = self._new, {}
            if not new:
                return
            try:
                await run_sync(store.insert_streams, self._database, list(new.values()))
            except Exception as error:
                self._new |= {key: each for key, each in new.items() if key in self._sessions}
                _log.error("streams_database_failed", call="insert_streams", exc_info=error)

    async def _write_left(self) -> None:
        await self.publish()
        changes, self._left = self._left, []
        if changes:
            await self._try(store.write_changes, self._database, changes)

    def _release(self, session: Session) -> None:
        if self._sessions.get(session.terms.stream_id) is session:
            del self._sessions[session.terms.stream_id]
            self._reserved -= session.terms.memory_bytes
            self.scheduler.withdraw(session)

    # What came of frames -----------------------------------------------------------------------

    def _deliver(self, done: list[tuple[Session, Done]]) -> None:
        metrics.BATCH_FRAMES.observe(len(done))
        self._call(self._take_in, done)

    def _take_in(self, done: list[tuple[Session, Done]]) -> None:
        for session, each in done:
            session.deliver(each)

    def _wake(self, session: Session) -> None:
        self._call(session.settle)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    # Keeping -----------------------------------------------------------------------------------

    async def _repeat(self, work: Callable[[], Any], pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            try:
                await work()
            except Exception as error:
                _log.error("streams_upkeep_failed", work=work.__name__, exc_info=error)

    async def _tick(self) -> None:
        """Store what has changed, close what is idle, let go of what nobody came back to."""
        await self._write_left()
        now_s = time.monotonic()
        settings, sessions = self.settings, list(self._sessions.values())
        all_s = self._store_s * len(sessions)
        gone = [
            each
            for each in sessions
            if each.detached_s is not None
            and (now_s - each.detached_s > settings.hot_s and each.is_idle)
        ]
        idle = [
            each
            for each in sessions
            if each.detached_s is None
            and each.leaves_as is None
            and now_s - each.spoken_s > settings.idle_s
        ]
        due = [
            each
            for each in sessions
            if each.memory.clock.seq > each.stored_seq
            and now_s - each.stored_s > snapshot_pause_s(self._wanted_pause_s(each), all_s)
            and each not in gone
            and each not in idle
        ]
        await self._store(due, None)
        await self._store([each for each in gone if each.leaves_as == "ended"], "ended")
        await self._store([*(each for each in gone if each.leaves_as != "ended"), *idle], "warm")
        for session in idle:
            reason = f"idle for more than {settings.idle_s:g} s"
            session.part(reason, CloseCode.IDLE_OR_SLOW, "warm")
        for session in gone:
            if session.detached_s is not None:
                self._release(session)
        self._measure(sessions)

    def _wanted_pause_s(self, session: Session) -> float:
        options, wanted_s = session.terms.options, self.settings.snapshot_s
        is_seen_once = options.mode != "lossless" and options.masks != "given"
        return min(wanted_s, CAMERA_SNAPSHOT_S) if is_seen_once else wanted_s

    def _measure(self, sessions: Sequence[Session]) -> None:
        connected = sum(1 for each in sessions if each.detached_s is None)
        metrics.STREAMS.labels("connected").set(connected)
        metrics.STREAMS.labels("hot").set(len(sessions) - connected)
        metrics.MEMORY_BYTES.set(self._reserved)
        metrics.STALLED.set(sum(1 for each in sessions if not each.outbox.has_room))

    async def _store(self, sessions: Sequence[Session], state: StreamState | None) -> None:
        """Write snapshots of streams; ``state`` ``None`` leaves each in its own."""
        if sessions:
            await self.publish()
        sessions = [each for each in sessions if each.terms.stream_id not in self._new]
        if not sessions:
            return
        found = [(each, each.memory, each.leftovers()) for each in sessions]  # of one moment
        began_s = time.monotonic()
        changes = await run_sync(self._changes, found, state)
        lost = await self._try(store.write_changes, self._database, changes)
        if lost is None:
            return
        now_s = time.monotonic()
        self._store_s += 0.2 * ((now_s - began_s) / len(changes) - self._store_s)
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
                    content = save_memory(memory, self.segmenter, terms.finder, masks)
                snapshot = Snapshot(memory.clock.seq, pack_snapshot(content, leftovers))
            now: StreamState = "connected" if session.detached_s is None else "hot"
            change = Change(session.terms.stream_id, session.epoch, state or now, snapshot)
            changes.append(change)
        return changes

    async def _let_go(self, session: Session) -> None:
        """Let go of a stream whose row could not be written."""
        held = {session.terms.stream_id: session.epoch}
        for is_ended in (await run_sync(store.lost_streams, self._database, held)).values():
            self._lose(session, is_ended=is_ended)

    def _lose(self, session: Session, *, is_ended: bool) -> None:
        """Let go of a stream that is another replica's by now, or was ended."""
        self._release(session)
        if is_ended:
            session.part("killed", CloseCode.UNKNOWN_STREAM, "ended")
        else:
            session.outbox.fail(CloseStream(CloseCode.SUPERSEDED, "the stream is elsewhere by now"))

    async def _beat(self) -> None:
        await run_sync(store.show_replica, self._database, self._as_replica())
        await self.publish()
        held = {key: each.epoch for key, each in self._sessions.items() if key not in self._new}
        lost = await run_sync(store.lost_streams, self._database, held)
        for stream_id, is_ended in lost.items():
            session = self._sessions.get(stream_id)
            if session is not None and session.epoch == held[stream_id]:
                self._lose(session, is_ended=is_ended)

    async def _sweep(self) -> None:
        live = [each.id for each in await run_sync(self._live)]
        await run_sync(store.sweep_streams, self._database, 2 * self.settings.resume_s, live)

    def _as_replica(self) -> Replica:
        return Replica(
            self.replica_id,
            self._url,
            self._reserved,
            self.settings.memory_bytes,
            len(self._sessions),
            self.is_draining,
        )

    async def _try(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a call to the database gives; ``None`` where it cannot be reached."""
        try:
            return await run_sync(function, *args)
        except Exception as error:
            _log.error("streams_database_failed", call=function.__name__, exc_info=error)
            return None

    # Looking -----------------------------------------------------------------------------------

    def session(self, stream_id: str) -> Session | None:
        """Return a stream that is held here."""
        return self._sessions.get(stream_id)

    async def kill(self, stream_id: str) -> None:
        """End a stream for good, wherever it is."""
        await self.publish()
        await run_sync(store.end_stream, self._database, stream_id)
        session = self._sessions.get(stream_id)
        if session is not None:
            session.part("killed", CloseCode.UNKNOWN_STREAM, "ended")
            if session.detached_s is not None:
                self._release(session)


def snapshot_pause_s(wanted_s: float, all_s: float) -> float:
    """Return how long a stream waits for its next snapshot.

    Args:
        wanted_s: as it is set.
        all_s: what one snapshot of every stream takes, seconds.
    """
    return max(wanted_s, min(all_s / SNAPSHOT_SHARE, MAX_SNAPSHOT_S))
