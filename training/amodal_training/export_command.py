"""``amodal export``: the model of a run's checkpoint, as ONNX that holds its parity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from amodal_model.checkpoint import network_config
from amodal_model.errors import InputError, ModelError
from amodal_model.export import describe_int8, export_model
from amodal_model.network import AmodalNetwork
from amodal_model.quantisation import Calibration
from amodal_training.mined_masks import given_masks
from amodal_training.quantisation_data import draw_calibration
from amodal_training.train_command import find_source
from amodal_training.trainer import selection_batches


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, with checkpoint.pt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Model folder; RUN/model by default.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name by default.")] = None,
    version: Annotated[str, typer.Option()] = "1",
    dataset: Annotated[
        list[Path] | None,
        typer.Option(help="Dataset of visible masks to calibrate the 8-bit graph on; repeatable."),
    ] = None,
    shapes: Annotated[
        Path | None, typer.Option(help="Shape library to calibrate on as well.")
    ] = None,
) -> None:
    """Write the ONNX graphs and weights of a checkpoint, unless they differ from the network.

    With --dataset, an 8-bit graph is written too, unless it loses hidden IoU on drawn occlusions.
    """
    if shapes is not None and not dataset:
        raise InputError("--shapes needs a --dataset")
    network, training = read_checkpoint(run / "checkpoint.pt")
    folder = output or run / "model"
    written = export_model(
        network,
        folder,
        name=name or run.resolve().name,
        version=version,
        training=training,
        calibration=_calibration(dataset, shapes) if dataset else None,
    )
    typer.echo(f"wrote {folder}")
    typer.echo(describe_int8(written))


def _calibration(datasets: list[Path], shapes: Path | None) -> Calibration:
    masks = [given_masks(dataset) for dataset in datasets]
    held_out = selection_batches(find_source(masks, shapes, is_selection=True), count=2)
    return draw_calibration(find_source(masks, shapes, is_selection=False), held_out)


def read_checkpoint(path: Path) -> tuple[AmodalNetwork, dict[str, object]]:
    """Return the averaged network of a checkpoint and how it was trained.

    Raises:
        InputError: there is no checkpoint.
        ModelError: it is not one of ours.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        network = AmodalNetwork(network_config(content["settings"]["network"]))
        network.load_state_dict(content["average"])
    except Exception as error:  # a hostile pickle can raise anything
        raise ModelError(f"{path}: not a checkpoint: {str(error).splitlines()[0]}") from None
    return network, {"step": content["step"], "settings": content["settings"]["train"]}
