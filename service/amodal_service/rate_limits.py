"""What callers have used, and when there is room again.

Requests are counted in the memory of each server, evenly spread: a burst of a minute's worth, then
one each so many seconds. Bytes and seconds of video are counted in the database, by the hour, for
all servers together. Jobs are counted as they are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import QuotaError
from amodal_service.ingest_tables import usage
from amodal_service.job_tables import jobs
from amodal_service.jobs import ACTIVE
from amodal_service.policies import Allowance

UsageKind = Literal["bytes", "video_seconds"]
_HOUR_S = 3600
_KEPT_HOURS = 48
_JOBS_RETRY_S = 10.0
_MAX_OWNERS = 100_000


class RequestRate:
    """Counts requests by owner, as the generic cell rate algorithm does (ITU-T I.371).

    An owner is known by one number: the time at which its burst would be all there again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at_s: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, owner: str, per_minute: int) -> None:
        """Count a request.

        Raises:
            QuotaError: there were too many; it says when the next may come.
        """
        if not per_minute:
            return
        step_s, now_s = 60.0 / per_minute, self._clock()
        with self._lock:
            full_at_s = max(self._full_at_s.get(owner, now_s), now_s) + step_s
            wait_s = full_at_s - now_s - 60.0
            if wait_s > 1e-9:
                raise QuotaError(f"limit {per_minute} requests a minute", wait_s)
            if len(self._full_at_s) >= _MAX_OWNERS:
                self._full_at_s = {k: v for k, v in self._full_at_s.items() if v > now_s}
            self._full_at_s[owner] = full_at_s


def charge(connection: Connection, owner: str, kind: UsageKind, amount: float) -> None:
    """Count what an owner used in this hour; old hours are forgotten."""
    hour = int(time.time() // _HOUR_S)
    mine = (usage.c.owner == owner, usage.c.kind == kind, usage.c.hour == hour)
    added = usage.update().where(*mine).values(amount=usage.c.amount + amount)
    if connection.execute(added).rowcount:
        return
    with connection.begin_nested() as attempt:
        row = {"owner": owner, "kind": kind, "hour": hour, "amount": amount}
        try:
            connection.execute(usage.insert().values(row))
        except sa.exc.IntegrityError:  # another process was quicker
            attempt.rollback()
            connection.execute(added)
            return
    connection.execute(usage.delete().where(usage.c.hour < hour - _KEPT_HOURS))


def check_usage(connection: Connection, owner: str, allowance: Allowance) -> None:
    """Raise QuotaError where an owner has used up the hour's bytes or seconds of video."""
    limits: dict[UsageKind, tuple[int, str]] = {
        "bytes": (allowance.bytes_per_hour, "bytes"),
        "video_seconds": (allowance.video_seconds_per_hour, "seconds of video"),
    }
    now_s = time.time()
    query = sa.select(usage.c.kind, usage.c.amount).where(
        usage.c.owner == owner, usage.c.hour == int(now_s // _HOUR_S)
    )
    for kind, amount in connection.execute(query):
        limit, unit = limits[kind]
        if limit and amount >= limit:
            left_s = _HOUR_S - now_s % _HOUR_S
            raise QuotaError(f"{amount:.0f} {unit} used, limit {limit} an hour", left_s)


def check_jobs(connection: Connection, owner: str, allowance: Allowance) -> None:
    """Raise QuotaError where an owner has as many waiting and running jobs as it may."""
    if not allowance.active_jobs:
        return
    query = sa.select(sa.func.count()).where(jobs.c.owner == owner, jobs.c.state.in_(ACTIVE))
    active = connection.execute(query).scalar_one()
    if active >= allowance.active_jobs:
        raise QuotaError(f"{active} jobs wait or run, limit {allowance.active_jobs}", _JOBS_RETRY_S)
