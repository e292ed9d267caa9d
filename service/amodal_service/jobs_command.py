"""``amodal jobs``: the jobs of a server, from elsewhere."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from amodal_client import Job
from amodal_client.values import State
from amodal_service.server_options import (
    ApiKey,
    Bars,
    Clip,
    Completion,
    Formats,
    Found,
    Pictures,
    Prompts,
    Server,
    Visible,
    Wanted,
    connected,
    download_all,
    submit_clip,
)

app = typer.Typer(
    help="Jobs on a server (address: --server or AMODAL_SERVER).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JobId = Annotated[str, typer.Argument(help="Of the job.")]


@app.command("list")
def list_all(
    server: Server,
    state: Annotated[State | None, typer.Option(help="Only those.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 50,
    api_key: ApiKey = None,
) -> None:
    """List jobs, newest first."""
    table = Table("id", "state", "video", "frames", "fps")
    with connected(server, api_key) as client:
        for job in islice(client.jobs(state), limit):
            fps = "" if job.fps is None else f"{job.fps:.1f}"
            table.add_row(job.id, job.state, job.video_name, _frames(job), fps)
    Console().print(table)


@app.command()
def submit(  # noqa: PLR0913  (every option is an argument)
    clip: Clip,
    server: Server,
    visible: Visible = None,
    prompts: Prompts = None,
    masks: Found = None,
    pictures: Pictures = False,
    mode: Completion = "causal",
    formats: Formats = None,
    api_key: ApiKey = None,
) -> None:
    """Upload a clip and print the id of its job."""
    wanted = Wanted(clip, visible, prompts, masks, mode, formats, pictures)
    with connected(server, api_key) as client, Bars() as bars:
        job = submit_clip(client, wanted, bars)
    typer.echo(job.id)


@app.command()
def show(job_id: JobId, server: Server, api_key: ApiKey = None) -> None:
    """Print a job as JSON."""
    with connected(server, api_key) as client:
        job = client.job(job_id)
    typer.echo(msgspec.json.format(msgspec.json.encode(job)).decode())


@app.command()
def wait(
    job_id: JobId,
    server: Server,
    timeout: Annotated[float | None, typer.Option(min=0, help="Seconds [no end].")] = None,
    api_key: ApiKey = None,
) -> None:
    """Wait until a job has succeeded; fails where it does."""
    with connected(server, api_key) as client, Bars() as bars:
        job = client.wait(job_id, bars.on_job, timeout)
    typer.echo(f"{job.state}, {_frames(job)} frames")


@app.command()
def results(
    job_id: JobId,
    server: Server,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Until the job has ended [yes].")
    ] = True,
    api_key: ApiKey = None,
) -> None:
    """Print the frames of a job as they are finished, a line of JSON each."""
    with connected(server, api_key) as client:
        for frame in client.results(job_id, follow=follow):
            typer.echo(msgspec.json.encode(frame).decode())


@app.command()
def download(
    job_id: JobId,
    server: Server,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    name: Annotated[str | None, typer.Option(help="Only this file [all].")] = None,
    api_key: ApiKey = None,
) -> None:
    """Store the result files of a job."""
    with connected(server, api_key) as client:
        if name is None:
            download_all(client, client.job(job_id), output)
        else:
            output.mkdir(parents=True, exist_ok=True)
            client.download(job_id, name, output)
    typer.echo(str(output))


@app.command()
def cancel(job_id: JobId, server: Server, api_key: ApiKey = None) -> None:
    """Stop a job; one that has ended stays as it is."""
    with connected(server, api_key) as client:
        typer.echo(client.cancel(job_id).state)


@app.command()
def retry(job_id: JobId, server: Server, api_key: ApiKey = None) -> None:
    """Queue a job that failed or was cancelled again."""
    with connected(server, api_key) as client:
        typer.echo(client.retry(job_id).state)


@app.command()
def delete(job_id: JobId, server: Server, api_key: ApiKey = None) -> None:
    """Remove a job and its files."""
    with connected(server, api_key) as client:
        client.delete(job_id)
    typer.echo(f"deleted {job_id}")


def _frames(job: Job) -> str:
    return f"{job.frames_done}/{'?' if job.frames_total is None else job.frames_total}"
