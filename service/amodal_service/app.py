"""The web application, composed from settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import gethostname

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import FastAPI

from amodal_service.body_meter import BodyMeter
from amodal_service.error_handlers import add_error_handlers
from amodal_service.handshakes import StreamSockets
from amodal_service.openapi import document
from amodal_service.request_context import PROBES, RequestContext
from amodal_service.routes import (
    health,
    job_results,
    jobs,
    models,
    protocol,
    segment,
    streams,
    uploads,
)
from amodal_service.services import Services, open_services
from amodal_service.settings import Settings
from amodal_service.streams.hub import StreamHub
from amodal_service.tus_headers import TusHeaders
from amodal_service.version import amodal_version

SEGMENT_SLOTS = 2
"""Short clips that are worked on at the same time."""


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its parts are opened when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = open_services(settings)
        app.state.services = await run_sync(opened.__enter__)
        app.state.segment_slots = CapacityLimiter(SEGMENT_SLOTS)
        app.state.streams = _hub(app.state.services)
        await app.state.streams.start()
        try:
            yield
        finally:
            await app.state.streams.stop()
            await run_sync(opened.__exit__, None, None, None)

    app = FastAPI(
        title="amodal",
        version=amodal_version(),
        summary="Whole silhouettes of occluded objects, over video.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        telemetry={  # one span a request, of requests that callers make
            "operation_spans": False,
            "metrics": False,  # Prometheus has them
            "logs": False,
            "auto_configure": False,  # `tracing` does
            "exclude": lambda scope: scope["path"] in PROBES,
        },
    )
    add_error_handlers(app)
    app.add_middleware(BodyMeter)
    app.add_middleware(TusHeaders)
    app.add_middleware(RequestContext)
    app.add_middleware(StreamSockets, serve=streams.stream)
    for module in (segment, jobs, job_results, uploads, streams, protocol, models, health):
        app.include_router(module.router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _hub(services: Services) -> StreamHub:
    place, settings = services.place, services.settings
    assert place.live_segmenter is not None  # noqa: S101  of an open workplace
    host = settings.host
    if host in ("0.0.0.0", "::"):  # noqa: S104  recognised, not bound
        host = gethostname()
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    return StreamHub(
        place.database, place.live_segmenter, place.gate, settings.streams, url, place.runtime
    )
