"""What Prometheus reads from ``/metrics``: of this process, and of the queue as a whole."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

REQUEST_SECONDS = Histogram(
    "amodal_request_seconds", "Time to answer.", ("method", "route", "status"), buckets=_SECONDS
)
QUEUE_SECONDS = Histogram(
    "amodal_job_queue_seconds", "Time from a job's creation to its start.", buckets=_SECONDS
)
JOB_FRAMES = Counter("amodal_job_frames_total", "Frames that jobs of this process have finished.")
JOBS_ENDED = Counter("amodal_jobs_ended_total", "Jobs that ended in this process.", ("state",))
JOBS = Gauge("amodal_jobs", "Jobs in the database.", ("state",))
WORKERS = Gauge("amodal_workers", "Workers that show signs of life.")
SEGMENT_FRAMES = Counter("amodal_segment_frames_total", "Frames answered by /v1/segment.")
