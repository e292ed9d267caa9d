"""`Client` and `AsyncClient`: one surface, written once.

The logic is that of `Flows`. An event loop runs its coroutines as they are; `Client` runs the same
ones over a transport that blocks (`amodal_client.transport`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, Unpack
from urllib.parse import urlsplit

import httpx2

from amodal_client.async_stream import AsyncStream
from amodal_client.blocking_stream import Stream
from amodal_client.errors import UsageError
from amodal_client.exchange import Exchange
from amodal_client.flows import Flows, JobProgress, Source
from amodal_client.stream_options import StreamOptions, stream_setup
from amodal_client.transport import AsyncTransport, BlockingTransport, run_blocking
from amodal_client.uploads import UploadProgress
from amodal_client.values import (
    Artifact,
    Event,
    FrameResult,
    Job,
    Masks,
    Mode,
    Model,
    SegmentedClip,
    State,
)

T = TypeVar("T")

RETRY_S = 60.0
TIMEOUT_S = 60.0


class AsyncClient(Flows):
    """A client of an amodal server, for an event loop; use it in ``async with``.

    Args:
        url: of the server, such as ``http://127.0.0.1:8420``.
        api_key: not needed by a server on this machine.
        retry_s: how long a call, or a transfer that makes no progress, is tried again while the
            server is away; 10 s at most until it has answered for the first time.
        timeout_s: how long an answer may take, seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retry_s: float = RETRY_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        options = _options(url, api_key, timeout_s)
        transport = AsyncTransport(httpx2.AsyncClient(**options))
        self._url = url
        super().__init__(Exchange(transport, retry_s))

    def stream(self, **options: Unpack[StreamOptions]) -> AsyncStream:
        """Return a live stream, to be opened with ``async with``; options: `StreamOptions`."""
        return AsyncStream(self._exchange, self._url, stream_setup(options))

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class Client:
    """A client of an amodal server that blocks; use it in ``with``.

    Arguments and methods are those of `AsyncClient`; what that yields, this iterates over.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        retry_s: float = RETRY_S,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        options = _options(url, api_key, timeout_s)
        transport = BlockingTransport(httpx2.Client(**options))
        self._url = url
        self._exchange = Exchange(transport, retry_s)
        self._flows = Flows(self._exchange)

    def stream(self, **options: Unpack[StreamOptions]) -> Stream:
        """Return a live stream, to be opened with ``with``; options: `StreamOptions`."""
        return Stream(self._exchange, self._url, stream_setup(options))

    def segment(
        self,
        clip: Path | str,
        visible: Path | str | None = None,
        mode: Mode = "causal",
        *,
        prompts: Path | str | None = None,
        masks: Masks | None = None,
        pictures: bool = False,
    ) -> SegmentedClip:
        """Return a short clip's whole silhouettes, answered at once; long ones are for jobs."""
        return run_blocking(
            self._flows.segment(
                clip, visible, mode, prompts=prompts, masks=masks, pictures=pictures
            )
        )

    def submit(  # noqa: PLR0913  (its options have names)
        self,
        clip: Source,
        visible: Source | None = None,
        mode: Mode = "causal",
        *,
        prompts: Source | None = None,
        masks: Masks | None = None,
        pictures: bool = False,
        outputs: Sequence[str] = (),
        priority: int = 5,
        on_upload: UploadProgress | None = None,
    ) -> Job:
        """Upload a clip with its visible masks, or prompts, and return the job made of them."""
        return run_blocking(
            self._flows.submit(
                clip,
                visible,
                mode,
                prompts=prompts,
                masks=masks,
                pictures=pictures,
                outputs=outputs,
                priority=priority,
                on_upload=on_upload,
            )
        )

    def job(self, job: Job | str) -> Job:
        """Return a job as it is now."""
        return run_blocking(self._flows.job(job))

    def jobs(self, state: State | None = None) -> Iterator[Job]:
        """Yield the caller's jobs, newest first."""
        return _drain(self._flows.jobs(state))

    def wait(
        self,
        job: Job | str,
        on_progress: JobProgress | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Return a job that has succeeded; told of its progress until then."""
        return run_blocking(self._flows.wait(job, on_progress, timeout_s))

    def events(self, job: Job | str, after: int = 0) -> Iterator[Event]:
        """Yield what happened and happens to a job after an event, until the job ends."""
        return _drain(self._flows.events(job, after))

    def results(self, job: Job | str, *, follow: bool = True) -> Iterator[FrameResult]:
        """Yield the frames of a job as they are finished; without ``follow``, those there now."""
        return _drain(self._flows.results(job, follow=follow))

    def artifacts(self, job: Job | str) -> tuple[Artifact, ...]:
        """Return the result files of a job, which it has once it has succeeded."""
        return run_blocking(self._flows.artifacts(job))

    def download(self, job: Job | str, name: str, path: Path | str) -> Path:
        """Store a result file at a path, or in a folder, and return where it is."""
        return run_blocking(self._flows.download(job, name, path))

    def cancel(self, job: Job | str) -> Job:
        """Stop a job; one that has ended stays as it is."""
        return run_blocking(self._flows.cancel(job))

    def retry(self, job: Job | str) -> Job:
        """Queue a job that failed or was cancelled again."""
        return run_blocking(self._flows.retry(job))

    def delete(self, job: Job | str) -> None:
        """Remove a job and its files."""
        run_blocking(self._flows.delete(job))

    def models(self) -> tuple[Model, ...]:
        """Return the models of the server."""
        return run_blocking(self._flows.models())

    def close(self) -> None:
        """Close the connections."""
        run_blocking(self._flows.close())

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _drain(found: AsyncGenerator[T, None]) -> Iterator[T]:
    """Yield what a generator over the blocking transport yields."""
    end: Any = object()
    try:
        while (value := run_blocking(_next(found, end))) is not end:
            yield value
    finally:
        run_blocking(found.aclose())


async def _next(found: AsyncGenerator[T, None], end: T) -> T:
    return await anext(found, end)


def _options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the options of an httpx2 client; redirects are not followed, a key stays here."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"server {url!r}, must be http://HOST[:PORT] or https://HOST[:PORT]")
    if not 0 < timeout_s <= 3600:
        raise UsageError(f"timeout_s is {timeout_s}, must be above 0 and at most 3600")
    headers = {"User-Agent": "amodal-client"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    timeout = httpx2.Timeout(timeout_s, connect=min(10.0, timeout_s))
    return {"base_url": url, "headers": headers, "timeout": timeout}
