"""Jobs as they go over the wire."""

from __future__ import annotations

from amodal_service import job_history, jobs
from amodal_service.database import Database
from amodal_service.schemas import Artifact, Job, JobError


def describe_job(database: Database, job: jobs.Job) -> Job:
    """Return a job with its result files."""
    with database.read() as connection:
        artifacts = job_history.artifacts_of(connection, job.id) if job.state == "succeeded" else []
    url = f"/v1/jobs/{job.id}"
    return Job(
        id=job.id,
        state=job.state,
        mode=job.request.get("mode", "causal"),
        masks=job.request.get("masks", "given"),
        pictures=job.request.get("pictures", False),
        outputs=job.request.get("outputs", []),
        priority=job.priority,
        video_name=job.request["video_name"],
        frames_done=job.frames_done,
        frames_total=job.frames_total,
        fps=_rounded(job.fps),
        eta_s=_rounded(_eta_s(job)),
        runs=job.runs,
        attempts=job.attempts,
        error=JobError(**job.error) if job.error else None,
        created_s=job.created_s,
        started_s=job.started_s,
        finished_s=job.finished_s,
        artifacts=[
            Artifact(
                name=each.name,
                size_bytes=each.size_bytes,
                sha256=each.sha256,
                media_type=each.media_type,
                url=f"{url}/artifacts/{each.name}",
            )
            for each in artifacts
        ],
        results=f"{url}/results",
    )


def _eta_s(job: jobs.Job) -> float | None:
    """Return the seconds a running job still needs at the rate of its last chunk."""
    if job.state != "running" or not job.fps or job.frames_total is None:
        return None
    return max(job.frames_total - job.frames_done, 0) / job.fps


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
