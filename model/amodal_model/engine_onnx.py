"""ONNX Runtime: the engine that is served.

Execution providers are always named: a GPU wheel without its libraries falls back to the CPU
without a word, so what really runs is asked of the session and reported. Memory stays on the
device: it is bound as an input and an output, and never copied unless somebody saves it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from amodal_model.engine import INPUT_NAMES, OUTPUT_NAMES, EngineInfo
from amodal_model.errors import MissingExtraError, ModelError
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.model_files import ModelFolder, file_sha256

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
KNOWN_PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}
"""Names a user can give, and the execution providers they stand for, best first."""


def installed_wheels() -> list[str]:
    """Return which onnxruntime distributions are installed.

    Raises:
        MissingExtraError: none is.
        ModelError: both are; they overwrite each other's files.
    """
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    if not found:
        raise MissingExtraError("onnxruntime is missing: pip install 'amodal[cpu]' (or [gpu])")
    if len(found) > 1:
        raise ModelError(
            f"{' and '.join(found)} are both installed and overwrite each other: "
            "uninstall both, then install 'amodal[cpu]' or 'amodal[gpu]'"
        )
    return found


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
        installed_wheels()
        import onnxruntime  # noqa: PLC0415  an optional part, checked above

        onnxruntime.set_default_logger_severity(3)
        requested = _choose_providers(onnxruntime.get_available_providers(), provider)
        uses_gpu = requested[0] != CPU
        if uses_gpu and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        precision = precision or default_precision(folder, uses_gpu=uses_gpu)
        path = folder.graph(precision)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=list(requested)
            )
        except Exception as error:  # onnxruntime raises a class of its own for each failure
            raise ModelError(f"{path}: onnxruntime cannot load it: {error}") from None
        self._check_names(path.name)
        actual = self._session.get_providers()[0]
        if require_gpu and actual == CPU:
            raise ModelError(f"a GPU is required, but {actual} runs (asked for {requested})")
        self._ort_value: Any = onnxruntime.OrtValue
        self._device = "cuda" if actual in (CUDA, TENSORRT) else "cpu"
        sha256 = file_sha256(path)
        self._info = EngineInfo(folder.name, folder.version, sha256, requested, actual, precision)

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


def _choose_providers(available: Sequence[str], provider: str) -> tuple[str, ...]:
    if provider == "auto":
        return KNOWN_PROVIDERS["cuda"] if CUDA in available else KNOWN_PROVIDERS["cpu"]
    chosen = KNOWN_PROVIDERS.get(provider)
    if chosen is None:
        names = ", ".join(["auto", *KNOWN_PROVIDERS])
        raise ModelError(f"execution provider {provider!r} is not one of {names}")
    if chosen[0] not in available:
        raise ModelError(
            f"{chosen[0]} is not in the installed onnxruntime, which has {', '.join(available)}"
        )
    return chosen
