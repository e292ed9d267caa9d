"""A worker: takes runs of jobs from the queue, shows that it lives, takes over from the dead.

The queue is DBOS's: a run is a workflow, a chunk of frames a step. A run whose process dies stays
pending under the name of its worker. Workers show signs of life in the database; the first of those
that live puts the runs of those that do not back into the queue. The next to take one up replays
the finished steps from their records, goes on from the last checkpoint, and has a new epoch.

An execution that is to stop ends with `Superseded`, which DBOS does not record: to it, too, the
process might have died there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from dbos import DBOS
from sqlalchemy.exc import DBAPIError

from amodal_model.errors import UnavailableError
from amodal_service import job_transitions, jobs
from amodal_service.job_queue import (
    APP_NAME,
    QUEUE,
    WORKFLOW,
    WORKFLOW_VERSION,
    JobQueue,
    queue_url,
    workflow_id,
)
from amodal_service.job_run import JobRun, StopSignal
from amodal_service.job_transitions import Superseded
from amodal_service.jobs import Job
from amodal_service.live_workers import WorkerName, bury_dead, new_worker_name, show_life, sign_off
from amodal_service.metrics import JOBS_ENDED, QUEUE_SECONDS
from amodal_service.problems import problem_of
from amodal_service.tracing import fail_span, span
from amodal_service.workplace import Workplace

_log = structlog.get_logger()

WATCH_S = 0.25
"""Seconds between two looks at whether the jobs that run here are still this worker's."""
STOP_TIMEOUT_S = 20.0
MIN_REPAIR_S = 1.0
"""Seconds, at least, between two searches for jobs that have lost their place in the queue."""


@dataclass(frozen=True)
class _Running:
    """An execution in this process."""

    job: Job
    stop: StopSignal = field(default_factory=StopSignal)


class Worker:
    """Runs jobs in threads of this process; there can be one in a process, as of DBOS."""

    def __init__(self, place: Workplace, queue: JobQueue) -> None:
        self.name: WorkerName = new_worker_name()
        self._place = place
        self._queue = queue
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._is_stopping = threading.Event()
        self._orphans: set[str] = set()
        self._repair_s = max(2 * place.settings.dead_after_s, MIN_REPAIR_S)
        self._next_repair_s = time.monotonic() + self._repair_s
        self._pulse = threading.Thread(target=self._beat, name="amodal-pulse", daemon=True)

    def start(self) -> None:
        """Begin to take jobs."""
        settings = self._place.settings
        show_life(self._place.database, self.name)
        DBOS(
            config={
                "name": APP_NAME,
                "system_database_url": queue_url(self._place.database),
                "executor_id": self.name.id,
                "application_version": WORKFLOW_VERSION,
                "log_level": "ERROR",
                "use_listen_notify": False,
            }
        )

        @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)  # attempts are counted by job
        def run_job(job_id: str, run: int) -> None:
            self._run_workflow(job_id, run)

        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=settings.worker_jobs,
            partition_worker_concurrency=settings.worker_jobs,  # which makes it partitioned
            polling_interval_sec=settings.poll_s,
            on_conflict="always_update",
        )
        self._pulse.start()
        _log.info("worker_started", worker=self.name.id, jobs=settings.worker_jobs)

    @property
    def running(self) -> list[str]:
        """Ids of the jobs that run here now."""
        with self._lock:
            return [each.job.id for each in self._running.values()]

    def stop(self) -> None:
        """Stop the running executions at their next frame and leave their jobs to other workers.

        What they have finished is kept: each goes on from its last checkpoint.
        """
        self._is_stopping.set()
        with self._lock:
            left = list(self._running.values())
        for each in left:
            each.stop.set()
        deadline_s = time.monotonic() + STOP_TIMEOUT_S
        while self.running and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self._pulse.join()
        DBOS.destroy(destroy_registry=True)
        sign_off(self._place.database, self.name)
        with self._place.database.write() as connection:
            for each in left:
                job_transitions.release(connection, each.job)
        self._queue.release(self._queue.pending_of(self.name.id))
        _log.info("worker_stopped", worker=self.name.id, released=len(left))

    def _run_workflow(self, job_id: str, run: int) -> None:
        """Run one run of a job: the workflow."""
        if self._is_stopping.is_set():
            raise Superseded("the worker is stopping")
        with structlog.contextvars.bound_contextvars(job_id=job_id, run=run):
            try:
                job = self._claim(job_id, run)
                if job is not None:
                    self._run_claimed(job, run)
            except DBAPIError as error:  # it cannot be recorded either: as if the process had died
                _log.error("database_failed", error=str(error).splitlines()[0])
                raise Superseded("the database failed") from error

    def _claim(self, job_id: str, run: int) -> Job | None:
        with self._place.database.write() as connection:
            job = job_transitions.claim(connection, job_id, run, self.name.id)
        if job is not None and job.attempts == 1 and run == 1:
            QUEUE_SECONDS.observe(time.time() - job.created_s)
        return job

    def _run_claimed(self, job: Job, run: int) -> None:
        running = _Running(job)
        with self._lock:
            self._running[workflow_id(job.id, run)] = running
        _log.info("job_started", attempt=job.attempts, epoch=job.epoch)
        try:
            with span("job", job_id=job.id, run=run, attempt=job.attempts):
                self._run_to_its_end(job, running.stop)
        finally:
            with self._lock:
                self._running.pop(workflow_id(job.id, run), None)

    def _run_to_its_end(self, job: Job, stop: StopSignal) -> None:
        try:
            self._run_steps(job, stop)
            self._ended("succeeded")
        except (Superseded, DBAPIError):
            _log.info("job_left", epoch=job.epoch)
            fail_span("left to another execution")
            raise
        except Exception as error:  # whatever it is, the job ends with it, and says so
            self._fail(job, error)

    def _run_steps(self, job: Job, stop: StopSignal) -> None:
        limit = self._place.settings.max_attempts
        if job.attempts > limit:
            raise UnavailableError(
                f"given up after {limit} starts that did not end (AMODAL_MAX_ATTEMPTS)"
            )
        with JobRun(self._place, job, stop) as run:
            number, is_last = 0, False
            while not is_last:
                with span("chunk", job_id=job.id, chunk=number):
                    is_last = DBOS.run_step({"name": "chunk"}, run.finish_chunk, number)
                number += 1
            with span("publish", job_id=job.id):
                run.publish()

    def _fail(self, job: Job, error: Exception) -> None:
        problem = problem_of(error)
        fail_span(problem["title"])
        _log.error("job_failed", problem=problem["type"], error=str(error), exc_info=error)
        with self._place.database.write() as connection:
            job_transitions.fail(connection, job, problem)
        self._ended("failed")

    def _ended(self, state: str) -> None:
        JOBS_ENDED.labels(state).inc()
        _log.info("job_ended", state=state)

    def _beat(self) -> None:
        """Watch the running jobs, show life, and take over, until the worker stops."""
        settings, next_s = self._place.settings, 0.0
        while not self._is_stopping.wait(min(WATCH_S, settings.heartbeat_s)):
            try:
                self._watch()
                if time.monotonic() >= next_s:
                    next_s = time.monotonic() + settings.heartbeat_s
                    show_life(self._place.database, self.name)
                    self._take_over()
            except Exception as error:  # the pulse must not stop: the next beat may do better
                _log.warning("pulse_failed", error=str(error).splitlines()[0])

    def _restart_lost(self) -> None:
        """Begin a new run of jobs whose run has ended without them, which should not happen.

        Looked at once a while, of jobs that nothing has happened to for as long.
        """
        if time.monotonic() < self._next_repair_s:
            return
        self._next_repair_s = time.monotonic() + self._repair_s
        database = self._place.database
        with database.read() as connection:
            silent = jobs.silent_jobs(connection, time.time() - self._repair_s)
        by_run = {workflow_id(job.id, job.runs): job for job in silent}
        for lost in self._queue.find_lost(list(by_run)) if by_run else ():
            job = by_run[lost]
            with database.write() as connection:
                run = job_transitions.restart(connection, job)
                if run is not None:
                    _log.error("job_restarted", job_id=job.id, lost=lost)
                    self._queue.add(connection, job.id, run, owner=job.owner, priority=job.priority)

    def _watch(self) -> None:
        """Stop the executions whose jobs were cancelled, deleted or taken over."""
        with self._lock:
            running = list(self._running.values())
        if not running:
            return
        with self._place.database.read() as connection:
            epochs = jobs.epochs_of(connection, [each.job.id for each in running])
        for each in running:
            if epochs.get(each.job.id) != each.job.epoch:
                each.stop.set()

    def _take_over(self) -> None:
        """Put runs that nobody works on back into the queue."""
        live = bury_dead(self._place.database, self._place.settings.dead_after_s)
        if live and live[0] == self.name.id:  # one is enough, and which one all agree on
            for taken in self._queue.release_dead(frozenset(live)):
                _log.warning("job_taken_over", run=taken)
            self._restart_lost()
        with self._lock:
            idle = set(self._queue.pending_of(self.name.id)) - set(self._running)
        lost = idle & self._orphans  # twice in a row: it is not just about to start
        self._orphans = idle - lost
        self._queue.release(sorted(lost))


@contextmanager
def running_worker(place: Workplace, queue: JobQueue) -> Iterator[Worker]:
    """Run jobs for as long as the block lasts."""
    worker = Worker(place, queue)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
