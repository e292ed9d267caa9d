"""The web application, composed from settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from amodal_service.problems import add_error_handlers
from amodal_service.request_context import RequestContext
from amodal_service.routes import health
from amodal_service.services import open_services
from amodal_service.settings import Settings
from amodal_service.version import amodal_version


def create_app(settings: Settings) -> FastAPI:
    """Return the application; its parts are opened when it starts."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_services(settings) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="amodal",
        version=amodal_version(),
        summary="Whole silhouettes of occluded objects, over video.",
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
    )
    add_error_handlers(app)
    app.add_middleware(RequestContext)
    app.include_router(health.router)
    return app
