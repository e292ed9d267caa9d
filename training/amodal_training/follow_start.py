"""Begin from a follower that is served: its graph has the weights, a checkpoint is not needed."""

from __future__ import annotations

import math

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from amodal_model.errors import ModelError
from amodal_model.follow_network import FollowNetwork
from amodal_model.model_files import GRAPHS, ModelFolder


def begun_from_served(folder: ModelFolder) -> FollowNetwork:
    """Return a network with the weights of a served follower.

    Its graph has each batch norm folded into the convolution before it. Here the norm becomes the
    convolution's bias and nothing else, so it must not be trained: see `fix_norms`.

    Raises:
        ModelError: the graph is of another network, or lacks a weight.
    """
    graph = onnx.load(folder.path / GRAPHS["fp32"]).graph
    stored = {each.name: torch.tensor(numpy_helper.to_array(each)) for each in graph.initializer}
    network = FollowNetwork()
    weights = network.state_dict()
    try:
        norms = {
            name: value
            for norm_name, norm in _norms(network)
            for name, value in _only_bias(norm_name, norm, stored).items()
        }
        for name in weights.keys() - norms.keys():
            if not name.endswith("num_batches_tracked"):
                weights[name] = stored[f"network.{name}"]
        network.load_state_dict(weights | norms)
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"{folder.path}: not a graph of this follower: {error}") from None
    return network


def fix_norms(network: FollowNetwork) -> None:
    """Keep the batch norms as they are, in a network that is otherwise trained."""
    for _, norm in _norms(network):
        norm.eval()


def _norms(network: FollowNetwork) -> list[tuple[str, nn.BatchNorm2d]]:
    return [
        (name, each) for name, each in network.named_modules() if isinstance(each, nn.BatchNorm2d)
    ]


def _only_bias(name: str, norm: nn.BatchNorm2d, stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a norm that adds what is stored as the bias of its convolution."""
    before = name.rsplit(".", 1)[0] + ".0"
    channels = norm.num_features
    return {
        f"{name}.weight": torch.full((channels,), math.sqrt(1 + norm.eps)),
        f"{name}.bias": stored[f"network.{before}.weight_bias"],
        f"{name}.running_mean": torch.zeros(channels),
        f"{name}.running_var": torch.ones(channels),
    }
