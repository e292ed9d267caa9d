"""``amodal segment``: a clip to a server, its results into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

EXIT_INTERRUPTED = 130


def segment(  # noqa: PLR0913  (every option is an argument)
    clip: Clip,
    server: Server,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    visible: Visible = None,
    prompts: Prompts = None,
    masks: Found = None,
    pictures: Pictures = False,
    mode: Completion = "causal",
    formats: Formats = None,
    api_key: ApiKey = None,
) -> None:
    """Complete the silhouettes of a clip on a server: the files of 'amodal annotate'."""
    wanted = Wanted(clip, visible, prompts, masks, mode, formats, pictures)
    job = None
    try:
        with connected(server, api_key) as client:
            with Bars() as bars:
                job = submit_clip(client, wanted, bars)
                job = client.wait(job, bars.on_job)
            download_all(client, job, output)
    except KeyboardInterrupt:
        left = f"; 'amodal jobs wait {job.id}' goes on waiting for its job" if job else ""
        typer.echo(f"amodal: interrupted{left}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    typer.echo(f"{job.frames_done} frames in {output}, job {job.id}")
