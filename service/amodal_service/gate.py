"""Streams first: jobs and short clips use the model where no frame of a stream waits for it."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from amodal_model.engine import Engine, EngineInfo
from amodal_model.memory import MemoryState, StepInputs, StepOutputs

LEAST_SHARE_S = 0.25
"""Longest wait of other work for a lull: however busy the streams, a step of it is made then."""


class Gate:
    """Lets other work on the model in where no stream waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = 0

    def enter(self) -> None:
        """Say that a frame of a stream waits, or is worked on."""
        with self._changed:
            self._busy += 1

    def leave(self) -> None:
        """Say that one no longer does."""
        with self._changed:
            self._busy -= 1
            if not self._busy:
                self._changed.notify_all()

    def wait(self, longest_s: float = LEAST_SHARE_S) -> bool:
        """Wait for a lull, at most so long; return whether it came."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, longest_s)


class StreamsFirst:
    """An engine for other work: each of its steps waits for a lull of the streams."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    @property
    def info(self) -> EngineInfo:
        """What computes, and on what."""
        return self._engine.info

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        """Return the silhouettes of one frame and the memory for the next."""
        self._gate.wait()
        return self._engine.step(inputs, memory)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        """Return the memory as numpy arrays."""
        return self._engine.to_host(memory)
