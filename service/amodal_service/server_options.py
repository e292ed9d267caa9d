"""What the commands that talk to a server share: its address, options, progress, errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from amodal_client import Client, ClientError, ConnectionLostError, Job, ServerError
from amodal_client.values import Masks, Mode
from amodal_model.errors import InputError, UnavailableError

Server: TypeAlias = Annotated[
    str, typer.Option(help="Address, as http://HOST:PORT.", envvar="AMODAL_SERVER")
]
ApiKey: TypeAlias = Annotated[
    str | None, typer.Option(help="From 'amodal keys create'.", envvar="AMODAL_API_KEY")
]

Clip: TypeAlias = Annotated[str, typer.Argument(help="A video file, or a URL the server fetches.")]
Visible: TypeAlias = Annotated[
    str | None, typer.Option(help="Visible masks (YouTube-VIS), likewise.")
]
Prompts: TypeAlias = Annotated[
    str | None, typer.Option(help="Where its objects are, in place of --visible; likewise.")
]
Found: TypeAlias = Annotated[
    Masks | None, typer.Option(help="'motion': find what moves, with neither of the two.")
]
Pictures: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--pictures",
        help="Look at the images beside given masks, too, for what hides without a mask.",
    ),
]
Completion: TypeAlias = Annotated[Mode, typer.Option(help="Past only, or both directions.")]
Formats: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--format", help="Also make overlay, coco-rle, ...; may be repeated."),
]


@contextmanager
def connected(server: str, api_key: str | None) -> Iterator[Client]:
    """Hold a client; its errors become those that the command line says in one line.

    Raises:
        UnavailableError: the server is out of reach or cannot.
        InputError: it refused, or the job failed.
    """
    try:
        with Client(server, api_key=api_key) as client:
            yield client
    except (ConnectionLostError, ServerError) as error:
        raise UnavailableError(f"{server}: {error}") from error
    except ClientError as error:
        raise InputError(str(error)) from error


class Bars:
    """Progress of uploads and of a job, on the terminal's error stream."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=Console(stderr=True))
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def on_upload(self, path: Path, sent: int, size: int) -> None:
        """Show how much of a file is on the server."""
        self._show(f"upload {path.name}", sent, size)

    def on_job(self, job: Job) -> None:
        """Show how far a job is."""
        self._show(f"job {job.id[:8]}", job.frames_done, job.frames_total)

    def _show(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=done, total=total)


class Wanted(NamedTuple):
    """What a job is made of, and how it completes it."""

    clip: str
    visible: str | None
    prompts: str | None
    masks: Masks | None
    mode: Mode
    formats: list[str] | None
    pictures: bool = False


def submit_clip(client: Client, wanted: Wanted, bars: Bars) -> Job:
    """Upload a clip and return its job; a format that is named twice is made once."""
    return client.submit(
        wanted.clip,
        wanted.visible,
        wanted.mode,
        prompts=wanted.prompts,
        masks=wanted.masks,
        pictures=wanted.pictures,
        outputs=tuple(dict.fromkeys(wanted.formats or ())),
        on_upload=bars.on_upload,
    )


def download_all(client: Client, job: Job, output: Path) -> None:
    """Store every result file of a job in a folder."""
    output.mkdir(parents=True, exist_ok=True)
    for artifact in client.artifacts(job):
        client.download(job, artifact.name, output)
