"""The tables of live streams."""

from __future__ import annotations

from typing import Literal

import sqlalchemy as sa

from amodal_service.database import METADATA

StreamState = Literal["placed", "connected", "hot", "warm", "ended"]
"""Waits for its first connection; has one; its memory is in a process; in a snapshot; is over."""

streams = sa.Table(
    "live_streams",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("options", sa.JSON, nullable=False),
    sa.Column("token_sha256", sa.String(64), nullable=False),
    sa.Column("old_token_sha256", sa.String(64)),
    sa.Column("ticket_sha256", sa.String(64)),
    sa.Column("ticket_expires_s", sa.Float),
    sa.Column("last_result", sa.BigInteger, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("replica", sa.String(64)),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("snapshot", sa.LargeBinary),
    sa.Column("snapshot_seq", sa.BigInteger),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("seen_s", sa.Float, nullable=False),
    sa.Index(None, "ticket_sha256"),
    sa.Index(None, "owner", "created_s"),
    sa.Index(None, "seen_s"),
)
"""One row a stream (``streams`` is a table of DBOS). ``epoch`` rises with every connection: an
owner's writes count only while its own epoch is the row's. Of token and ticket only the digests are
stored; the token that was last used stays valid beside the new one, which may not have arrived."""

stream_replicas = sa.Table(
    "live_replicas",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("used_bytes", sa.BigInteger, nullable=False),
    sa.Column("room_bytes", sa.BigInteger, nullable=False),
    sa.Column("streams", sa.Integer, nullable=False),
    sa.Column("is_draining", sa.Boolean, nullable=False),
    sa.Column("heartbeat_s", sa.Float, nullable=False),
)
"""Server processes that take streams, each with the time of its last sign of life."""
