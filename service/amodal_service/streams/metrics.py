"""Figures of live streams for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

FRAMES = Counter(
    "amodal_stream_frames_total", "Frames of streams, by what became of them.", ("outcome",)
)
STREAMS = Gauge("amodal_streams", "Streams in this process.", ("state",))
MEMORY_BYTES = Gauge("amodal_stream_memory_bytes", "Reserved for the streams of this process.")
RESUMES = Counter("amodal_stream_resumes_total", "Streams that were resumed.", ("kind",))
FRAME_AGE_SECONDS = Histogram(
    "amodal_stream_frame_age_seconds", "From a frame's arrival to its result.", buckets=_SECONDS
)
BATCH_FRAMES = Histogram(
    "amodal_stream_batch_frames",
    "Frames in one step of the model.",
    buckets=(1, 2, 4, 8, 16, 32, 64),
)
STALLED = Gauge("amodal_stream_stalled", "Streams whose client leaves results unread.")
PROVIDER = Gauge(
    "amodal_stream_provider_info", "Execution providers of the model.", ("requested", "actual")
)
