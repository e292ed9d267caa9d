"""One error shape for every answer that is not a success: RFC 9457 problem details.

{"type": "urn:amodal:problem:limit", "title": "Larger than a limit", "status": 413,
 "detail": "clip is 31.0 s, limit 20.0 s (AMODAL_LIMIT_SEGMENT_SECONDS)",
 "instance": "/v1/segment", "request_id": "..."}
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from amodal_model import errors
from amodal_model.errors import AmodalError, QuotaError

MEDIA_TYPE = "application/problem+json"

_log = structlog.get_logger()


class Kind(NamedTuple):
    """A kind of problem: the last part of its type, its status and its title."""

    slug: str
    status: int
    title: str


KINDS: dict[type[Exception], Kind] = {
    errors.LimitError: Kind("limit", 413, "Larger than a limit"),
    errors.DatasetError: Kind("data", 422, "Data that does not hold what it should"),
    errors.MissingItemError: Kind("missing", 404, "Not there"),
    errors.ConflictError: Kind("conflict", 409, "Contradicts what is already there"),
    errors.InputError: Kind("input", 422, "Input that is not valid"),
    errors.UnknownCallerError: Kind("unknown-caller", 401, "No valid API key"),
    errors.AccessError: Kind("access", 403, "Not allowed"),
    errors.QuotaError: Kind("quota", 429, "Allowance used up"),
    errors.StorageError: Kind("storage", 507, "Files cannot be stored or read"),
    errors.UnavailableError: Kind("unavailable", 503, "Not now"),
    errors.MissingExtraError: Kind("not-installed", 501, "An optional part is not installed"),
    errors.ModelError: Kind("model", 503, "The model does not run"),
    errors.AmodalError: Kind("internal", 500, "Internal error"),
}
"""Errors to statuses, the only such table; of an error's classes the nearest counts."""

INTERNAL = KINDS[errors.AmodalError]


def kind_of(error: BaseException) -> Kind:
    """Return the kind of an error; anything unforeseen is internal."""
    for cls in type(error).__mro__:
        if cls in KINDS:
            return KINDS[cls]
    return INTERNAL


def problem_of(error: BaseException) -> dict[str, Any]:
    """Return the problem of an error; what is internal is told to the log alone."""
    kind = kind_of(error)
    detail = str(error) if kind is not INTERNAL else "an unforeseen error; the log has it"
    return _problem(kind, detail)


def _problem(kind: Kind, detail: str) -> dict[str, Any]:
    return {
        "type": f"urn:amodal:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error in the one shape."""
    app.add_exception_handler(AmodalError, _on_own_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_unforeseen_error)


def problem_response(
    request: Request, problem: dict[str, Any], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return a problem as a response, with the path and the id of the request."""
    content = {**problem, "instance": request.url.path}
    request_id = getattr(request.state, "request_id", None)
    if request_id:
        content["request_id"] = request_id
    return JSONResponse(content, problem["status"], headers, media_type=MEDIA_TYPE)


def _on_own_error(request: Request, error: Exception) -> JSONResponse:
    headers = {}
    if isinstance(error, QuotaError):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, errors.UnknownCallerError):
        headers["WWW-Authenticate"] = "Bearer"
    problem = problem_of(error)
    if problem["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request_failed", problem=problem["type"], error=str(error), exc_info=error)
    return problem_response(request, problem, headers)


def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for it alone
    found = [
        {"at": "/".join(str(part) for part in each["loc"]), "message": each["msg"]}
        for each in error.errors()[:20]
    ]
    detail = "; ".join(f"{each['at']}: {each['message']}" for each in found[:3])
    problem = _problem(KINDS[errors.InputError], detail) | {"errors": found}
    return problem_response(request, problem)


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it alone
    status = HTTPStatus(error.status_code)
    kind = Kind(status.phrase.lower().replace(" ", "-"), status.value, status.phrase)
    return problem_response(request, _problem(kind, str(error.detail)), error.headers)


def _on_unforeseen_error(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_crashed", path=request.url.path, exc_info=error)
    return problem_response(request, problem_of(error))
