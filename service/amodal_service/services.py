"""What the routes work with: opened once when the server starts, closed when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from amodal_service.database import Database, open_database
from amodal_service.settings import Settings
from amodal_service.storage import Storage, open_storage


@dataclass(frozen=True)
class Services:
    """The parts that requests share."""

    settings: Settings
    database: Database
    storage: Storage


@contextmanager
def open_services(settings: Settings) -> Iterator[Services]:
    """Open database and storage; close them at the end of the block.

    Raises:
        InputError: a URL in the settings that names no database or store.
    """
    database = open_database(settings.database)
    try:
        yield Services(settings, database, open_storage(settings.storage))
    finally:
        database.close()


def services_of(request: Request) -> Services:
    """Return the services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101  set when the app starts
    return services


ServicesDep = Annotated[Services, Depends(services_of)]
