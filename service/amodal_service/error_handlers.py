"""What the app answers when something goes wrong: the problem of the error, whatever it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from amodal_model import errors
from amodal_model.errors import AmodalError, QuotaError
from amodal_service.problems import KINDS, Kind, problem, problem_of

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger()


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error in the one shape."""
    app.add_exception_handler(AmodalError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen_error)


def problem_response(
    request: Request, found: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a problem as a response, with the path and the id of the request."""
    content = {**found, "instance": request.url.path}
    request_id = getattr(request.state, "request_id", None)
    if request_id:
        content["request_id"] = request_id
    return JSONResponse(content, found["status"], headers, media_type=MEDIA_TYPE)


def _on_own_error(request: Request, error: Exception) -> JSONResponse:
    headers = {}
    if isinstance(error, QuotaError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, errors.UnknownCallerError):
        headers["WWW-Authenticate"] = "Bearer"
    found = problem_of(error)
    if found["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request_failed", problem=found["type"], error=str(error), exc_info=error)
    return problem_response(request, found, headers)


def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for it alone
    found = [
        {"at": "/".join(str(part) for part in each["loc"]), "message": each["msg"]}
        for each in error.errors()[:20]
    ]
    detail = "; ".join(f"{each['at']}: {each['message']}" for each in found[:3])
    answer = problem(KINDS[errors.InputError], detail) | {"errors": found}
    return problem_response(request, answer)


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it alone
    status = HTTPStatus(error.status_code)
    kind = Kind(f"http-{status.value}", status.value, status.phrase)
    headers = dict(error.headers or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(sorted(_allowed_methods(request)))
    return problem_response(request, problem(kind, str(error.detail)), headers)


def _allowed_methods(request: Request) -> set[str]:
    """Return the methods of every route of the path; Starlette names those of the first alone."""
    return {
        method
        for route in iter_route_contexts(request.app.routes)
        if route.path and compile_path(route.path)[0].fullmatch(request.url.path)
        for method in route.methods or ()
    }


def _on_unforeseen_error(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_crashed", path=request.url.path, exc_info=error)
    return problem_response(request, problem_of(error))
