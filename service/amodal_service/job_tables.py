"""The tables of jobs and workers."""

from __future__ import annotations

import sqlalchemy as sa

from amodal_service.database import METADATA

ID_LENGTH = 64

jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("owner", sa.String(ID_LENGTH), nullable=False),
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
    sa.Column("worker", sa.String(ID_LENGTH)),
    sa.Column("fps", sa.Float),
    sa.Column("checkpoint_key", sa.Text),
    sa.Column("error", sa.JSON),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("started_s", sa.Float),
    sa.Column("finished_s", sa.Float),
    sa.Column("updated_s", sa.Float, nullable=False),
    sa.UniqueConstraint("owner", "idempotency_key"),
    sa.Index(None, "owner", "created_s"),
    sa.Index(None, "state"),
)
"""One row a job. ``epoch`` rises with every start and every takeover: a worker's writes count only
while its own epoch is the row's. ``runs`` counts the client's requests to run it, ``attempts`` the
starts of the present run."""

job_chunks = sa.Table(
    "job_chunks",
    METADATA,
    sa.Column("job_id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("overlap_frames", sa.Integer, nullable=False),
    sa.Column("overlap_pixels", sa.BigInteger, nullable=False),
)
"""The finished chunks of a job's results, in order: records of ``frames`` frames, JSON lines."""

job_artifacts = sa.Table(
    "job_artifacts",
    METADATA,
    sa.Column("job_id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("media_type", sa.String(127), nullable=False),
)
"""The result files of a finished job."""

job_events = sa.Table(
    "job_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(ID_LENGTH), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("data", sa.JSON, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Index(None, "job_id", "id"),
    sqlite_autoincrement=True,
)
"""What happened to a job, in order; ids only rise, so a client can go on after the last it saw."""

workers = sa.Table(
    "workers",
    METADATA,
    sa.Column("id", sa.String(ID_LENGTH), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_s", sa.Float, nullable=False),
    sa.Column("heartbeat_s", sa.Float, nullable=False),
)
"""Live workers, each with the time of its last sign of life."""
