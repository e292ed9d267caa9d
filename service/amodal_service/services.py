"""What the routes work with: opened once when the server starts, closed when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from amodal_service.database import Database
from amodal_service.job_queue import JobQueue, open_job_queue
from amodal_service.policies import Policies
from amodal_service.rate_limits import RequestRate
from amodal_service.retention import Housekeeping
from amodal_service.room import Room
from amodal_service.settings import Settings
from amodal_service.storage import Storage
from amodal_service.worker import running_worker
from amodal_service.workplace import Workplace, open_workplace


@dataclass(frozen=True)
class Services:
    """The parts that requests share."""

    place: Workplace
    queue: JobQueue
    rate: RequestRate = field(default_factory=RequestRate)

    @property
    def settings(self) -> Settings:
        """Of the service."""
        return self.place.settings

    @property
    def policies(self) -> Policies:
        """What callers may use, and what is kept."""
        return self.place.policies

    @property
    def room(self) -> Room:
        """Grants room for new files."""
        return self.place.room

    @property
    def database(self) -> Database:
        """Of jobs."""
        return self.place.database

    @property
    def storage(self) -> Storage:
        """Of files."""
        return self.place.storage


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """Open the workplace and the queue, and run jobs where the settings say so.

    Raises:
        InputError: a URL in the settings that names no database or store.
        ModelError: no such model, or it does not run where it must.
    """
    with (
        open_workplace(settings) as place,
        open_job_queue(place.database) as queue,
        Housekeeping(place, queue),
    ):
        if not settings.embedded_worker:
            yield Services(place, queue)
            return
        with running_worker(place, queue):
            yield Services(place, queue)


def services_of(request: Request) -> Services:
    """Return the services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101  set when the app starts
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
