"""Jobs, their chunks, artefacts and events, and the workers that run them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables of jobs and workers."""
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("frames_done", sa.Integer, nullable=False),
        sa.Column("frames_total", sa.Integer),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("fps", sa.Float),
        sa.Column("checkpoint_key", sa.Text),
        sa.Column("error", sa.JSON),
        sa.Column("created_s", sa.Float, nullable=False),
        sa.Column("started_s", sa.Float),
        sa.Column("finished_s", sa.Float),
        sa.Column("updated_s", sa.Float, nullable=False),
        sa.UniqueConstraint("owner", "idempotency_key"),
    )
    op.create_index(None, "jobs", ["owner", "created_s"])
    op.create_index(None, "jobs", ["state"])
    op.create_table(
        "job_chunks",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("frames", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("overlap_frames", sa.Integer, nullable=False),
        sa.Column("overlap_pixels", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "job_artifacts",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("media_type", sa.String(127), nullable=False),
    )
    op.create_table(
        "job_events",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_s", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(None, "job_events", ["job_id", "id"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_s", sa.Float, nullable=False),
        sa.Column("heartbeat_s", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    for name in ("workers", "job_events", "job_artifacts", "job_chunks", "jobs"):
        op.drop_table(name)
