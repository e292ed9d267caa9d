"""The judge of veils as files to serve: an ONNX graph and what it is, checked against torch."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from amodal_model.errors import ModelError
from amodal_model.export import without_traces
from amodal_model.model_files import (
    FORMAT,
    GRAPHS,
    ModelFolder,
    file_sha256,
    find_veil_judge,
)
from amodal_model.onnx_session import CPU, open_session
from amodal_model.placement import TEMPLATE_SIDE
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
    # the exporter warns about its own internals, and about packages that are not needed
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("objects")},),
            verbose=False,
        )
    if program is None:
        raise ModelError("the ONNX exporter gave nothing")
    onnx.save(without_traces(program.model_proto), path)
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
    return find_veil_judge(folder)
