"""Problems of the service become errors of one tree."""

from __future__ import annotations

import builtins

import pytest

import amodal_client
from amodal_client import ClientError, Job, JobFailedError, ServerError, errors
from amodal_client.errors import ended_error, problem_error
from amodal_client.values import JobProblem


@pytest.mark.parametrize(
    ("status", "name", "builtin", "passes"),
    [
        (422, "InvalidRequestError", "ValueError", False),
        (413, "LimitError", "ValueError", False),
        (401, "AccessError", "PermissionError", False),
        (404, "MissingError", "LookupError", False),
        (409, "ConflictError", "RuntimeError", False),
        (429, "QuotaError", "RuntimeError", True),
        (503, "ServerError", "RuntimeError", True),
        (500, "ServerError", "RuntimeError", False),
        (418, "ProblemError", "RuntimeError", False),
    ],
)
def test_a_problem_is_the_error_of_its_status(
    status: int, name: str, builtin: str, passes: bool
) -> None:
    body = b'{"type": "urn:x", "title": "No", "status": 1, "detail": "clip is 31 s, limit 20 s"}'
    error = problem_error(status, {"retry-after": "7"}, body)
    assert type(error) is getattr(errors, name)
    assert isinstance(error, getattr(builtins, builtin))
    assert str(error) == f"clip is 31 s, limit 20 s (status {status})"
    assert (error.status, error.kind, error.is_passing) == (status, "urn:x", passes)
    assert error.retry_after_s == 7


def test_an_answer_of_a_proxy_is_an_error_too() -> None:
    error = problem_error(502, {}, b"<html>Bad gateway")
    assert isinstance(error, ServerError)
    assert "<html>Bad gateway" in str(error)


def test_a_job_that_failed_says_why() -> None:
    job = Job("a", "failed", "causal", "x.mp4", 3, error=JobProblem("t", "T", "damaged clip"))
    error = ended_error(job)
    assert isinstance(error, JobFailedError)
    assert (str(error), error.job) == ("job a failed: damaged clip", job)


def test_every_error_is_drawn_in_the_tree_and_exported() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, ClientError)
    }
    drawn = errors.__doc__ or ""
    assert all(name in drawn for name in found)
    assert found <= set(amodal_client.__all__)
    assert all(hasattr(amodal_client, name) for name in amodal_client.__all__)
