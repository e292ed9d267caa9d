"""One execution of a job: from its last checkpoint to its result files.

Everything it writes goes under keys with its epoch and counts only when the database says so, in
one statement that fails where the job is no longer this execution's. Whatever a dead or superseded
execution leaves behind is never seen, and removed with the job at the latest.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from amodal_model.clip import Mode
from amodal_model.engine import Engine, EngineInfo
from amodal_model.errors import LimitError
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.video import DEFAULT_FPS, Clip
from amodal_service import job_history, job_transitions
from amodal_service.input_fetch import fetch_inputs
from amodal_service.job_files import hiding_folder, masks_of, stage_inputs
from amodal_service.job_history import Chunk
from amodal_service.job_results import publish_results
from amodal_service.job_transitions import Superseded
from amodal_service.jobs import Job
from amodal_service.journal import Arrays, Checkpoint, read_checkpoint, write_checkpoint
from amodal_service.mask_sources import finders_for
from amodal_service.metrics import JOB_FRAMES
from amodal_service.rate_limits import charge
from amodal_service.records import compact_json
from amodal_service.segmentation import (
    FinishedFrame,
    finished_frames,
    results_fingerprint,
    state_arrays,
)
from amodal_service.sources import CheckedClip, MakeFinders, Sources, find_sources
from amodal_service.workplace import Workplace


class StopSignal:
    """Tells an execution to stop: its job is another's, or its worker ends."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Stop the execution at its next frame."""
        self._event.set()

    def check(self) -> None:
        """Raise Superseded where it is to stop."""
        if self._event.is_set():
            raise Superseded("told to stop")


class StoppableEngine:
    """An engine whose steps end an execution that is to stop, in either direction of time."""

    def __init__(self, engine: Engine, stop: StopSignal) -> None:
        self._engine = engine
        self._stop = stop

    @property
    def info(self) -> EngineInfo:
        """What computes, and on what."""
        return self._engine.info

    def step(
        self, inputs: StepInputs[Any], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[Any], MemoryState[Any]]:
        """Return the silhouettes of one frame and the memory for the next."""
        self._stop.check()
        return self._engine.step(inputs, memory)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[Any]:
        """Return the memory as numpy arrays."""
        return self._engine.to_host(memory)


class JobRun:
    """One execution of a job; use it in a ``with`` block."""

    def __init__(self, place: Workplace, job: Job, stop: StopSignal) -> None:
        self._place = place
        self._job = job
        self._stop = stop
        self._segmenter = place.segmenter.with_engine(StoppableEngine(place.segmenter.engine, stop))
        self._mode: Mode = job.request.get("mode", "causal")
        self._opened = ExitStack()
        self._frames: Iterator[FinishedFrame] | None = None

    def __enter__(self) -> JobRun:
        """Fetch the input files and find where to go on."""
        with ExitStack() as stack:
            self._open(stack)
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the scratch folder."""
        self._opened.__exit__(kind, error, trace)

    def _open(self, stack: ExitStack) -> None:
        job, place = self._job, self._place
        folder = stack.enter_context(TemporaryDirectory(prefix="amodal-job-"))
        self.scratch = Path(folder)
        stack.enter_context(hiding_folder(self.scratch))
        fetch_inputs(place, job, self.scratch, self._stop.check)
        staged = stack.enter_context(stage_inputs(place.storage, job, self.scratch))
        masks = masks_of(job)
        self._sources = find_sources(
            staged.video,
            staged.visible,
            lambda line: None,
            make_finders=self._finders(staged.prompts, masks),
            open_clip=self._open_clip,
            pictures=job.request.get("pictures", False),
        )
        self._check_limits(self._sources)
        source = self._sources.clips[0]
        self._fingerprint = results_fingerprint(source, self._mode, place.segmenter)
        with place.database.write() as connection:
            if job.frames_total is None:  # its first start
                charge(
                    connection, job.owner, "video_seconds", source.video.length / source.clip.fps
                )
            job_transitions.set_total(connection, job, source.video.length)
            self._chunks = job_history.chunks_of(connection, job.id)
        self._arrays = self._resume()

    def _finders(self, prompts: Path | None, masks: str) -> MakeFinders | None:
        if masks == "given":
            return None
        return finders_for(prompts, masks, self._place.runtime)

    def _open_clip(self, path: Path, *, folder_fps: float = DEFAULT_FPS) -> Clip:
        """Return a clip whose reading ends where the execution is to stop."""
        clip = self._place.open_clip(path, folder_fps=folder_fps)
        return CheckedClip(clip, lambda frames: self._stop.check())

    def _check_limits(self, sources: Sources) -> None:
        video, limits = sources.clips[0].video, self._place.settings.limits
        if video.length > limits.job_frames:
            raise LimitError(
                f"clip has {video.length} frames, limit {limits.job_frames} "
                "(AMODAL_LIMIT_JOB_FRAMES)"
            )
        seconds = video.length / sources.clips[0].clip.fps
        if seconds > limits.job_seconds:
            raise LimitError(
                f"clip is {seconds:.1f} s, limit {limits.job_seconds:.1f} s "
                "(AMODAL_LIMIT_JOB_SECONDS)"
            )

    def _resume(self) -> Arrays:
        """Return the state after the finished chunks, or forget chunks that are not gone on from.

        They are not where another version or another model made them.
        """
        if not self._chunks:
            return {}
        key = self._job.checkpoint_key
        found = read_checkpoint(io.BytesIO(self._place.storage.get(key))) if key else None
        frames = sum(chunk.frames for chunk in self._chunks)
        if found and (found[0].fingerprint, found[0].frames) == (self._fingerprint, frames):
            return found[1]
        with self._place.database.write() as connection:
            job_transitions.drop_chunks(connection, self._job)
        self._chunks = []
        return {}

    def finish_chunk(self, number: int) -> bool:
        """Work on one chunk of frames, unless it is there already; return whether it was the last.

        Raises:
            Superseded: the job is not this execution's any more.
            DatasetError: a damaged clip, or masks that do not fit it.
        """
        if number < len(self._chunks):
            return False
        source = self._sources.clips[0]
        if self._frames is None:
            first = sum(chunk.frames for chunk in self._chunks)
            self._frames = finished_frames(
                source, self._segmenter, self._mode, first=first, arrays=self._arrays
            )
        wanted = self._place.settings.chunk_frames
        started_s = time.perf_counter()
        frames = self._take(self._frames, wanted)
        if frames:
            self._save(frames, len(frames) / max(time.perf_counter() - started_s, 1e-6))
        is_last = len(frames) < wanted
        if is_last:
            source.check_length(sum(chunk.frames for chunk in self._chunks))
        return is_last

    def _take(self, frames: Iterator[FinishedFrame], wanted: int) -> list[FinishedFrame]:
        """Return the next frames; of their states only the last is kept, the one to save."""
        taken: list[FinishedFrame] = []
        for frame in islice(frames, wanted):
            self._stop.check()
            if taken:
                taken[-1] = taken[-1]._replace(state=None)
            taken.append(frame)
        return taken

    def _save(self, frames: Sequence[FinishedFrame], fps: float) -> None:
        """Store finished frames and the state after them, then make them count."""
        job, place, number = self._job, self._place, len(self._chunks)
        records = "".join(compact_json(frame.record) + "\n" for frame in frames).encode()
        overlaps = [frame.overlap_pixels for frame in frames]
        chunk = Chunk(
            number,
            f"{job.prefix}/records/{number:06d}-{job.epoch}.jsonl",
            len(frames),
            len(records),
            sum(pixels > 0 for pixels in overlaps),
            sum(overlaps),
        )
        done = sum(each.frames for each in self._chunks) + chunk.frames
        state_key = f"{job.prefix}/state/{number:06d}-{job.epoch}.npz"
        state = io.BytesIO()
        arrays = state_arrays(self._sources.clips[0], self._segmenter, frames[-1].state)
        write_checkpoint(state, Checkpoint(self._fingerprint, done), arrays)
        place.room.check(len(records) + len(state.getvalue()))
        place.storage.put(chunk.key, records)
        place.storage.put(state_key, state.getvalue())
        try:
            with place.database.write() as connection:
                job_transitions.add_chunk(connection, job, chunk, state_key, fps)
        except Superseded:
            place.storage.delete(chunk.key)
            place.storage.delete(state_key)
            raise
        self._chunks.append(chunk)
        JOB_FRAMES.inc(chunk.frames)
        self._drop_states_before(number, job)

    def _drop_states_before(self, number: int, job: Job) -> None:
        """Remove the state before the last one, which nothing goes on from any more."""
        if number:
            place = self._place
            place.storage.delete(f"{job.prefix}/state/{number - 1:06d}-{job.epoch}.npz")

    def publish(self) -> None:
        """Make the result files and end the job.

        Raises:
            Superseded: the job is not this execution's any more.
        """
        publish_results(
            self._place.database,
            self._place.storage,
            self._job,
            self._sources,
            self._chunks,
            self.scratch,
            self._stop.check,
        )
