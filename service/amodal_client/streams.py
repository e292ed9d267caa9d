"""What comes bit by bit: events, records of frames, files. A break is gone on from, unnoticed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from amodal_client.errors import (
    AnswerError,
    ClientError,
    ConnectionLostError,
    ProblemError,
    UsageError,
    ended_error,
)
from amodal_client.exchange import Call, Exchange, decode
from amodal_client.values import Artifact, Event, FrameResult, Job

_READ_S = 45.0
"""A stream of events that is silent longer is broken: the server speaks every 15 s."""
_STEADY_S = 10.0
"""A stream that was open longer was no failure, even if nothing was said in it."""
_POLL_S = 0.5
_MAX_LINE_BYTES = 256 << 20
_NOTHING_THERE = 416


def job_path(job: Job | str, rest: str = "") -> str:
    """Return the path of a job, or of something below it.

    Raises:
        UsageError: that is no id of a job.
    """
    job_id = job if isinstance(job, str) else job.id
    if not job_id.isalnum() or len(job_id) > 64:
        raise UsageError(f"job id {job_id[:80]!r} is not one")
    return f"/v1/jobs/{job_id}{rest}"


async def find_job(exchange: Exchange, job: Job | str) -> Job:
    """Return a job as it is now."""
    return await exchange.fetch(Call("GET", job_path(job), {}), Job)


async def events(exchange: Exchange, job: Job | str, after: int) -> AsyncGenerator[Event, None]:
    """Yield what happens to a job after an event, to its end."""
    patience, is_over = exchange.patience(), False
    while not is_over:
        found, opened_s = 0, inf
        try:
            async with aclosing(_events_once(exchange, job, after)) as stream:
                async for event in stream:
                    if event is None:
                        opened_s = monotonic()
                        continue
                    patience.renew()
                    found, after = found + 1, event.id
                    yield event
                    is_over = event.is_end  # a retried job has ends in its past, too
            is_over = is_over or not (found or (await find_job(exchange, job)).is_active)
            if not is_over:
                raise ConnectionLostError("the stream of events ended before the job")
        except ClientError as error:
            if monotonic() - opened_s > _STEADY_S:
                patience.renew()
            await exchange.pause(patience, error)
            is_over = False


async def _events_once(
    exchange: Exchange, job: Job | str, after: int
) -> AsyncGenerator[Event | None, None]:
    """Yield None as soon as the stream is open, then its events."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    content = {"headers": headers, "timeout": _READ_S}
    async with (
        exchange.opened(Call("GET", job_path(job, "/events"), content)) as response,
        aclosing(exchange.transport.events(response)) as stream,
    ):
        yield None
        async for each in stream:
            if not each.id.isdecimal():
                raise AnswerError(f"event has the id {each.id[:40]!r}, must be a number")
            data = decode(each.data.encode(), dict[str, Any])
            yield Event(int(each.id), each.event, data)


async def results(
    exchange: Exchange, job: Job | str, *, follow: bool
) -> AsyncGenerator[FrameResult, None]:
    """Yield the finished frames of a job; with ``follow`` until it has ended.

    Raises:
        JobEndedError: followed, it failed or was cancelled.
    """
    offset, patience = 0, exchange.patience()
    while True:
        now = await find_job(exchange, job)  # before reading: its end is read with it
        try:
            async with aclosing(_lines(exchange, job, offset)) as lines:
                async for line in lines:
                    patience.renew()
                    offset += len(line)
                    yield decode(line, FrameResult)
        except ClientError as error:
            await exchange.pause(patience, error)
            continue
        patience.renew()
        if not follow or now.state == "succeeded":
            return
        if not now.is_active:
            raise ended_error(now)
        await exchange.transport.sleep(_POLL_S)


async def _lines(exchange: Exchange, job: Job | str, offset: int) -> AsyncGenerator[bytes, None]:
    """Yield whole lines from an offset on; what comes after the last is dropped."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    call = Call("GET", job_path(job, "/results"), {"headers": headers})
    rest = b""
    try:
        async with exchange.opened(call) as response:
            if offset and response.status_code != 206:
                raise AnswerError(f"range from {offset} was answered with all")
            async for part in exchange.transport.parts(response):
                *lines, rest = (rest + part).split(b"\n")
                for line in lines:
                    yield line + b"\n"
                if len(rest) > _MAX_LINE_BYTES:
                    raise AnswerError(f"line is over {_MAX_LINE_BYTES} bytes")
    except ProblemError as error:
        if error.status != _NOTHING_THERE:
            raise


async def download(exchange: Exchange, job: Job | str, name: str, path: Path) -> Path:
    """Store a result file and return where; it is there whole and right, or not at all.

    Raises:
        UsageError: the job has no such file (yet), or it cannot be stored there.
        AnswerError: what came is not the file.
    """
    found = {each.name: each for each in (await find_job(exchange, job)).artifacts}
    if name not in found or Path(name).name != name:
        raise UsageError(f"the job has no file {name!r}, it has: {', '.join(found) or 'none'}")
    target = path / name if path.is_dir() else path
    part = target.with_name(f"{target.name}.part")
    call = exchange.transport.call
    try:
        await call(part.write_bytes, b"")
        await _fill(exchange, job_path(job, f"/artifacts/{name}"), found[name], part)
        if await call(_sha256, part) != found[name].sha256:
            raise AnswerError(f"{name}: not the sha256 that the job says")
        await call(part.replace, target)
    except OSError as error:
        if isinstance(error, ClientError):
            raise
        raise UsageError(f"{error.filename or target}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)  # not in a thread: a cancelled caller would not get there
    return target


async def _fill(exchange: Exchange, path: str, artifact: Artifact, part: Path) -> None:
    patience, offset = exchange.patience(), 0
    while offset < artifact.size_bytes:
        headers = {"Range": f"bytes={offset}-"}
        try:
            async with exchange.opened(Call("GET", path, {"headers": headers})) as response:
                if response.status_code != 206:
                    raise AnswerError(f"range from {offset} was answered with all")
                async for data in exchange.transport.parts(response):
                    offset += len(data)
                    if offset > artifact.size_bytes:
                        raise AnswerError(f"{artifact.name}: over {artifact.size_bytes} bytes")
                    await exchange.transport.call(_append, part, data)
                    patience.renew()
        except ClientError as error:
            await exchange.pause(patience, error)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as out:
        out.write(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
