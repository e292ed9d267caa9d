"""Networks from and to the weights of a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from amodal_model.errors import ModelError
from amodal_model.model_files import ModelFolder
from amodal_model.network import CONDITIONS, AmodalNetwork, NetworkConfig

WEIGHTS_NAME = "weights.npz"


def save_weights(network: AmodalNetwork, folder: Path) -> None:
    """Write the weights of a network as ``weights.npz``."""
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    np.savez(folder / WEIGHTS_NAME, **arrays)


def load_network(folder: ModelFolder) -> AmodalNetwork:
    """Return the network of a model folder, in evaluation mode.

    Raises:
        ModelError: there are no weights, or they are not those of the described network.
    """
    path = folder.path / WEIGHTS_NAME
    if not path.is_file():
        raise ModelError(f"{folder.path}: no {WEIGHTS_NAME}")
    try:
        network = AmodalNetwork(network_config(folder.description["network"]))
        with np.load(path, allow_pickle=False) as arrays:
            weights = {name: torch.from_numpy(arrays[name]) for name in arrays}
        network.load_state_dict(_with_new_conditions(weights))
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{path}: not the weights of the described network: {reason}") from None
    return network.eval()


def _with_new_conditions(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights that look at conditions which they were trained without as if at nothing."""
    known = weights["condition.weight"]
    added = known.new_zeros(len(known), CONDITIONS - known.shape[1])
    return weights | {"condition.weight": torch.cat([known, added], 1)}


def network_config(entry: Mapping[str, Any]) -> NetworkConfig:
    """Return the network's size as ``model.json`` or a checkpoint describes it."""
    return NetworkConfig(
        tuple(entry["channels"]),
        tuple(entry["blocks"]),
        bool(entry["uses_memory"]),
    )
