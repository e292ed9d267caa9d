"""Servers for the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from killable_server import Served


@pytest.fixture(scope="session")
def make_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Served]]:
    """Starts servers, and stops them all at the end."""
    made: list[Served] = []

    def make() -> Served:
        made.append(Served(tmp_path_factory.mktemp("served")))
        made[-1].wait_until_up()
        return made[-1]

    yield make
    for each in made:
        each.process.stop()


@pytest.fixture(scope="session")
def served(make_served: Callable[[], Served]) -> Served:
    """A server that nobody kills."""
    return make_served()
