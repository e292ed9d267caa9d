"""Live streams and the replicas that take them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "live_streams",
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
    )
    op.create_index(None, "live_streams", ["ticket_sha256"])
    op.create_index(None, "live_streams", ["owner", "created_s"])
    op.create_index(None, "live_streams", ["seen_s"])
    op.create_table(
        "live_replicas",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("used_bytes", sa.BigInteger, nullable=False),
        sa.Column("room_bytes", sa.BigInteger, nullable=False),
        sa.Column("streams", sa.Integer, nullable=False),
        sa.Column("is_draining", sa.Boolean, nullable=False),
        sa.Column("heartbeat_s", sa.Float, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("live_replicas")
    op.drop_table("live_streams")
