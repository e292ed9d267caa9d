"""One error shape for every answer that is not a success: RFC 9457 problem details.

{"type": "urn:amodal:problem:limit", "title": "Larger than a limit", "status": 413,
 "detail": "clip is 31.0 s, limit 20.0 s (AMODAL_LIMIT_SEGMENT_SECONDS)",
 "instance": "/v1/segment", "request_id": "..."}
"""

from __future__ import annotations

from typing import Any, NamedTuple

from amodal_model import errors


class Kind(NamedTuple):
    """A kind of problem: the last part of its type, its status and its title."""

    slug: str
    status: int
    title: str


KINDS: dict[type[Exception], Kind] = {
    errors.LimitError: Kind("limit", 413, "Larger than a limit"),
    errors.DatasetError: Kind("data", 422, "Data that does not hold what it should"),
    errors.MissingItemError: Kind("missing", 404, "Not there"),
    errors.ExpiredError: Kind("expired", 410, "No longer there"),
    errors.ConflictError: Kind("conflict", 409, "Contradicts what is already there"),
    errors.InputError: Kind("input", 422, "Input that is not valid"),
    errors.UnknownCallerError: Kind("unknown-caller", 401, "No valid API key"),
    errors.AccessError: Kind("access", 403, "Not allowed"),
    errors.QuotaError: Kind("quota", 429, "Allowance used up"),
    errors.StorageError: Kind("storage", 507, "Files cannot be stored or read"),
    errors.NoSlotError: Kind("no-slot", 507, "No memory for another stream"),
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
    return problem(kind, detail)


def problem(kind: Kind, detail: str) -> dict[str, Any]:
    """Return a problem of a kind."""
    return {
        "type": f"urn:amodal:problem:{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
    }
