"""Counts what callers send: the bytes of each request body, charged to its key's owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from anyio import CancelScope
from anyio.to_thread import run_sync
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from amodal_service.rate_limits import charge

if TYPE_CHECKING:
    from amodal_service.services import Services

_log = structlog.get_logger()


class BodyMeter:
    """ASGI middleware; plain ASGI, because a body must stream through it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and charge for what came, whether it was accepted or not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            owner = scope.get("state", {}).get("charged_owner")
            if owner is not None and size:
                with CancelScope(shield=True):
                    await run_sync(_charge, scope["app"].state.services, owner, size)


def _charge(services: Services, owner: str, size: int) -> None:
    try:
        with services.database.write() as connection:
            charge(connection, owner, "bytes", size)
    except SQLAlchemyError as error:  # the answer is on its way: losing a charge is the lesser evil
        _log.warning("charge_failed", owner=owner, error=str(error).splitlines()[0])
