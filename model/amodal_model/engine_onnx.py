"""ONNX Runtime: the engine that is served.

Which execution provider runs is chosen in `onnx_session`. Memory stays on the device: it is bound
as an input and an output, and never copied unless somebody saves it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES, EngineInfo
from amodal_model.errors import ModelError
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.model_files import ModelFolder, file_sha256
from amodal_model.onnx_session import (
    CPU,
    CUDA,
    TENSORRT,
    open_session,
    requested_providers,
)


class OnnxEngine:
    """Runs an exported model with ONNX Runtime.

    Args:
        folder: the model.
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``; ``auto`` takes the GPU if the
            installed wheel offers one.
        require_gpu: fail where the session ends up on the CPU.
        threads: CPU threads of one step.
        precision: ``fp32``, ``fp16`` or ``int8``; by default `default_precision`.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the provider is unknown, or not available though required, or the file is
            not a model of ours.
    """

    def __init__(
        self,
        folder: ModelFolder,
        provider: str = "auto",
        *,
        require_gpu: bool = False,
        threads: int = 1,
        precision: str | None = None,
    ) -> None:
        requested = requested_providers(provider)
        precision = precision or default_precision(folder, uses_gpu=requested[0] != CPU)
        path = folder.graph(precision)
        opened = open_session(path, requested, require_gpu=require_gpu, threads=threads)
        self._session = opened.session
        self._check_names(path.name)
        # graphs of before know fewer columns, the first ones
        self._columns = self._session.get_inputs()[INPUT_NAMES.index("context")].shape[1]
        import onnxruntime  # noqa: PLC0415  an optional part, open by now

        self._ort_value: Any = onnxruntime.OrtValue
        self._device = "cuda" if opened.actual in (CUDA, TENSORRT) else "cpu"
        sha256 = file_sha256(path)
        self._info = EngineInfo(
            folder.name, folder.version, sha256, requested, opened.actual, precision
        )

    @property
    def info(self) -> EngineInfo:
        """What computes, and on what."""
        return self._info

    def _check_names(self, file_name: str) -> None:
        inputs = tuple(entry.name for entry in self._session.get_inputs())
        outputs = tuple(entry.name for entry in self._session.get_outputs())
        if inputs != INPUT_NAMES or outputs != OUTPUT_NAMES:
            raise ModelError(
                f"{file_name}: inputs {inputs} and outputs {outputs} are not {INPUT_NAMES} "
                f"and {OUTPUT_NAMES}"
            )

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        """Return the silhouettes of one frame and the memory for the next."""
        binding = self._session.io_binding()
        inputs = inputs._replace(context=inputs.context[:, : self._columns])
        for name, array in zip(INPUT_NAMES, inputs, strict=False):
            binding.bind_cpu_input(name, np.ascontiguousarray(array, np.float32))
        # held until the run is over: the binding does not keep what it is given
        held = [self._on_device(field) for field in memory]
        for name, value in zip(INPUT_NAMES[len(inputs) :], held, strict=True):
            binding.bind_ortvalue_input(name, value)
        for name in OUTPUT_NAMES[:3]:
            binding.bind_output(name, "cpu")
        for name in OUTPUT_NAMES[3:]:
            binding.bind_output(name, self._device)
        self._session.run_with_iobinding(binding)
        values = binding.get_outputs()
        outputs = StepOutputs(*(value.numpy() for value in values[:3]))
        return outputs, MemoryState(*values[3:])

    def _on_device(self, field: Any) -> Any:
        if not isinstance(field, np.ndarray):
            return field
        array = np.ascontiguousarray(field, np.float32)
        return self._ort_value.ortvalue_from_numpy(array, self._device, 0)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        """Return the memory as numpy arrays."""
        return MemoryState(
            *(field if isinstance(field, np.ndarray) else field.numpy() for field in memory)
        )


def default_precision(folder: ModelFolder, *, uses_gpu: bool) -> str:
    """Return the precision that a model runs in where none is asked for.

    GPUs run ``fp16``; the CPU ``int8`` where the model has it, because export writes it only if
    it loses next to nothing.
    """
    if uses_gpu:
        return "fp16"
    return "int8" if folder.has("int8") else "fp32"
