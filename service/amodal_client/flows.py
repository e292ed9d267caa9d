"""What a client does, written once, as coroutines over an `Exchange`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import msgspec

from amodal_client import streams
from amodal_client.errors import (
    ConflictError,
    MissingError,
    UsageError,
    WaitTimeoutError,
    ended_error,
)
from amodal_client.exchange import Call, Exchange
from amodal_client.streams import find_job, job_path
from amodal_client.uploads import UploadProgress, remove_upload, upload_file
from amodal_client.values import (
    Artifact,
    Event,
    FrameResult,
    Job,
    JobPage,
    Masks,
    Mode,
    Model,
    ModelPage,
    SegmentedClip,
    State,
)

Source: TypeAlias = Path | str
"""A file, or a URL (http, https) that the server fetches."""
JobProgress: TypeAlias = Callable[[Job], object]

WORK_TIMEOUT_S = 300.0
"""Of answers for which the server works: it segments a clip, or copies an upload."""
MAX_SEGMENT_BYTES = 256 << 20
_LONGEST_POLL_S = 2.0


class Flows:
    """The methods of both clients."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def segment(
        self,
        clip: Path | str,
        visible: Path | str | None = None,
        mode: Mode = "causal",
        *,
        prompts: Path | str | None = None,
        masks: Masks | None = None,
        pictures: bool = False,
    ) -> SegmentedClip:
        """Return a short clip's whole silhouettes, answered at once; long ones are for jobs.

        Args:
            clip: the video file.
            visible: the file of its visible masks, YouTube-VIS.
            mode: past only, or both directions.
            prompts: in place of ``visible``, a file that says where its objects are.
            masks: ``motion`` where there is neither; else what the files say.
            pictures: look at the images beside given masks, too, for what hides without a mask.
        """
        read = self._exchange.transport.call
        options = {"mode": mode, "masks": _choice(visible, prompts, masks), **_looks(pictures)}
        files: dict[str, tuple[str | None, bytes] | tuple[None, bytes, str]] = {
            "request": (None, msgspec.json.encode(options), "application/json")
        }
        for part, path in _present(video=clip, visible=visible, prompts=prompts).items():
            files[part] = (Path(path).name, await read(_read_small, Path(path)))
        content = {"files": files, "timeout": WORK_TIMEOUT_S}
        return await self._exchange.fetch(Call("POST", "/v1/segment", content), SegmentedClip)

    async def submit(  # noqa: PLR0913  (its options have names)
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
        """Upload a clip with its visible masks, or prompts, and return the job made of them.

        Args:
            clip: the video.
            visible: its visible masks, YouTube-VIS.
            mode: past only, or both directions.
            prompts: in place of ``visible``, a file that says where its objects are.
            masks: ``motion`` where there is neither; else what the files say.
            pictures: look at the images beside given masks, too, for what hides without a mask.
            outputs: beyond amodal.json and frames.csv, such as ``overlay``.
            priority: 0 to 9, higher runs first among one's own.
            on_upload: told of each piece: file, bytes there, size.
        """
        wanted: dict[str, Any] = {"mode": mode, "outputs": list(outputs), "priority": priority}
        wanted |= {"masks": _choice(visible, prompts, masks), **_looks(pictures)}
        uploaded = []
        for part, source in _present(video=clip, visible=visible, prompts=prompts).items():
            if isinstance(source, str) and source.startswith(("http://", "https://")):
                wanted[part] = {"url": source}
                continue
            uploaded.append(await upload_file(self._exchange, Path(source), on_upload))
            wanted[part] = {"upload_id": uploaded[-1]}
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        content = {"json": wanted, "headers": headers, "timeout": WORK_TIMEOUT_S}
        call = Call("POST", "/v1/jobs", content)
        job = await self._exchange.fetch(call, Job)
        for upload_id in uploaded:  # the job has its own copy
            await remove_upload(self._exchange, upload_id)
        return job

    async def job(self, job: Job | str) -> Job:
        """Return a job as it is now."""
        return await find_job(self._exchange, job)

    async def jobs(self, state: State | None = None) -> AsyncGenerator[Job, None]:
        """Yield the caller's jobs, newest first."""
        params: dict[str, Any] = {} if state is None else {"state": state}
        while True:
            call = Call("GET", "/v1/jobs", {"params": params})
            page = await self._exchange.fetch(call, JobPage)
            for job in page.jobs:
                yield job
            if page.next_before is None:
                return
            params = {**params, "before": page.next_before}

    async def wait(
        self,
        job: Job | str,
        on_progress: JobProgress | None = None,
        timeout_s: float | None = None,
    ) -> Job:
        """Return a job that has succeeded; told of its progress until then.

        Raises:
            JobEndedError: it failed or was cancelled.
            WaitTimeoutError: it has not ended in time.
        """
        started_s, told, poll_s = monotonic(), None, 0.1
        while True:
            now = await self.job(job)
            if on_progress is not None and now != told:
                on_progress(now)
                told = now
            if now.state == "succeeded":
                return now
            if not now.is_active:
                raise ended_error(now)
            if timeout_s is not None and monotonic() - started_s + poll_s > timeout_s:
                raise WaitTimeoutError(f"job {now.id} is {now.state} after {timeout_s:g} s")
            await self._exchange.transport.sleep(poll_s)
            poll_s = min(1.5 * poll_s, _LONGEST_POLL_S)

    async def events(self, job: Job | str, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield what happened and happens to a job after an event, until the job ends."""
        async with aclosing(streams.events(self._exchange, job, after)) as found:
            async for event in found:
                yield event

    async def results(
        self, job: Job | str, *, follow: bool = True
    ) -> AsyncGenerator[FrameResult, None]:
        """Yield the frames of a job as they are finished; without ``follow``, those there now.

        Raises:
            JobEndedError: followed, it failed or was cancelled.
        """
        found = streams.results(self._exchange, job, follow=follow)
        async with aclosing(found) as frames:
            async for frame in frames:
                yield frame

    async def artifacts(self, job: Job | str) -> tuple[Artifact, ...]:
        """Return the result files of a job, which it has once it has succeeded."""
        return (await self.job(job)).artifacts

    async def download(self, job: Job | str, name: str, path: Path | str) -> Path:
        """Store a result file at a path, or in a folder, and return where it is."""
        return await streams.download(self._exchange, job, name, Path(path))

    async def cancel(self, job: Job | str) -> Job:
        """Stop a job; one that has ended stays as it is."""
        return await self._exchange.fetch(Call("POST", job_path(job, "/cancel"), {}), Job)

    async def retry(self, job: Job | str) -> Job:
        """Queue a job that failed or was cancelled again.

        Raises:
            ConflictError: it has not failed.
        """
        before = await self.job(job)
        try:
            return await self._exchange.fetch(Call("POST", job_path(job, "/retry"), {}), Job)
        except ConflictError:
            after = await self.job(job)
            if after.runs == before.runs:
                raise
            return after  # a first try had come through, and its answer was lost

    async def delete(self, job: Job | str) -> None:
        """Remove a job and its files.

        Raises:
            MissingError: there is no such job.
        """
        await self.job(job)
        try:
            await self._exchange.call(Call("DELETE", job_path(job), {}))
        except MissingError:
            return  # a first try had come through, and its answer was lost

    async def models(self) -> tuple[Model, ...]:
        """Return the models of the server."""
        return (await self._exchange.fetch(Call("GET", "/v1/models", {}), ModelPage)).models

    async def close(self) -> None:
        """Close the connections."""
        await self._exchange.transport.close()


def _choice(visible: Source | None, prompts: Source | None, masks: Masks | None) -> Masks:
    """Return where the visible masks come from, before a byte is sent.

    Raises:
        UsageError: what is given does not say it, or says two things.
    """
    if visible is not None and prompts is not None:
        raise UsageError("visible masks come from a file of them or from prompts, not both")
    by_file: Masks | None = None
    if visible is not None:
        by_file = "given"
    elif prompts is not None:
        by_file = "prompted"
    if masks is None or masks == by_file:
        if by_file is None:
            raise UsageError("needs a file of visible masks, a file of prompts, or masks 'motion'")
        return by_file
    if by_file is None and masks == "motion":
        return masks
    has = {None: "neither visible masks nor prompts", "given": "visible masks"}
    raise UsageError(f"masks is {masks!r}, and there are {has.get(by_file, 'prompts')}")


def _looks(pictures: bool) -> dict[str, bool]:
    """Return the option where it is wanted: servers of before do not know it."""
    return {"pictures": True} if pictures else {}


def _present(**sources: Source | None) -> dict[str, Source]:
    return {part: source for part, source in sources.items() if source is not None}


def _read_small(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_SEGMENT_BYTES:
            raise UsageError(f"{path}: {size} bytes, limit {MAX_SEGMENT_BYTES}; submit it as a job")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
