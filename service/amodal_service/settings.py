"""Settings of the service: from the environment (``AMODAL_...``), defaults for one machine.

Nothing needs to be set: SQLite and a data folder serve one machine. ``AMODAL_DATABASE_URL`` and
``AMODAL_STORAGE_URL`` move the same code to Postgres and an object store.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from amodal_model.errors import InputError
from amodal_model.prompts import MAX_PROMPT_BYTES
from amodal_service.stream_settings import StreamSettings


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "amodal"


class Limits(BaseSettings):
    """What a request may ask for; each is named in the error that it causes.

    Attributes:
        segment_seconds: length of a clip that is answered in the response.
        segment_pixels: its frames times their pixels.
        segment_bytes: size of such a request.
        upload_bytes: size of one uploaded file.
        visible_bytes: size of an uploaded file of visible masks.
        prompt_bytes: size of an uploaded file of prompts.
        job_seconds: length of a job's clip.
        job_frames: its number of frames.
        json_bytes: size of any other request.
        page: jobs in one page of a list.
    """

    model_config = SettingsConfigDict(env_prefix="AMODAL_LIMIT_", extra="ignore", frozen=True)

    segment_seconds: Annotated[float, Field(gt=0, le=3600)] = 20.0
    segment_pixels: Annotated[int, Field(ge=1)] = 640 * 480 * 1000
    segment_bytes: Annotated[int, Field(ge=1024)] = 64 << 20
    upload_bytes: Annotated[int, Field(ge=1024)] = 8 << 30
    visible_bytes: Annotated[int, Field(ge=1024)] = 512 << 20
    prompt_bytes: Annotated[int, Field(ge=1024, le=MAX_PROMPT_BYTES)] = MAX_PROMPT_BYTES
    job_seconds: Annotated[float, Field(gt=0)] = 4 * 3600.0
    job_frames: Annotated[int, Field(ge=1)] = 1_000_000
    json_bytes: Annotated[int, Field(ge=1024)] = 1 << 20
    page: Annotated[int, Field(ge=1, le=10_000)] = 500


class Settings(BaseSettings):
    """How a server or a worker runs.

    Attributes:
        data: folder of the database and of the stored files, where no other place is named.
        database_url: SQLAlchemy URL; empty: SQLite in the data folder.
        storage_url: ``s3://``, ``gs://``, ``az://``, ``file://`` or ``memory://``; empty: a
            folder in the data folder.
        host: address to listen on.
        port: to listen on.
        model: ``shipped``, ``small``, or a model folder.
        require_gpu: whether servers and workers refuse to start where the model, or the network
            that follows prompted objects, does not run on a GPU.
        embedded_worker: whether the server runs jobs itself.
        worker_jobs: jobs that one worker runs at the same time.
        chunk_frames: frames between two checkpoints of a job.
        poll_s: seconds between two looks at the queue.
        heartbeat_s: seconds between two signs of life of a worker.
        dead_after_s: silence after which a worker's jobs are taken over.
        max_attempts: starts of one job, after which it fails.
        log_format: one JSON object or one readable line an event.
        log_level: least level that is logged.
    """

    model_config = SettingsConfigDict(env_prefix="AMODAL_", extra="ignore", frozen=True)

    data: Path = Field(default_factory=_data_home)
    database_url: str = ""
    storage_url: str = ""
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8420
    model: str = "shipped"
    require_gpu: bool = False
    embedded_worker: bool = True
    worker_jobs: Annotated[int, Field(ge=1, le=64)] = 1
    chunk_frames: Annotated[int, Field(ge=1, le=10_000)] = 64
    poll_s: Annotated[float, Field(ge=0.01, le=60)] = 0.5
    heartbeat_s: Annotated[float, Field(ge=0.05, le=60)] = 2.0
    dead_after_s: Annotated[float, Field(ge=0.2, le=3600)] = 15.0
    max_attempts: Annotated[int, Field(ge=1, le=10_000)] = 20
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    limits: Limits = Field(default_factory=Limits)
    streams: StreamSettings = Field(default_factory=StreamSettings)

    @property
    def database(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data.expanduser().resolve()}/amodal.sqlite3"

    @property
    def storage(self) -> str:
        """The URL of the stored files."""
        return self.storage_url or (self.data.expanduser().resolve() / "files").as_uri()


def settings_from(given: Mapping[str, Any]) -> Settings:
    """Return the settings of the environment, with what a command line gave before them.

    Raises:
        InputError: a value that does not fit; names the setting.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part).upper() for part in first["loc"])
        raise InputError(f"AMODAL_{name}: {first['msg']}, got {first['input']!r}") from None
