"""PyTorch: the reference engine, which the exported graph is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from amodal_model.engine import EngineInfo
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.network import AmodalNetwork


class TorchEngine:
    """Runs the network itself, in float32."""

    def __init__(self, network: AmodalNetwork, name: str = "torch") -> None:
        self._network = network.eval()
        device = next(network.parameters()).device
        self._info = EngineInfo(name, "0", "", (str(device),), str(device))
        self._device = device

    @property
    def info(self) -> EngineInfo:
        """What computes, and on what."""
        return self._info

    @torch.no_grad()
    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        """Return the silhouettes of one frame and the memory for the next."""
        given = StepInputs(*(self._tensor(array) for array in inputs))
        held = MemoryState(*(self._tensor(field) for field in memory))
        outputs, after = self._network(given, held)
        return StepOutputs(*(tensor.cpu().numpy() for tensor in outputs)), after

    def _tensor(self, field: Any) -> torch.Tensor:
        return torch.as_tensor(field, dtype=torch.float32, device=self._device)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        """Return the memory as numpy arrays."""
        return MemoryState(*(np.asarray(torch.as_tensor(field).cpu()) for field in memory))
