"""The judge of veils as files to serve: an ONNX graph and what it is, checked against torch."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodal_model.errors import ModelError
from amodal_model.export import write_graph
from amodal_model.model_files import (
    FORMAT,
    GRAPHS,
    ModelFolder,
    file_sha256,
    find_model,
)
from amodal_model.onnx_session import CPU, open_session
from amodal_model.pictures import LOOK_CHANNELS
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.veil_judge import INPUT, KIND, OUTPUT, PICTURE_GRAPH
from amodal_model.veil_network import INPUTS, VeilNetwork

_PARITY = 1e-3
"""Largest difference of logits between torch and ONNX Runtime."""


def export_judge(
    network: VeilNetwork,
    folder: Path,
    names: tuple[str, str],
    training: dict[str, Any],
    masks: ModelFolder | None = None,
) -> ModelFolder:
    """Write a network to a folder and return it.

    Args:
        network: one that knows masks alone, or one that sees pictures.
        folder: written to.
        names: name and version.
        training: what it learned from, for the description.
        masks: a judge whose network for masks alone is put beside one that sees pictures.

    Raises:
        ModelError: ONNX Runtime comes to other logits than torch, or nothing to put beside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (PICTURE_GRAPH if network.sees_pictures else GRAPHS["fp32"])
    paths = [path]
    parameters = sum(p.numel() for p in network.parameters())
    if network.sees_pictures:
        if masks is None or masks.description.get("kind") != KIND:
            raise ModelError("a judge that sees pictures needs one beside it for masks alone")
        paths.append(folder / GRAPHS["fp32"])
        shutil.copyfile(masks.graph(), paths[-1])
        training = {"pictures": training, "masks": masks.description["training"]}
    _write_checked(network, path)
    (name, version) = names
    description = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "kind": KIND,
        "parameters": parameters,
        "training": training,
        "sha256": {each.name: file_sha256(each) for each in paths},
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return find_model(folder)


def _write_checked(network: VeilNetwork, path: Path) -> None:
    """Write the graph of a network.

    Raises:
        ModelError: ONNX Runtime comes to other logits than torch.
    """
    served = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(0)
    channels = INPUTS + (LOOK_CHANNELS if network.sees_pictures else 0)
    example = torch.rand(2, channels, TEMPLATE_SIDE, TEMPLATE_SIDE, generator=generator)
    objects = torch.export.Dim("objects")
    write_graph(served, (example,), path, ((INPUT,), (OUTPUT,)), ({0: objects},))
    (found,) = open_session(path, (CPU,)).session.run((OUTPUT,), {INPUT: example.numpy()})
    with torch.no_grad():
        worst = float(np.abs(served(example).numpy() - found).max())
    if not worst <= _PARITY:
        raise ModelError(f"{path}: logits differ from torch by {worst:.4f}, limit {_PARITY}")
