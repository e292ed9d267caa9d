"""Every error the client raises on purpose.

    ClientError
    ├── UsageError          (ValueError)       what was given cannot be sent
    ├── ConnectionLostError (ConnectionError)  no answer, for as long as it was tried
    ├── AnswerError         (ValueError)       an answer that is not one of this service
    ├── WaitTimeoutError    (TimeoutError)     the job had not ended in time; it goes on
    ├── JobEndedError       (RuntimeError)     the job will give no (more) results; has ``job``
    │   ├── JobFailedError                     ... it failed
    │   └── JobCancelledError                  ... it was cancelled
    ├── StreamClosedError   (RuntimeError)     the live stream cannot go on; has ``code``
    └── ProblemError        (RuntimeError)     the service refused: RFC 9457 problem details
        ├── InvalidRequestError (ValueError)   400, 406, 415, 416, 422: not valid
        │   └── LimitError                     413: larger than a limit
        ├── AccessError     (PermissionError)  401, 403: no valid key, or not allowed
        ├── MissingError    (LookupError)      404, 410: not there, or another's
        ├── ConflictError                      409: contradicts what is already there
        ├── QuotaError                         429: an allowance is used up; ``retry_after_s``
        └── ServerError                        5xx: the service cannot

The message of each is one line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from amodal_client.stream_messages import ErrorMessage
    from amodal_client.values import Job

_PASSING = frozenset({429, 502, 503, 504})


class ClientError(Exception):
    """Root of the errors of the client.

    Attributes:
        is_passing: whether the same call may succeed a little later.
        retry_after_s: seconds after which it is worth it; 0 where nothing was said.
    """

    is_passing = False
    retry_after_s = 0.0


class UsageError(ClientError, ValueError):
    """What was given cannot be sent."""


class ConnectionLostError(ClientError, ConnectionError):
    """No answer, for as long as it was tried."""

    is_passing = True


class AnswerError(ClientError, ValueError):
    """An answer that is not one of this service."""


class WaitTimeoutError(ClientError, TimeoutError):
    """The job had not ended in time; it goes on."""


class JobEndedError(ClientError, RuntimeError):
    """The job has ended without all of its results.

    Attributes:
        job: the job as it ended.
    """

    def __init__(self, job: Job) -> None:
        reason = job.error.detail if job.error else "no reason is known"
        super().__init__(f"job {job.id} {job.state}: {reason}" if job.error else _ended(job))
        self.job = job


class JobFailedError(JobEndedError):
    """The job failed."""


class JobCancelledError(JobEndedError):
    """The job was cancelled."""


def _ended(job: Job) -> str:
    return f"job {job.id} was {job.state} after {job.frames_done} frames"


class StreamClosedError(ClientError, RuntimeError):
    """The live stream cannot go on.

    Attributes:
        code: close code of its websocket.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"stream closed: {reason or 'no reason given'} (code {code})")
        self.code = code


class ProblemError(ClientError, RuntimeError):
    """The service refused.

    Attributes:
        status: of the answer.
        kind: the problem's type, such as ``urn:amodal:problem:limit``.
        title: what kind of problem it is, in words.
        request_id: under which the service's log has it; may be empty.
        problem: the whole problem.
    """

    def __init__(self, problem: Mapping[str, Any], retry_after_s: float = 0.0) -> None:
        self.problem = dict(problem)
        self.status = int(problem["status"])
        self.kind = str(problem.get("type", "about:blank"))
        self.title = str(problem.get("title", ""))
        self.request_id = str(problem.get("request_id", ""))
        self.is_passing = self.status in _PASSING
        self.retry_after_s = retry_after_s
        said = str(problem.get("detail") or self.title or "no detail")
        super().__init__(f"{said} (status {self.status})")


class InvalidRequestError(ProblemError, ValueError):
    """The request is not valid."""


class LimitError(InvalidRequestError):
    """Something is larger than a limit of the service."""


class AccessError(ProblemError, PermissionError):
    """No valid API key, or one that does not allow this."""


class MissingError(ProblemError, LookupError):
    """It is not there, or belongs to another."""


class ConflictError(ProblemError):
    """The request contradicts what is already there."""


class QuotaError(ProblemError):
    """An allowance is used up; ``retry_after_s`` says for how long."""


class ServerError(ProblemError):
    """The service cannot do it."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    **dict.fromkeys((400, 406, 415, 416, 422), InvalidRequestError),
    413: LimitError,
    401: AccessError,
    403: AccessError,
    404: MissingError,
    410: MissingError,
    409: ConflictError,
    429: QuotaError,
}


def problem_error(status: int, headers: Mapping[str, str], body: bytes) -> ProblemError:
    """Return the error of an answer; a proxy's answer, which is no problem, makes one too."""
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError):
        problem = {"title": f"answer without problem details: {body[:80]!r}"}
    fallback = ServerError if status >= 500 else ProblemError
    waits = headers.get("retry-after", "")
    retry_after_s = float(waits) if waits.isdecimal() and len(waits) < 9 else 0.0
    return _BY_STATUS.get(status, fallback)({**problem, "status": status}, retry_after_s)


def stream_error(code: int, reason: str, told: ErrorMessage | None) -> ClientError:
    """Return the error of a stream that was closed for good; ``told`` is what was said before."""
    if told is None:
        return StreamClosedError(code, reason)
    problem = {"type": told.type, "title": told.title, "detail": told.detail}
    kind = _BY_STATUS.get(told.status, ServerError if told.status >= 500 else ProblemError)
    return kind({**problem, "status": told.status})


def ended_error(job: Job) -> JobEndedError:
    """Return the error of a job that failed or was cancelled."""
    return JobFailedError(job) if job.state == "failed" else JobCancelledError(job)
