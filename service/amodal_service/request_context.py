"""Around every request: an id, the id in every log line, one line at its end, and its metrics."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amodal_service.metrics import REQUEST_SECONDS
from amodal_service.tracing import bind_to_span

_log = structlog.get_logger()

_GIVEN_ID = re.compile(rb"[\w.:-]{1,64}")
PROBES = {"/healthz", "/readyz", "/metrics"}
"""Asked every few seconds: not logged, and not traced."""


class RequestContext:
    """ASGI middleware; plain ASGI, because a streamed answer must not be buffered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        bind_to_span(request_id=request_id)  # FastAPI's own, around this
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        started_s = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            finally:
                _record(scope, status, time.perf_counter() - started_s)


def _request_id(scope: Scope) -> str:
    """Return the client's own id where it gave a sane one, else a new one."""
    given: bytes = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode() if _GIVEN_ID.fullmatch(given) else uuid4().hex


def _record(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "unknown")
    REQUEST_SECONDS.labels(scope["method"], route, str(status)).observe(seconds)
    if scope["path"] not in PROBES:
        _log.info(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            seconds=round(seconds, 4),
        )
