"""The following network as files to serve: an ONNX graph and what it is, checked against torch."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from amodal_model.errors import ModelError
from amodal_model.export import write_graph
from amodal_model.follow_network import FollowNetwork, Remembered, scaled
from amodal_model.follower_learned import INPUTS, OUTPUTS
from amodal_model.learned_object import CUES, KEY_CHANNELS, KEYS, SIDE, SLOTS
from amodal_model.model_files import FORMAT, GRAPHS, ModelFolder, file_sha256, find_model
from amodal_model.onnx_session import CPU, open_session

_PARITY = 2e-3
"""Largest difference of logits between torch and ONNX Runtime."""


class _Served(nn.Module):
    """The network with the inputs of its graph."""

    def __init__(self, network: FollowNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        picture: Float[Tensor, "B 3 S S"],
        cues: Float[Tensor, "B C S S"],
        keys: Float[Tensor, "B M K L"],
        weights: Float[Tensor, "B M 2 L"],
    ) -> tuple[Tensor, Tensor]:
        logits, found = self.network(scaled(picture), cues, Remembered(keys, weights))
        return logits, found


def export_follower(
    network: FollowNetwork, folder: Path, name: str, version: str, training: dict[str, Any]
) -> ModelFolder:
    """Write a network to a folder and return it.

    Raises:
        ModelError: ONNX Runtime comes to other logits than torch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / GRAPHS["fp32"]
    served = _Served(copy.deepcopy(network)).eval()
    served.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    inputs = _random_inputs()
    write_graph(served, inputs, path, (INPUTS, OUTPUTS))
    _check_parity(served, inputs, path)
    description = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "kind": "follower",
        "side": SIDE,
        "parameters": sum(p.numel() for p in network.parameters()),
        "training": training,
        "sha256": {path.name: file_sha256(path)},
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return find_model(folder)


def _random_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(1, SLOTS, KEY_CHANNELS, KEYS, generator=generator)
    return (
        255 * torch.rand(1, 3, SIDE, SIDE, generator=generator),
        torch.rand(1, CUES, SIDE, SIDE, generator=generator),
        nn.functional.normalize(keys, dim=2),
        torch.rand(1, SLOTS, 2, KEYS, generator=generator),
    )


def _check_parity(served: _Served, inputs: tuple[Tensor, ...], path: Path) -> None:
    session = open_session(path, (CPU,)).session
    feed = {name: each.numpy() for name, each in zip(INPUTS, inputs, strict=True)}
    with torch.no_grad():
        wanted = served(*inputs)
    for name, a, b in zip(OUTPUTS, wanted, session.run(OUTPUTS, feed), strict=True):
        worst = float(np.abs(a.numpy() - b).max())
        if not worst <= _PARITY:
            raise ModelError(f"{path}: {name} differ from torch by {worst:.4f}, limit {_PARITY}")
