"""Webhook messages in the database: put there with the change they tell of, taken when due.

A message is written in the transaction that ends a job, so none is lost and none is about a change
that did not happen. Who delivers takes it for a while: a process that dies gives it back by that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_service.ingest_tables import webhooks


@dataclass(frozen=True)
class Message:
    """One message; its id is the same in every attempt, by which a client knows it again."""

    id: str
    job_id: str
    url: str
    secret: str
    payload: str
    created_s: float
    attempts: int


def add_message(
    connection: Connection, job_id: str, run: int, state: str, webhook: Mapping[str, Any] | None
) -> None:
    """Tell a client that a run of a job has ended, where it wants to know; twice is once."""
    if webhook is None:
        return
    now = datetime.now(UTC)
    data = {"id": job_id, "run": run, "state": state, "url": f"/v1/jobs/{job_id}"}
    payload = {"type": f"job.{state}", "timestamp": now.isoformat(), "data": data}
    message_id = f"msg-{job_id}-{run}"
    if connection.execute(sa.select(webhooks.c.id).where(webhooks.c.id == message_id)).first():
        return
    row = {
        "id": message_id,
        "job_id": job_id,
        "url": webhook["url"],
        "secret": webhook["secret"],
        "payload": json.dumps(payload, separators=(",", ":")),
        "created_s": now.timestamp(),
        "next_s": now.timestamp(),
        "attempts": 0,
        "state": "waiting",
    }
    connection.execute(webhooks.insert().values(row))


def take_due(connection: Connection, *, lease_s: float, limit: int = 8) -> list[Message]:
    """Take messages whose time has come; for a while nobody else gets them."""
    now_s = time.time()
    query = sa.select(webhooks).where(webhooks.c.state == "waiting", webhooks.c.next_s <= now_s)
    taken = []
    for row in connection.execute(query.order_by(webhooks.c.next_s).limit(limit)).mappings().all():
        changed = connection.execute(
            webhooks.update()
            .where(webhooks.c.id == row["id"], webhooks.c.next_s == row["next_s"])
            .values(next_s=now_s + lease_s, attempts=row["attempts"] + 1)
        )
        if changed.rowcount:
            taken.append(
                Message(
                    row["id"],
                    row["job_id"],
                    row["url"],
                    row["secret"],
                    row["payload"],
                    row["created_s"],
                    row["attempts"] + 1,
                )
            )
    return taken


def set_outcome(
    connection: Connection, message: Message, error: str | None, next_s: float | None
) -> None:
    """Record an attempt: delivered, to be tried again at a time, or given up."""
    state = "delivered" if error is None else "failed" if next_s is None else "waiting"
    values = {"state": state, "last_error": error, "next_s": next_s or 0.0}
    connection.execute(webhooks.update().where(webhooks.c.id == message.id).values(values))


def drop_old(connection: Connection, before_s: float) -> None:
    """Forget messages that were delivered or given up and are older than a time."""
    is_old = (webhooks.c.state != "waiting", webhooks.c.created_s < before_s)
    connection.execute(webhooks.delete().where(*is_old))
