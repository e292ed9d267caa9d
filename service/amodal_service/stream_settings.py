"""What live streams may use: ``AMODAL_STREAM_...`` in the environment."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class StreamSettings(BaseSettings):
    """How live streams run.

    Attributes:
        public_url: how clients reach this replica, such as ``https://host:8420``; empty: as the
            request did.
        origins: sites besides our own whose pages may open streams; separated by commas.
        memory_bytes: for all streams of this process together.
        message_bytes: of one message, at most.
        pixels: of one frame.
        objects: of one stream.
        fps: of one stream, on average; 0: no limit.
        seconds: life of one connection; 0: no limit.
        per_owner: streams of one owner of API keys in this process; 0: no limit.
        threads: frames are worked on by; 0: one on a GPU, else one a core, at most 4.
        batch_objects: of all streams in one step of the model; 0: 8 on a CPU, 256 on a GPU.
        snapshot_s: seconds between two snapshots of a stream that goes on; up to 10 where those of
            all streams take more than a tenth of the time.
        idle_s: silence after which a stream is closed; it can be resumed.
        hot_s: how long a stream whose connection is lost stays in memory.
        resume_s: how long a stream can be resumed after that.
        slow_s: how long a client may leave everything unread.
        max_age_s: age at which a waiting frame of a realtime stream without deadline is dropped.
        drain_s: seconds that streams have to end when the server stops.
        heartbeat_s: seconds between two signs of life of a replica.
        dead_after_s: silence after which no stream is placed on it.
    """

    model_config = SettingsConfigDict(env_prefix="AMODAL_STREAM_", extra="ignore", frozen=True)

    public_url: str = ""
    origins: Annotated[str, NoDecode] = ""
    memory_bytes: Annotated[int, Field(ge=1 << 20)] = 2 << 30
    message_bytes: Annotated[int, Field(ge=4096, le=1 << 30)] = 16 << 20
    pixels: Annotated[int, Field(ge=1)] = 4096 * 2160
    objects: Annotated[int, Field(ge=1, le=1024)] = 256
    fps: Annotated[float, Field(ge=0)] = 0.0
    seconds: Annotated[float, Field(ge=0)] = 0.0
    per_owner: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=0, le=64)] = 0
    batch_objects: Annotated[int, Field(ge=0, le=4096)] = 0
    snapshot_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    idle_s: Annotated[float, Field(gt=0)] = 60.0
    hot_s: Annotated[float, Field(ge=0)] = 30.0
    resume_s: Annotated[float, Field(gt=0)] = 3600.0
    slow_s: Annotated[float, Field(gt=0)] = 20.0
    max_age_s: Annotated[float, Field(gt=0)] = 2.0
    drain_s: Annotated[float, Field(gt=0)] = 5.0
    heartbeat_s: Annotated[float, Field(ge=0.05, le=60)] = 1.0
    dead_after_s: Annotated[float, Field(ge=0.2, le=3600)] = 5.0

    @property
    def allowed_origins(self) -> frozenset[str]:
        """The origins as a set, in lower case."""
        names = (name.strip().lower().rstrip("/") for name in self.origins.split(","))
        return frozenset(name for name in names if name)
