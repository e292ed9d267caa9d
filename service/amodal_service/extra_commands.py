"""Commands of other packages, found by entry point and loaded only when they are called.

Training offers its commands under ``amodal.commands``, and so do the parts of the service that load
much. Training is never imported by the service: listing the commands costs nothing, and without
the extra a call says in one line what to install.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

import typer

from amodal_model.errors import MissingExtraError

GROUP = "amodal.commands"

_HELP = {
    "train": "Train on unlabeled video (self-supervised).",
    "evaluate": "Measure a model on a dataset with whole silhouettes, next to the baselines.",
    "evaluate-drawn": "Measure a model on video without labels: occlusions drawn over it.",
    "export": "Export a checkpoint to ONNX, checked against torch.",
    "benchmark": "Make a development benchmark.",
    "shapes": "Collect silhouettes of vector art into a library to train on.",
    "silhouettes": "Write clips of moving silhouettes, with their visible masks.",
    "mine": "Mine visible masks from raw video.",
    "segment": "Complete the silhouettes of a clip on a server.",
    "jobs": "Jobs on a server: list, submit, show, wait, results, download, cancel.",
    "conformance": "Check that a server speaks the streaming protocol, from outside.",
    "keys": "Make, list, replace and withdraw API keys.",
    "serve": "Serve clips and jobs over REST.",
    "stream": "Complete the silhouettes of a camera or video on a server, live.",
    "worker": "Run jobs of a server's database, beside it or elsewhere.",
    "results": "Write docs/results.md from recorded runs (make results).",
}
_HIDDEN = {"results"}
"""Commands for those who work on this project: they run, the help does not list them."""
_EXTRA = "cpu,train"


def add_extra_commands(app: typer.Typer) -> None:
    """Add a command to the app for every entry point of the group."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        app.command(
            entry.name,
            help=_HELP.get(entry.name, f"From {entry.value.split(':')[0]}."),
            add_help_option=False,
            hidden=entry.name in _HIDDEN,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_deferred(entry))


def _deferred(entry: EntryPoint) -> Callable[[typer.Context], None]:
    def run(ctx: typer.Context) -> None:
        command = load_command(entry)
        own = command if isinstance(command, typer.Typer) else _single(command)
        own(args=ctx.args, prog_name=f"amodal {entry.name}")

    return run


def _single(command: Callable[..., object]) -> typer.Typer:
    own = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    own.command()(command)
    return own


def load_command(entry: EntryPoint) -> Callable[..., object]:
    """Return the function of an entry point.

    Raises:
        MissingExtraError: what it needs is not installed; says what to install.
    """
    try:
        command: object = entry.load()
    except ImportError as error:
        if (error.name or "").startswith("amodal"):
            raise  # a fault of ours, not of the installation
        raise MissingExtraError(
            f"'amodal {entry.name}' needs {error.name or 'more packages'}: "
            f"pip install 'amodal[{_EXTRA}]'"
        ) from None
    if not callable(command):
        raise MissingExtraError(f"'amodal {entry.name}': {entry.value} is not a command")
    return command
