"""On which replica a stream is: this process among those that share the database."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import NamedTuple

from anyio.to_thread import run_sync

from amodal_model.errors import ExpiredError, MissingItemError, NoSlotError, UnavailableError
from amodal_service.database import Database
from amodal_service.live_workers import new_worker_name
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.admission import stream_bytes
from amodal_service.streams.ledger import Ledger
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.roster import Roster
from amodal_service.streams.store import Replica, StreamRow


class Placed(NamedTuple):
    """A stream that may be connected to, and where.

    Attributes:
        stream_id: of the stream.
        url: of its replica; empty: as the request reached this one.
        ticket: for the connection.
        options: of the stream.
    """

    stream_id: str
    url: str
    ticket: str
    options: StreamOptions


class Placement:
    """Places streams on replicas.

    Args:
        database: of streams and replicas.
        settings: what streams may use.
        roster: of the streams that are held here.
        ledger: of streams that the database does not know yet.
        own_url: how clients reach this process, where no public URL is set.

    Attributes:
        replica_id: of this process.
        url: how clients reach it.
        is_draining: whether it takes no more streams.
    """

    def __init__(
        self,
        database: Database,
        settings: StreamSettings,
        roster: Roster,
        ledger: Ledger,
        own_url: str,
    ) -> None:
        self.replica_id = new_worker_name().id
        self.url = settings.public_url or own_url
        self.is_draining = False
        self._database = database
        self._settings = settings
        self._roster = roster
        self._ledger = ledger

    async def open(self, owner: str, options: StreamOptions) -> Placed:
        """Make a stream and place it where there is most room.

        Raises:
            QuotaError: the owner has too many.
            NoSlotError: no replica has room.
            UnavailableError: this server is stopping.
        """
        self._roster.check_owner(owner)
        place = await self._place(stream_bytes(options))
        row, _, ticket = await run_sync(
            store.create_stream, self._database, owner, options.model_dump(), place.id
        )
        return Placed(row.id, self._url_of(place), ticket, options)

    async def reopen(self, owner: str | None, token: str, last_result: int) -> Placed:
        """Place a stream that is to be resumed: where its memory is, else where there is room.

        Raises:
            MissingItemError: the token is of no stream of the owner's.
            ExpiredError: it can no longer be resumed.
            NoSlotError: no replica has room.
            UnavailableError: this server is stopping.
        """
        await self._ledger.publish()
        row = await run_sync(self._find_by_token, owner, token)
        options = StreamOptions.model_validate(row.options)
        replicas = await run_sync(self.live)
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

    def live(self) -> list[Replica]:
        """Return the replicas that live, those with the most room for their size first."""
        others = store.live_replicas(self._database, self._settings.dead_after_s)
        replicas = [each for each in others if each.id != self.replica_id]
        replicas.append(self.own())
        return sorted(replicas, key=lambda each: (each.used_bytes / each.room_bytes, each.streams))

    def own(self) -> Replica:
        """Return this process as others see it."""
        return Replica(
            self.replica_id,
            self.url,
            self._roster.reserved_bytes,
            self._settings.memory_bytes,
            len(self._roster),
            self.is_draining,
        )

    def _url_of(self, place: Replica) -> str:
        is_here = place.id == self.replica_id
        return "" if is_here and not self._settings.public_url else place.url

    def _find_by_token(self, owner: str | None, token: str) -> StreamRow:
        with self._database.read() as connection:
            row = store.find_by_token(connection, token)
        if owner is not None and row.owner != owner:
            raise MissingItemError("the resume token is of no stream")
        silent_s = time.time() - row.seen_s
        limit_s = self._settings.resume_s
        if row.state in ("placed", "warm") and silent_s > limit_s:
            raise ExpiredError(f"stream {row.id} was left {silent_s:.0f} s ago, limit {limit_s:g}")
        return row

    async def _place(self, needed: int) -> Replica:
        replicas = await run_sync(self.live)
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
