"""The seam between the stream and whatever computes the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from amodal_model.memory import MemoryState, StepInputs, StepOutputs

INPUT_NAMES = ("crop", "theta", "context", "maps", "scalars")
"""Names of the exported graph's inputs: `StepInputs`, then `MemoryState`."""
OUTPUT_NAMES = ("logits", "confidence", "template", "next_maps", "next_scalars")
"""Names of the exported graph's outputs: `StepOutputs`, then `MemoryState`."""


class EngineInfo(NamedTuple):
    """What computes the network.

    Attributes:
        model_name: name of the model, as its folder says.
        model_version: its version.
        sha256: of the model file.
        requested: execution providers asked for, best first.
        actual: the execution provider that really runs.
        precision: of the graph: ``fp32``, ``fp16`` or ``int8``.
    """

    model_name: str
    model_version: str
    sha256: str
    requested: tuple[str, ...]
    actual: str
    precision: str = "fp32"


class Engine(Protocol):
    """Computes the network's step for N objects.

    Memory is an opaque value of the engine's own arrays; `to_host` and `step` also take and give
    plain numpy, so that a state can be saved here and go on there.
    """

    @property
    def info(self) -> EngineInfo:
        """What computes, and on what."""
        ...

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        """Return the silhouettes of one frame and the memory for the next."""
        ...

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        """Return the memory as numpy arrays."""
        ...


def take_rows(memory: MemoryState[np.ndarray], rows: Sequence[int]) -> MemoryState[np.ndarray]:
    """Return the memory of some objects; row -1 is an object that nothing is remembered of."""
    picked = np.asarray(rows, int)
    fields = []
    for field in memory:
        taken = np.zeros((len(rows), *field.shape[1:]), np.float32)
        taken[picked >= 0] = field[picked[picked >= 0]]
        fields.append(taken)
    return MemoryState(*fields)


Part = tuple[StepInputs[np.ndarray], MemoryState[Any]]


def step_together(
    engine: Engine, parts: Sequence[Part]
) -> list[tuple[StepOutputs[np.ndarray], MemoryState[Any]]]:
    """Return what `Engine.step` gives for each part, out of one call of it.

    The memory of several parts is joined and divided on the host; that of a lone part stays
    where it is.
    """
    if len(parts) <= 1:
        return [engine.step(*part) for part in parts]
    inputs = StepInputs(
        *(np.concatenate(fields) for fields in zip(*(given for given, _ in parts), strict=True))
    )
    memories = [engine.to_host(memory) for _, memory in parts]
    memory = MemoryState(*(np.concatenate(fields) for fields in zip(*memories, strict=True)))
    outputs, after = engine.step(inputs, memory)
    after = engine.to_host(after)
    ends = np.cumsum([len(part.crop) for part, _ in parts])
    rows = [slice(end - len(part.crop), end) for end, (part, _) in zip(ends, parts, strict=True)]
    # copies: a view would keep every stream's arrays alive for as long as one stream is
    return [
        (
            StepOutputs(*(field[own].copy() for field in outputs)),
            MemoryState(*(field[own].copy() for field in after)),
        )
        for own in rows
    ]
