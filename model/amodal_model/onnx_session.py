"""ONNX Runtime sessions: the one place that chooses execution providers.

Execution providers are always named: a GPU wheel without its libraries falls back to the CPU
without a word, so what really runs is asked of the session and returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.errors import MissingExtraError, ModelError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
KNOWN_PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}
"""Names a user can give, and the execution providers they stand for, best first."""

PROVIDER_NAMES = ("auto", *KNOWN_PROVIDERS)


def provider_of(requested: Sequence[str]) -> str:
    """Return the name that stands for execution providers; ``auto`` where none does."""
    found = (name for name, each in KNOWN_PROVIDERS.items() if each == tuple(requested))
    return next(found, "auto")


class OpenSession(NamedTuple):
    """A session and the execution providers asked for and running.

    Attributes:
        session: the ``onnxruntime.InferenceSession``.
        requested: execution providers that were asked for, best first.
        actual: the one that runs.
    """

    session: Any
    requested: tuple[str, ...]
    actual: str


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


def requested_providers(provider: str) -> tuple[str, ...]:
    """Return the execution providers that a name stands for here, best first.

    Args:
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``; ``auto`` takes the GPU if the
            installed wheel offers one.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the name is unknown, or the installed wheel has no such provider.
    """
    installed_wheels()
    import onnxruntime  # noqa: PLC0415  an optional part, checked above

    return _choose(onnxruntime.get_available_providers(), provider)


def open_session(
    path: Path,
    requested: tuple[str, ...],
    *,
    require_gpu: bool = False,
    threads: int = 1,
    entries: Mapping[str, str] | None = None,
) -> OpenSession:
    """Return a session of an ONNX file.

    Args:
        path: the file.
        requested: execution providers, as `requested_providers` gave them.
        require_gpu: fail where the session ends up on the CPU.
        threads: CPU threads of one run.
        entries: session configuration entries of ONNX Runtime beside ours.

    Raises:
        ModelError: the file cannot be loaded, or the CPU runs though a GPU is required.
    """
    import onnxruntime  # noqa: PLC0415  an optional part, checked by `requested_providers`

    onnxruntime.set_default_logger_severity(3)
    if requested[0] != CPU and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in (entries or {}).items():
        options.add_session_config_entry(key, value)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=list(requested))
    except Exception as error:  # onnxruntime raises a class of its own for each failure
        raise ModelError(f"{path}: onnxruntime cannot load it: {one_line(error)}") from None
    actual = session.get_providers()[0]
    if require_gpu and actual == CPU:
        raise ModelError(f"a GPU is required, but {actual} runs (asked for {requested})")
    return OpenSession(session, requested, actual)


def one_line(error: Exception, limit: int = 300) -> str:
    """Return what an error says as one line of at most ``limit`` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _choose(available: Sequence[str], provider: str) -> tuple[str, ...]:
    if provider == "auto":
        return KNOWN_PROVIDERS["cuda"] if CUDA in available else KNOWN_PROVIDERS["cpu"]
    chosen = KNOWN_PROVIDERS.get(provider)
    if chosen is None:
        raise ModelError(
            f"execution provider {provider!r} is not one of {', '.join(PROVIDER_NAMES)}"
        )
    if chosen[0] not in available:
        raise ModelError(
            f"{chosen[0]} is not in the installed onnxruntime, which has {', '.join(available)}"
        )
    return chosen
