"""``amodal stream``: a camera or a video through a server, live."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from amodal_client import Latency, Stream, Totals
from amodal_client.stream_messages import Masks
from amodal_model.errors import InputError
from amodal_model.prompts import MAX_OBJECTS, prompts_of, read_prompt_file
from amodal_model.video_writer import VideoWriter
from amodal_model.youtube_vis import MAX_FRAMES
from amodal_service.live_sources import LiveSource, RecordedSource, open_source
from amodal_service.progress import Reporter
from amodal_service.server_options import ApiKey, Pictures, connected
from amodal_service.sources import ClipSource, OpenClip, find_sources, open_clip
from amodal_service.stream_run import Feed, Sink, run_stream
from amodal_service.stream_sinks import JsonLines, Overlay, Window

EXIT_INTERRUPTED = 130
LOCAL = "http://127.0.0.1:8420"


class _Figures(NamedTuple):
    """What is said at the end."""

    totals: Totals
    latency: Latency


def stream(  # noqa: PLR0913  (every option is an argument)
    source: Annotated[
        str | None, typer.Argument(help="A video, folder of frames, MCAP, or rtsp://...")
    ] = None,
    camera: Annotated[int | None, typer.Option(min=0, help="Index of a camera instead.")] = None,
    server: Annotated[
        str, typer.Option(help="Address, as http://HOST:PORT.", envvar="AMODAL_SERVER")
    ] = LOCAL,
    visible: Annotated[
        Path | None, typer.Option(help="Visible masks (YouTube-VIS) of a video file.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Boxes, points or masks to follow.")] = None,
    masks: Annotated[
        Masks | None, typer.Option(help="Where visible masks come from [what is given].")
    ] = None,
    pictures: Pictures = False,
    mode: Annotated[
        Literal["realtime", "lossless"],
        typer.Option(help="The latest frame wins, or every frame counts."),
    ] = "realtime",
    fps: Annotated[float | None, typer.Option(min=0.1, max=1000, help="[the source's]")] = None,
    overlay: Annotated[Path | None, typer.Option(help="Also draw this .mp4.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Draw in a window, too.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for coco-rle.jsonl.")
    ] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many.")] = None,
    topic: Annotated[
        str | None, typer.Option(help="Of the images, in an MCAP recording of several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    api_key: ApiKey = None,
) -> None:
    """Complete the silhouettes of a camera or video on a server, as the frames come."""
    reporter = Reporter()
    kind = _masks_kind(masks, visible, prompts)
    opening = partial(open_clip, topic=topic)
    clip = _given_clip(source, camera, visible, opening, reporter)
    feed = _feed(clip, source, camera, topic)
    feed.is_lossless, feed.max_frames = mode == "lossless", max_frames
    feed.pictures = pictures
    frame_rate = fps or feed.source.fps
    size: tuple[int, int] | None = None
    if feed.given is not None:
        size = _frame_size(feed.source)
    if prompts is not None:
        feed.prompts = prompts_of(read_prompt_file(prompts), _frame_size(feed.source), MAX_FRAMES)
    with ExitStack() as stack:
        sinks = _sinks(stack, feed.source, frame_rate, overlay, output, show)
        client = stack.enter_context(connected(server, api_key))
        with client.stream(
            mode=mode,
            fps=frame_rate,
            masks=kind,
            pictures=pictures,
            frame_size=size,
            remembered=output is not None,
            max_objects=min(MAX_OBJECTS, 64),
        ) as opened:
            with _interruptible():
                run_stream(opened, feed, sinks, reporter.line)
            _print(_figures(opened), as_json)


def _masks_kind(masks: Masks | None, visible: Path | None, prompts: Path | None) -> Masks:
    """Return where visible masks come from.

    Raises:
        InputError: it is not said, or not clear.
    """
    named: Masks | None = "given" if visible else "prompted" if prompts else None
    if visible and prompts:
        raise InputError("visible masks come from --visible or from --prompts, not both")
    if masks is None and named is None:
        raise InputError(
            "say where visible masks come from: --visible, --prompts or --masks motion"
        )
    if masks not in (None, named, "motion") or (masks == "motion" and visible):
        needed = {"given": "--visible", "prompted": "--prompts"}.get(masks or "", "no --visible")
        raise InputError(f"--masks {masks} needs {needed}")
    return masks or named or "motion"


def _given_clip(
    source: str | None,
    camera: int | None,
    visible: Path | None,
    opening: OpenClip,
    reporter: Reporter,
) -> ClipSource | None:
    """Return the clip that the visible masks are of.

    Raises:
        InputError: masks for what is no file.
    """
    if visible is None:
        return None
    if source is None or camera is not None or "://" in source:
        raise InputError(f"{visible}: visible masks are for a video file, not for a camera")
    return find_sources(Path(source), visible, reporter.line, open_clip=opening).clips[0]


def _feed(
    clip: ClipSource | None, source: str | None, camera: int | None, topic: str | None
) -> Feed:
    if clip is not None:
        return Feed(RecordedSource(clip.clip), is_lossless=False, given=clip.given)
    return Feed(open_source(source, camera, topic), is_lossless=False)


def _frame_size(source: LiveSource) -> tuple[int, int]:
    """Return height and width of the frames.

    Raises:
        InputError: prompts for a camera, which are made while one looks.
    """
    if not isinstance(source, RecordedSource):
        raise InputError(f"{source.name}: prompts are for a video file, not for a camera")
    return source.frame_size


def _sinks(
    stack: ExitStack,
    source: LiveSource,
    fps: float,
    overlay: Path | None,
    output: Path | None,
    show: bool,
) -> list[Sink]:
    sinks: list[Sink] = []
    if show:
        sinks.append(stack.enter_context(Window(f"amodal stream: {source.name}")))
    if overlay is not None:
        overlay.parent.mkdir(parents=True, exist_ok=True)
        sinks.append(Overlay(stack.enter_context(VideoWriter(overlay, fps=fps))))
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        sinks.append(stack.enter_context(JsonLines(output / "coco-rle.jsonl", source.name)))
    return sinks


@contextmanager
def _interruptible() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("amodal: interrupted twice: left without the last results", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _figures(opened: Stream) -> _Figures:
    return _Figures(opened.totals(), opened.latency())


def _print(figures: _Figures, as_json: bool) -> None:
    if as_json:
        content = {name: msgspec.to_builtins(each) for name, each in figures._asdict().items()}
        typer.echo(msgspec.json.encode(content).decode())
        return
    totals, latency = figures
    table = Table("frames", "results", "dropped", "lost", "p50 ms", "p95 ms", "p99 ms")
    dropped = ", ".join(f"{count} {cause}" for cause, count in totals.dropped.items()) or "0"
    times = (f"{each:.1f}" for each in (latency.p50_ms, latency.p95_ms, latency.p99_ms))
    counts = (str(totals.captured), str(totals.results), dropped, str(totals.lost))
    table.add_row(*counts, *times)
    Console().print(table)
