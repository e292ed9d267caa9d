"""Whether the service lives."""

from __future__ import annotations

from fastapi import APIRouter

from amodal_service.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> Health:
    """Answer as long as the process does."""
    return Health(status="ok")
