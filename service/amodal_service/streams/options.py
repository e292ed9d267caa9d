"""What a client asks of a stream."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, model_validator

from amodal_service.schemas import Pictures, Real, Whole, Wire

MAX_DEADLINE_MS = 600_000
DEFAULT_MESSAGE_BYTES = 4 << 20


class StreamOptions(Wire):
    """How a stream runs; the body of ``POST /v1/streams`` and the query of ``/v1/stream``."""

    mode: Annotated[
        Literal["realtime", "lossless", "paced"],
        Field(description="Latest frame wins; nothing is dropped; or subsampled to `fps`."),
    ] = "realtime"
    fps: Annotated[
        Real | None,
        Field(gt=0, le=1000, description="Frame rate of the camera; of what is taken if paced."),
    ] = None
    max_objects: Annotated[
        Whole, Field(ge=1, le=1024, description="Followed at the same time.")
    ] = 16
    masks: Annotated[
        Literal["given", "prompted", "motion"],
        Field(description="Where visible masks come from: the client, its prompts, or motion."),
    ] = "given"
    pictures: Pictures = False
    deadline_ms: Annotated[
        Whole,
        Field(ge=0, le=MAX_DEADLINE_MS, description="Of frames that name none; 0: no deadline."),
    ] = 0
    delta: Annotated[
        StrictBool, Field(description="Leave out what is as in the result before.")
    ] = False
    remembered: Annotated[StrictBool, Field(description="Also send what was seen before.")] = False
    max_message_bytes: Annotated[
        Whole, Field(ge=4096, le=1 << 30, description="Of one message; costs memory.")
    ] = DEFAULT_MESSAGE_BYTES

    @model_validator(mode="after")
    def _check(self) -> StreamOptions:
        if self.mode == "paced" and self.fps is None:
            raise ValueError("mode 'paced' needs 'fps'")
        return self


class StreamRequest(StreamOptions):
    """A stream to open, or one to resume, whose options are kept."""

    resume_token: Annotated[
        str | None, Field(max_length=256, description="From `welcome`: go on with that stream.")
    ] = None
    last_result: Annotated[
        Whole, Field(ge=-1, lt=2**63, description="Highest seq whose result arrived; -1: none.")
    ] = -1


class Ticket(Wire):
    """A stream that may now be connected to."""

    stream_id: str
    ws_url: str = Field(examples=["ws://127.0.0.1:8420/v1/stream"])
    ticket: str = Field(
        description="Offer `amodal.ticket.TICKET` as a second subprotocol, or `?ticket=`; once."
    )
    ticket_expires_s: float = Field(description="From now.", examples=[60.0])
    limits: dict[str, float]


class StreamInfo(Wire):
    """A stream as it is."""

    stream_id: str
    owner: str
    state: Literal["placed", "connected", "hot", "warm", "ended"]
    epoch: int
    replica: str | None
    options: StreamOptions
    created_s: float
    seen_s: float
    snapshot_seq: int | None = None
    snapshot_bytes: int = 0
    memory_bytes: int | None = None
    frames: int | None = None
    results: int | None = None
    dropped: dict[str, int] | None = None


class StreamList(Wire):
    """Streams, newest first."""

    streams: list[StreamInfo]
