"""Jobs under fire: workers are killed and frozen at random while they work.

    python tests/faults/fault_run.py --jobs 200 --kills 50 --workers 3 --database postgres

At the end every job has succeeded, once, and its files are those of an undisturbed run, byte for
byte. One worker after another is killed with SIGKILL, and some are frozen with SIGSTOP until others
have taken over and then let go on. Prints one JSON object; exit status 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres_server import running_postgres
from service_processes import ServiceProcess
from small_clips import SmallClip, write_small_clip

from amodal_service import job_history, job_transitions, jobs
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.database import Database, open_database
from amodal_service.job_files import video_key, visible_key
from amodal_service.job_queue import JobQueue, open_job_queue
from amodal_service.jobs import Job, NewJob
from amodal_service.progress import Reporter
from amodal_service.settings import Settings
from amodal_service.storage import Storage, open_storage

FRAMES = 24
CHUNK_FRAMES = 6
DISTINCT_CLIPS = 4
OUTPUT = "coco-rle"
FILES = ("amodal.json", "frames.csv", "coco-rle.jsonl")
OWNERS = ("alpha", "beta", "gamma")


@dataclass(frozen=True)
class Plan:
    """What is done to whom."""

    jobs: int
    kills: int
    freezes: int
    workers: int
    seed: int
    timeout_s: float


@dataclass
class Field:
    """Where the jobs are, and the workers that run them."""

    plan: Plan
    folder: Path
    settings: dict[str, str]
    database: Database
    storage: Storage
    queue: JobQueue
    workers: list[ServiceProcess] = field(default_factory=list)
    frozen: list[tuple[float, ServiceProcess]] = field(default_factory=list)
    kills: int = 0
    freezes: int = 0

    def fill_up(self) -> None:
        """Start workers until there are as many as planned; a frozen one does not count."""
        while len(self.workers) < self.plan.workers:
            log = self.folder / "workers.log"
            self.workers.append(ServiceProcess("worker", self.settings, log))

    def thaw(self, now_s: float) -> None:
        """Let frozen workers go on whose jobs others have by now; they stay on as workers."""
        for until_s, worker in list(self.frozen):
            if now_s >= until_s:
                worker.go_on()
                self.frozen.remove((until_s, worker))
                self.workers.append(worker)

    def strike(self, rng: random.Random) -> None:
        """Kill or freeze a worker."""
        worker = self.workers.pop(rng.randrange(len(self.workers)))
        left = self.plan.kills - self.kills, self.plan.freezes - self.freezes
        if rng.random() * sum(left) < left[0]:
            worker.kill()
            self.kills += 1
        else:
            worker.pause()
            self.freezes += 1
            self.frozen.append((time.monotonic() + 6.0, worker))

    def end(self) -> None:
        """Stop every worker."""
        for worker in [*self.workers, *(worker for _, worker in self.frozen)]:
            worker.stop()


def main() -> None:
    """Run one plan and say how it went."""
    options = _arguments()
    plan = Plan(
        options.jobs, options.kills, options.freezes, options.workers, options.seed, options.timeout
    )
    postgres = running_postgres() if options.database == "postgres" else nullcontext("")
    with tempfile.TemporaryDirectory(prefix="amodal-faults-") as name, postgres as url:
        report = run(plan, Path(name), url)
    print(json.dumps({"database": options.database, **report}))  # noqa: T201  its output
    sys.exit(1 if report["amiss"] else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Jobs under fire.")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--freezes", type=int, default=5)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    return parser.parse_args()


def run(plan: Plan, folder: Path, database_url: str) -> dict[str, Any]:
    """Run a plan and return what happened; ``amiss`` is empty where nothing was."""
    clips = [
        write_small_clip(folder, f"clip{number}.mp4", FRAMES, shift=float(number))
        for number in range(min(DISTINCT_CLIPS, plan.jobs))
    ]
    wanted = [_undisturbed(clip, folder / "undisturbed" / clip.video.stem) for clip in clips]
    started_s = time.monotonic()
    with _field(plan, folder, database_url) as at:
        made = {
            _submit(at, clips[number % len(clips)], number): number for number in range(plan.jobs)
        }
        _disturb(at, plan)
        amiss = _find_amiss(at, {job: wanted[number % len(clips)] for job, number in made.items()})
        with at.database.read() as connection:
            attempts = Counter(jobs.find_job(connection, job).attempts for job in made)
    return {
        "workers": plan.workers,
        "jobs": plan.jobs,
        "kills": at.kills,
        "freezes": at.freezes,
        "jobs_by_starts": dict(sorted(attempts.items())),
        "seconds": round(time.monotonic() - started_s),
        "amiss": amiss,
    }


def _undisturbed(clip: SmallClip, output: Path) -> dict[str, bytes]:
    """Return the result files of a run of the command line."""
    options = AnnotateOptions(clip.video, output, clip.visible, formats=(OUTPUT,))
    annotate(options, Reporter())
    return {name: (output / name).read_bytes() for name in FILES}


@contextmanager
def _field(plan: Plan, folder: Path, database_url: str) -> Iterator[Field]:
    environment = {
        "AMODAL_DATA": str(folder / "data"),
        "AMODAL_DATABASE_URL": database_url,
        "AMODAL_CHUNK_FRAMES": str(CHUNK_FRAMES),
        "AMODAL_MAX_ATTEMPTS": "100",
    }
    settings = Settings(data=folder / "data", database_url=database_url)
    database = open_database(settings.database)
    storage = open_storage(settings.storage)
    with open_job_queue(database) as queue:
        at = Field(plan, folder, environment, database, storage, queue)
        try:
            yield at
        finally:
            at.end()
            database.close()


def _submit(at: Field, clip: SmallClip, number: int) -> str:
    """Queue a job and return its id."""
    job_id, owner = jobs.new_job_id(), OWNERS[number % len(OWNERS)]
    at.storage.put(video_key(job_id), clip.video)
    at.storage.put(visible_key(job_id), clip.visible)
    request = {"video_name": clip.video.name, "outputs": [OUTPUT], "mode": "causal"}
    with at.database.write() as connection:
        job_transitions.insert_job(connection, NewJob(job_id, owner, request, "", 5))
        at.queue.add(connection, job_id, 1, owner=owner, priority=5)
    return job_id


def _disturb(at: Field, plan: Plan) -> None:
    """Strike at random moments, spread over the whole run, until every job has ended."""
    rng = random.Random(plan.seed)  # noqa: S311  a repeatable plan, no secret
    strikes = plan.kills + plan.freezes
    last = max(plan.jobs - plan.workers - 1, 1)  # while there is still something to disturb
    moments = sorted(rng.uniform(0, last) for _ in range(strikes))
    deadline_s = time.monotonic() + plan.timeout_s
    while (ended := _count_ended(at)) < plan.jobs and time.monotonic() < deadline_s:
        at.thaw(time.monotonic())
        at.fill_up()
        if moments and ended >= moments[0] - 1:
            moments.pop(0)
            time.sleep(rng.uniform(0.5, 4.0))  # anywhere in a job, or in a worker's start
            at.strike(rng)
        time.sleep(0.1)


def _count_ended(at: Field) -> int:
    with at.database.read() as connection:
        counts = jobs.count_by_state(connection)
    return sum(count for state, count in counts.items() if state not in jobs.ACTIVE)


def _find_amiss(at: Field, wanted: dict[str, dict[str, bytes]]) -> list[str]:
    """Return what is wrong, one line each."""
    amiss = []
    for job_id, files in wanted.items():
        with at.database.read() as connection:
            job = jobs.find_job(connection, job_id)
            events = Counter(event.kind for event in job_history.events_after(connection, job_id))
            chunks = job_history.chunks_of(connection, job_id)
            artifacts = {
                each.name: each.key for each in job_history.artifacts_of(connection, job_id)
            }
        amiss += _wrong_ends(job, events)
        found = {name: at.storage.get(artifacts[name]) for name in FILES if name in artifacts}
        amiss += [f"{job_id}: {name} differs" for name in FILES if found.get(name) != files[name]]
        records = b"".join(at.storage.get(chunk.key) for chunk in chunks)
        if records != files["coco-rle.jsonl"]:
            amiss.append(f"{job_id}: results differ")
    return amiss


def _wrong_ends(job: Job, events: Counter[str]) -> list[str]:
    ends = {kind: events[kind] for kind in ("succeeded", "failed", "cancelled") if events[kind]}
    if job.state == "succeeded" and ends == {"succeeded": 1}:
        return []
    return [f"{job.id}: {job.state}, ended {ends}, error {job.error}"]


if __name__ == "__main__":
    main()
