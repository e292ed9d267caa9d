"""What the routes work with: opened once when the server starts, closed when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

import amodal_model
from amodal_service.database import Database, open_database
from amodal_service.job_queue import JobQueue, open_job_queue
from amodal_service.job_run import Workplace
from amodal_service.policies import Policies
from amodal_service.rate_limits import RequestRate
from amodal_service.settings import Settings
from amodal_service.storage import Storage, open_storage
from amodal_service.worker import Worker


@dataclass(frozen=True)
class Services:
    """The parts that requests share."""

    place: Workplace
    queue: JobQueue
    worker: Worker | None
    policies: Policies
    rate: RequestRate

    @property
    def settings(self) -> Settings:
        """Of the service."""
        return self.place.settings

    @property
    def database(self) -> Database:
        """Of jobs."""
        return self.place.database

    @property
    def storage(self) -> Storage:
        """Of files."""
        return self.place.storage


@contextmanager
def open_services(settings: Settings, *, with_worker: bool) -> Iterator[Services]:
    """Open database, storage, queue and model, and run jobs where that is wanted.

    Raises:
        InputError: a URL in the settings that names no database or store.
        ModelError: no such model, or it does not run where it must.
    """
    with ExitStack() as stack:
        segmenter = amodal_model.load(settings.model, require_gpu=settings.require_gpu)
        database = open_database(settings.database)
        stack.callback(database.close)
        queue = open_job_queue(database)
        stack.callback(queue.close)
        place = Workplace(settings, database, open_storage(settings.storage), segmenter)
        worker = Worker(place, queue) if with_worker else None
        if worker is not None:
            worker.start()
            stack.callback(worker.stop)
        yield Services(place, queue, worker, Policies(), RequestRate())


def services_of(request: Request) -> Services:
    """Return the services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101  set when the app starts
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
