"""The Python client of the service; needs no torch and no server code.

    from amodal_client import Client

    with Client("http://127.0.0.1:8420") as client:
        job = client.submit("street.mp4", "visible.json", outputs=["overlay"])
        for frame in client.results(job):  # as they are finished
            for each in frame.objects:
                print(frame.pts_s, each.track_id, each.occlusion_rate, each.amodal_mask)
        client.download(job, "overlay.mp4", "overlay.mp4")

`AsyncClient` has the same methods for an event loop. Live streams: `Client.stream`.
"""

from amodal_client.async_stream import AsyncStream
from amodal_client.blocking_stream import Stream
from amodal_client.client import AsyncClient, Client
from amodal_client.errors import (
    AccessError,
    AnswerError,
    ClientError,
    ConflictError,
    ConnectionLostError,
    InvalidRequestError,
    JobCancelledError,
    JobEndedError,
    JobFailedError,
    LimitError,
    MissingError,
    ProblemError,
    QuotaError,
    ServerError,
    StreamClosedError,
    UsageError,
    WaitTimeoutError,
)
from amodal_client.stream_events import (
    Ended,
    FramesDropped,
    Latency,
    LeavingServer,
    PromptTaken,
    Resumed,
    StreamedObject,
    StreamEvent,
    StreamResult,
    Totals,
)
from amodal_client.stream_messages import GivenObject, MaskRle
from amodal_client.stream_options import ResumePoint, StreamOptions
from amodal_client.values import (
    Artifact,
    Event,
    FrameResult,
    Job,
    Model,
    ObjectResult,
    Rle,
    SegmentedClip,
)

__all__ = [
    "AccessError",
    "AnswerError",
    "Artifact",
    "AsyncClient",
    "AsyncStream",
    "Client",
    "ClientError",
    "ConflictError",
    "ConnectionLostError",
    "Ended",
    "Event",
    "FrameResult",
    "FramesDropped",
    "GivenObject",
    "InvalidRequestError",
    "Job",
    "JobCancelledError",
    "JobEndedError",
    "JobFailedError",
    "Latency",
    "LeavingServer",
    "LimitError",
    "MaskRle",
    "MissingError",
    "Model",
    "ObjectResult",
    "ProblemError",
    "PromptTaken",
    "QuotaError",
    "ResumePoint",
    "Resumed",
    "Rle",
    "SegmentedClip",
    "ServerError",
    "Stream",
    "StreamClosedError",
    "StreamEvent",
    "StreamOptions",
    "StreamResult",
    "StreamedObject",
    "Totals",
    "UsageError",
    "WaitTimeoutError",
]
