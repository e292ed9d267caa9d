"""What jobs and requests of one process share: settings, database, files and the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir

import amodal_model
from amodal_model.onnx_session import provider_of
from amodal_model.stream import AmodalSegmenter
from amodal_model.video import ClipLimits, open_clip
from amodal_service.database import Database, open_database
from amodal_service.decoding_sandbox import DecodingLimits, DecodingSandbox
from amodal_service.gate import Gate, StreamsFirst
from amodal_service.mask_sources import PROMPTED, SOURCES, Runtime
from amodal_service.policies import Policies
from amodal_service.room import Room
from amodal_service.settings import Settings
from amodal_service.sources import OpenClip
from amodal_service.storage import Storage, open_storage
from amodal_service.tracing import tracing


@dataclass(frozen=True)
class Workplace:
    """The parts that work needs; ``open_clip`` decodes.

    Attributes:
        segmenter: of jobs and short clips; where live streams wait for the model, it lets them.
        gate: closed while they do.
    """

    settings: Settings
    database: Database
    storage: Storage
    segmenter: AmodalSegmenter
    open_clip: OpenClip = open_clip
    policies: Policies = field(default_factory=Policies)
    gate: Gate = field(default_factory=Gate)
    live_segmenter: AmodalSegmenter | None = None

    @property
    def runtime(self) -> Runtime:
        """What networks beside the model's run on: the same as the model's."""
        return _runtime(self.segmenter, self.settings)

    @cached_property
    def room(self) -> Room:
        """Grants room for new files."""
        return Room(self.storage, self.storage.folder or Path(gettempdir()), self.policies)


@contextmanager
def open_workplace(settings: Settings) -> Iterator[Workplace]:
    """Open database, storage and model; close them at the end of the block.

    Raises:
        InputError: a URL in the settings that names no database or store.
        ModelError: no such model, or it or the network that follows prompted objects does not run
            where it must.
    """
    live, gate = amodal_model.load(settings.model, require_gpu=settings.require_gpu), Gate()
    if settings.require_gpu:  # found out now, and not by the first who sends prompts
        SOURCES[PROMPTED].make(_runtime(live, settings))
    segmenter = live.with_engine(StreamsFirst(live.engine, gate))
    storage = open_storage(settings.storage)
    database = open_database(settings.database)
    limits = ClipLimits(
        max_frames=settings.limits.job_frames, max_duration_s=settings.limits.job_seconds
    )
    with tracing(), closing(database), DecodingSandbox(DecodingLimits(limits)) as sandbox:
        yield Workplace(
            settings,
            database,
            storage,
            segmenter,
            sandbox.open_clip,
            gate=gate,
            live_segmenter=live,
        )


def _runtime(segmenter: AmodalSegmenter, settings: Settings) -> Runtime:
    return Runtime(provider_of(segmenter.engine.info.requested), settings.require_gpu)
