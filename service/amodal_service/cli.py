"""The command line: ``amodal``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from amodal_model.clip import Mode
from amodal_model.errors import AmodalError
from amodal_service.annotation import WORK_FOLDER, AnnotateOptions
from amodal_service.annotation import annotate as run_annotate
from amodal_service.bench import report, run_bench
from amodal_service.demo import run_demo
from amodal_service.doctor import examine, report_lines
from amodal_service.extra_commands import add_extra_commands
from amodal_service.foreign_formats import WRITERS
from amodal_service.mask_sources import SOURCES
from amodal_service.progress import Reporter
from amodal_service.version import amodal_version

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="amodal",
    help="Whole silhouettes of occluded objects, over video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"amodal {amodal_version()}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Whole silhouettes of occluded objects, over video."""


@app.command()
def annotate(  # noqa: PLR0913  (every option is an argument)
    video: Annotated[Path, typer.Argument(help="A video, folder of frames, dataset or MCAP.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    visible: Annotated[
        Path | None, typer.Option(help="Visible masks (YouTube-VIS); a dataset has its own.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="Boxes, points or masks to follow.")] = None,
    masks: Annotated[
        str | None,
        typer.Option(help=f"Find the visible masks: {', '.join(SOURCES)}, or your MODEL.toml."),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures",
            help="Look at the images beside given masks, too, for what hides without a mask.",
        ),
    ] = False,
    mode: Annotated[Mode, typer.Option(help="Past only, or both directions.")] = "causal",
    model: Annotated[
        str, typer.Option(help="'shipped', 'small', or a folder of train or export.")
    ] = "shipped",
    overlay: Annotated[bool, typer.Option("--overlay", help="Also draw overlay.mp4.")] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help=f"Also write {', '.join(WRITERS)}; may be repeated."),
    ] = None,
    topic: Annotated[
        str | None, typer.Option(help="Of the images, in an MCAP recording of several.")
    ] = None,
) -> None:
    """Complete the silhouettes of a clip or of a whole dataset."""
    options = AnnotateOptions(
        video,
        output,
        visible=visible,
        prompts=prompts,
        masks=masks,
        mode=mode,
        model=model,
        overlay=overlay,
        formats=tuple(dict.fromkeys(formats or ())),
        topic=topic,
        pictures=pictures,
    )
    with _interruptible(output):
        print(run_annotate(options, Reporter()))


@contextmanager
def _interruptible(output: Path) -> Iterator[None]:
    """Turn an interrupt into one line that says what is left and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = (output / WORK_FOLDER).exists()
        print(
            "amodal: interrupted; the same command goes on from the finished frames in "
            f"{output / WORK_FOLDER}"
            if kept
            else "amodal: interrupted before any frame was finished",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is installed and which execution provider really runs."""
    examination = examine()
    print("\n".join(report_lines(examination, as_json=as_json)))
    if examination.problems:
        raise typer.Exit(1)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path(
        "demo-output"
    ),
    clips: Annotated[
        Path, typer.Option(help="Folder with the demo datasets of the repository.")
    ] = Path("examples/demo"),
) -> None:
    """Annotate the bundled clips and say how well it went."""
    print("\n".join(run_demo(clips, output, Reporter())))


@app.command()
def bench(
    model: Annotated[str, typer.Option(help="'shipped', 'small', or a folder.")] = "shipped",
    frames: Annotated[int, typer.Option(min=10, max=10_000, help="Frames to measure.")] = 60,
) -> None:
    """Measure the CPU time of a frame by stage, next to a named alternative."""
    print(report(run_bench(model, frames)))


add_extra_commands(app)


def main() -> None:
    """Run the command line; errors made by the input are one line and exit code 2."""
    try:
        app()
    except AmodalError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> None:
    print(f"amodal: {message}", file=sys.stderr)
    raise SystemExit(EXIT_BAD_INPUT)
