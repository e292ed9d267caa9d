"""What is still to be written of this process's streams: new ones, and those that were left.

Writes wait for each other, so that many streams cost one transaction; a database that is away costs
nothing but time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from anyio.to_thread import run_sync

from amodal_service.database import Database
from amodal_service.streams import store
from amodal_service.streams.roster import Roster
from amodal_service.streams.store import Change, NewStream

_log = structlog.get_logger()


class Ledger:
    """Writes streams together.

    Args:
        database: where they go.
        roster: of the streams that are held: others are not worth a second try.
    """

    def __init__(self, database: Database, roster: Roster) -> None:
        self._database = database
        self._roster = roster
        self._new: dict[str, NewStream] = {}
        self._left: list[Change] = []
        self._writing = asyncio.Lock()

    def add(self, new: NewStream) -> None:
        """Take in a stream that was opened; it is written with the next ones."""
        self._new[new.row.id] = new

    def withdraw(self, stream_id: str) -> bool:
        """Return whether a stream was not written yet; then it never is."""
        return self._new.pop(stream_id, None) is not None

    def is_written(self, stream_id: str) -> bool:
        """Return whether the database knows a stream that is held here."""
        return stream_id not in self._new

    def leave(self, change: Change) -> None:
        """Take in the state of a stream that was left."""
        self._left.append(change)

    async def publish(self) -> None:
        """Make new streams known to all; those that cannot be written wait for the next time."""
        async with self._writing:
            new, self._new = self._new, {}
            if not new:
                return
            try:
                await run_sync(store.insert_streams, self._database, list(new.values()))
            except Exception as error:
                self._new |= {key: each for key, each in new.items() if key in self._roster}
                _log.error("streams_database_failed", call="insert_streams", exc_info=error)

    async def flush(self) -> None:
        """Write new streams, and those that were left."""
        await self.publish()
        changes, self._left = self._left, []
        if changes:
            await self.attempt(store.write_changes, changes)

    async def attempt(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a call to the database gives; ``None`` where it cannot be reached."""
        try:
            return await run_sync(function, self._database, *args)
        except Exception as error:
            _log.error("streams_database_failed", call=function.__name__, exc_info=error)
            return None
