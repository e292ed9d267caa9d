"""The document of the streaming protocol."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from amodal_service.asyncapi import asyncapi_document

router = APIRouter(tags=["streams"])


@router.get("/v1/asyncapi.json")
def asyncapi(request: Request) -> dict[str, Any]:
    """Return the AsyncAPI document of live streams."""
    protocol = "wss" if request.url.scheme == "https" else "ws"
    return asyncapi_document(request.url.netloc, protocol)
