"""``amodal segment``: a clip to a server, its results into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from amodal_service.server_options import ApiKey, Bars, Server, connected, download_all

EXIT_INTERRUPTED = 130


def segment(  # noqa: PLR0913  (every option is an argument)
    clip: Annotated[str, typer.Argument(help="A video file, or a URL the server fetches.")],
    visible: Annotated[str, typer.Option(help="Visible masks (YouTube-VIS), likewise.")],
    server: Server,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    mode: Annotated[
        Literal["causal", "offline"], typer.Option(help="Past only, or both directions.")
    ] = "causal",
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Also make overlay, coco-rle, ...; may be repeated."),
    ] = None,
    api_key: ApiKey = None,
) -> None:
    """Complete the silhouettes of a clip on a server: the files of 'amodal annotate'."""
    job = None
    try:
        with connected(server, api_key) as client:
            with Bars() as bars:
                wanted = tuple(dict.fromkeys(formats or ()))
                job = client.submit(clip, visible, mode, outputs=wanted, on_upload=bars.on_upload)
                job = client.wait(job, bars.on_job)
            download_all(client, job, output)
    except KeyboardInterrupt:
        left = f"; 'amodal jobs wait {job.id}' goes on waiting for its job" if job else ""
        typer.echo(f"amodal: interrupted{left}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    typer.echo(f"{job.frames_done} frames in {output}, job {job.id}")
