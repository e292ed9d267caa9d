"""``amodal train``: learn from visible masks alone, and leave a model that can be served."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from amodal_model.checkpoint import load_network
from amodal_model.errors import InputError
from amodal_model.export import describe_int8, export_model
from amodal_model.model_files import find_model
from amodal_model.network import AmodalNetwork, NetworkConfig
from amodal_model.quantisation import Calibration
from amodal_training import trainer
from amodal_training.batches import MixedSource, SilhouetteSource
from amodal_training.confidence_fit import clean_sequences, fit_confidence
from amodal_training.mined_masks import given_masks, has_masks, mined_masks
from amodal_training.quantisation_data import draw_calibration
from amodal_training.sequences import DatasetSource, SequenceSource
from amodal_training.silhouette_shapes import read_library
from amodal_training.teaching import begin_from
from amodal_training.trainer import Selection, TrainConfig, train_network

SIZES = {
    "small": NetworkConfig(channels=(32, 64, 64), blocks=(1, 1, 1)),
    "base": NetworkConfig(channels=(32, 64, 128), blocks=(1, 1, 2)),
}
EXPORT_SHARE = 0.15
"""Share of ``--minutes`` that selection and export may take, at least 45 seconds."""
INT8_S = 90.0
"""Seconds that must be left of ``--minutes`` for an 8-bit graph to be made and judged too."""
FIT_MOST = 48
FIT_A_MINUTE = 3
"""Drawn sequences that the confidence is fitted on, at most, and for each of ``--minutes``."""
MINE_SHARE = 0.3
"""Share of ``--minutes`` that mining masks from raw video may take."""
MAX_STEPS = 1_000_000


def train(  # noqa: PLR0913  (every option is an argument)
    datasets: Annotated[
        list[Path],
        typer.Argument(
            help="Datasets; where there is no visible.json, or raw video, masks are mined."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")],
    init: Annotated[
        str | None, typer.Option(help="Weights to begin with: shipped, small, or a folder.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=1.0, help="Bound of the whole command.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, max=MAX_STEPS, help="Without --minutes.")] = 3000,
    shapes: Annotated[
        Path | None, typer.Option(help="Shape library: moving silhouettes to train on as well.")
    ] = None,
    size: Annotated[str, typer.Option(help="small or base; --init brings its own.")] = "base",
    teacher: Annotated[
        str | None, typer.Option(help="Model whose say is learned as well, and begun from.")
    ] = None,
    memory: Annotated[
        bool, typer.Option(help="--no-memory: the measuring stick that sees one frame.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=0.1)] = 2e-3,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Processes drawing batches.")] = 1,
) -> None:
    """Train on visible masks, self-supervised; run again to go on from the last checkpoint."""
    began = time.monotonic()
    taught_by = load_network(find_model(teacher)) if teacher else None
    start = _start(init, size, uses_memory=memory)
    if taught_by is not None and not init:
        begin_from(start, taught_by)
    mine_until_s = math.inf if minutes is None else began + MINE_SHARE * minutes * 60
    masks = _visible_masks(datasets, output, mine_until_s)
    source = find_source(masks, shapes, is_selection=False)
    held_out = find_source(masks, shapes, is_selection=True)
    config = TrainConfig(steps=steps, seed=seed, learning_rate=learning_rate, workers=workers)
    if minutes is not None:
        batches = trainer.selection_batches(held_out, count=1)
        bound_s = minutes * 60
        left_s = bound_s - (time.monotonic() - began) - max(EXPORT_SHARE * bound_s, 45)
        config = config._replace(steps=MAX_STEPS, budget_s=float(max(round(left_s), 5)))
    else:
        batches = trainer.selection_batches(held_out)
    before = trainer.measure_selection(start, batches) if init else None
    network = _train_with_progress(output, source, (start, taught_by), config)
    everything = find_source(masks, shapes, is_selection=None)
    fit_confidence(network, clean_sequences(everything, _fitted_on(minutes)))
    after = trainer.measure_selection(network, batches)
    training = _training(datasets, shapes, config) | {"teacher": _name_of(teacher)}
    has_time = minutes is None or minutes * 60 - (time.monotonic() - began) >= INT8_S

    def draw() -> Calibration | None:
        return draw_calibration(source, batches) if has_time else None

    _finish(output, (network, after), (init, before), training, draw)


def _fitted_on(minutes: float | None) -> int:
    """Return how many sequences the confidence is fitted on; each takes about .3 s of a core."""
    return FIT_MOST if minutes is None else min(round(FIT_A_MINUTE * minutes), FIT_MOST)


def _start(init: str | None, size: str, *, uses_memory: bool) -> AmodalNetwork:
    if init:
        return load_network(find_model(init))
    if size not in SIZES:
        raise InputError(f"size {size!r} is not one of {', '.join(SIZES)}")
    return AmodalNetwork(SIZES[size]._replace(uses_memory=uses_memory))


def _visible_masks(datasets: Sequence[Path], run: Path, until_s: float) -> list[Path]:
    """Return the mask file of each dataset, its own or mined; raw ones share the time equally."""
    raw = [dataset for dataset in datasets if not has_masks(dataset)]
    masks = []
    for dataset in datasets:
        if has_masks(dataset):
            masks.append(given_masks(dataset))
            continue
        now = time.monotonic()
        share_s = now + (until_s - now) / len(raw)
        raw.remove(dataset)
        masks.append(mined_masks(dataset, run, _say_line, until_s=share_s))
    return masks


def _say_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def find_source(
    masks: Sequence[Path], shapes: Path | None, *, is_selection: bool | None
) -> SequenceSource:
    """Return what to learn from: mask files and moving silhouettes weigh the same.

    Args:
        masks: mask files.
        shapes: a shape library.
        is_selection: see `DatasetSource`.

    Raises:
        InputError: a mask file that cannot be read, or without a tracklet to learn from.
    """
    sources: list[SequenceSource] = [
        DatasetSource(visible, is_selection=is_selection) for visible in masks
    ]
    if shapes is None:
        return MixedSource(sources, [1.0] * len(sources))
    silhouettes = SilhouetteSource(read_library(shapes))
    return MixedSource([*sources, silhouettes], [1.0] * len(sources) + [float(len(sources))])


def _name_of(model: str | None) -> str | None:
    """Return name and version of a model; the folder it lies in is nobody's business."""
    if model is None:
        return None
    folder = find_model(model)
    return f"{folder.name} {folder.version}"


def _train_with_progress(
    output: Path,
    source: SequenceSource,
    networks: tuple[AmodalNetwork, AmodalNetwork | None],
    config: TrainConfig,
) -> AmodalNetwork:
    start, teacher = networks
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("step {task.fields[step]}  loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=1.0, step=0, loss=math.nan)

        def watch(progress: trainer.Progress) -> None:
            bar.update(task, completed=progress.share, step=progress.step, loss=progress.loss)

        return train_network(output, source, start, config, teacher=teacher, watch=watch)


def _training(datasets: Sequence[Path], shapes: Path | None, config: TrainConfig) -> dict[str, Any]:
    return {
        "datasets": [dataset.resolve().name for dataset in datasets],
        "mined": [dataset.resolve().name for dataset in datasets if not has_masks(dataset)],
        "shapes": None if shapes is None else list(read_library(shapes).licences),
        "settings": {key: value for key, value in config._asdict().items() if key != "paste"}
        | {"budget_s": None if math.isinf(config.budget_s) else config.budget_s},
        "paste": config.paste._asdict(),
        "supervision": "pasted occluders over visible masks; no amodal labels",
    }


def _finish(
    output: Path,
    trained: tuple[AmodalNetwork, Selection],
    started: tuple[str | None, Selection | None],
    training: dict[str, Any],
    draw: Callable[[], Calibration | None],
) -> None:
    """Export the better of the start and the result, and say which."""
    (network, after), (init, before) = trained, started
    folder = output / "model"
    say = sys.stdout.write
    say(
        f"held-out synthetic occlusions: hidden IoU {after.hidden_iou:.3f} "
        f"(memory alone {after.evidence_iou:.3f}), whole IoU {after.whole_iou:.3f}\n"
    )
    if init and before is not None and after.hidden_iou <= before.hidden_iou:
        start = find_model(init)
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(start.path, folder)
        say(f"no better than {init} ({before.hidden_iou:.3f}): {folder} is the starting model\n")
        return
    training = {**training, "init": init, "selection": after._asdict()}
    name = output.resolve().name
    written = export_model(
        network, folder, name=name, version="1", training=training, calibration=draw()
    )
    say(f"wrote {folder}\n{describe_int8(written)}\n")
