"""The judge of veils as files to serve: an ONNX graph and what it is, checked against torch."""

from __future__ import annotations

import copy
import json
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
from amodal_model.templates import TEMPLATE_SIDE
from amodal_model.veil_judge import INPUT, KIND, MAPS, OUTPUT, SCALARS
from amodal_model.veil_network import VeilNetwork

_PARITY = 1e-3
"""Largest difference of logits between torch and ONNX Runtime."""


def export_judge(
    network: VeilNetwork, folder: Path, name: str, version: str, training: dict[str, Any]
) -> ModelFolder:
    """Write a network to a folder and return it.

    Raises:
        ModelError: ONNX Runtime comes to other logits than torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / GRAPHS["fp32"]
    served = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(0)
    channels = len(MAPS) + len(SCALARS)
    example = torch.rand(2, channels, TEMPLATE_SIDE, TEMPLATE_SIDE, generator=generator)
    objects = torch.export.Dim("objects")
    write_graph(served, (example,), path, ((INPUT,), (OUTPUT,)), ({0: objects},))
    (found,) = open_session(path, (CPU,)).session.run((OUTPUT,), {INPUT: example.numpy()})
    with torch.no_grad():
        worst = float(np.abs(served(example).numpy() - found).max())
    if not worst <= _PARITY:
        raise ModelError(f"{path}: logits differ from torch by {worst:.4f}, limit {_PARITY}")
    description = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "kind": KIND,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training": training,
        "sha256": {path.name: file_sha256(path)},
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return find_model(folder)
