"""Whether the service lives, and what Prometheus reads."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from amodal_service.jobs import JobState, count_by_state
from amodal_service.live_workers import count_live
from amodal_service.metrics import JOBS, WORKERS
from amodal_service.schemas import Health
from amodal_service.services import ServicesDep

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> Health:
    """Answer as long as the process does."""
    return Health(status="ok")


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text format."}},
)
def metrics(services: ServicesDep) -> Response:
    """Return counters of this process, and of the queue as a whole."""
    with services.database.read() as connection:
        counts = count_by_state(connection)
    for state in get_args(JobState):
        JOBS.labels(state).set(counts.get(state, 0))
    WORKERS.set(count_live(services.database, services.settings.dead_after_s))
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
