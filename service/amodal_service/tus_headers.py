"""The header that every answer of the upload routes has, errors included."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "/v1/uploads"


class TusHeaders:
    """ASGI middleware that adds ``Tus-Resumable`` to answers below `PREFIX`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
            await self._app(scope, receive, send)
            return

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, value)
                    for name, value in message.get("headers", [])
                    if name.lower() != b"tus-resumable"
                ]
                message["headers"] = [*headers, (b"tus-resumable", b"1.0.0")]
            await send(message)

        await self._app(scope, receive, send_with_version)
