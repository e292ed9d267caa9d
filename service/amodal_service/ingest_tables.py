"""The tables of API keys and what they used, of uploads and of webhooks."""

from __future__ import annotations

import sqlalchemy as sa

from amodal_service.database import METADATA

api_keys = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("allowance", sa.JSON, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float),
    sa.Column("revoked_s", sa.Float),
    sa.Index(None, "owner"),
)
"""Keys without their secrets. Keys of one owner came from one another by rotation."""

usage = sa.Table(
    "usage",
    METADATA,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(32), primary_key=True),
    sa.Column("hour", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("amount", sa.Float, nullable=False),
)
"""What an owner used in an hour, counted from the epoch."""

uploads = sa.Table(
    "uploads",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("metadata", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float, nullable=False),
    sa.Index(None, "expires_s"),
)
"""Resumable uploads; how far one is, is the size of its parts in the storage."""

upload_parts = sa.Table(
    "upload_parts",
    METADATA,
    sa.Column("upload_id", sa.String(64), primary_key=True),
    sa.Column("start_byte", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
)
"""The parts of an upload that are stored, each under its own key, without gaps."""

webhooks = sa.Table(
    "webhooks",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(64), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("next_s", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Index(None, "state", "next_s"),
    sa.Index(None, "job_id"),
)
"""Messages to clients, each to be delivered once; its id stays the same in every attempt."""
