"""``amodal worker``: runs jobs of a database that servers and other workers share."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from amodal_service.job_queue import open_job_queue
from amodal_service.logs import set_up_logs
from amodal_service.retention import Housekeeping
from amodal_service.settings import settings_from
from amodal_service.worker import running_worker
from amodal_service.workplace import open_workplace

SIGNAL_S = 0.5
"""The system may hand a signal to another thread; the main one sees to it when it next wakes."""


def worker(
    data: Annotated[
        Path | None, typer.Option(help="Folder of database and files [~/.local/share/amodal].")
    ] = None,
    model: Annotated[str | None, typer.Option(help="'shipped', 'small', or a folder.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=64, help="Jobs to run at the same time [1].")
    ] = None,
) -> None:
    """Run jobs until told to stop; running ones are then left to other workers."""
    settings = settings_from({"data": data, "model": model, "worker_jobs": jobs})
    set_up_logs(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with (
        open_workplace(settings) as place,
        open_job_queue(place.database) as queue,
        Housekeeping(place, queue),
        running_worker(place, queue),
    ):
        while not stop.wait(SIGNAL_S):
            pass
