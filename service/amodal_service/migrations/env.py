"""Runs migrations on the connection that `amodal_service.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from amodal_service.database import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=False,  # the caller's transaction holds the whole migration
)
context.run_migrations()
