"""A user's ONNX graph: its tensors by name, checked before and after it runs.

Whatever does not fit is named: the tensor, its type and shape, and what is needed instead.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amodal_model.errors import ModelError
from amodal_model.onnx_session import one_line, open_session, requested_providers
from amodal_model.segmenter_file import check_onnx_file
from amodal_model.segmenter_settings import SegmenterSettings

MAX_OUTPUT_BYTES = 2**30
"""An output whose stated size is larger is refused before it is computed."""
_FOLDING_LIMIT = {"optimization.constant_folding_max_output_size_in_bytes": str(2**26)}
"""Else a graph of a few bytes could fold a constant of any size while it is loaded."""

FLOATS = ("float32", "float16", "float64")
WHOLES = ("int64", "int32")
_DTYPES = {"float": "float32", "double": "float64"}


class Tensor(NamedTuple):
    """An input or output as the graph states it.

    Attributes:
        name: in the graph.
        dtype: numpy's name of its type.
        shape: its sides; ``None`` where left open, and empty also where nothing is stated.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"'{self.name}' is {self.dtype} ({sides})"


class Graph:
    """A loaded ONNX file.

    Args:
        path: the file.
        settings: provider, threads and whether a GPU is required.

    Attributes:
        path: the file.
        inputs: by name.
        outputs: by name.
        requested: execution providers that were asked for.
        actual: the one that runs.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the file is refused by `check_onnx_file` or by ONNX Runtime, its provider is
            not there, or one of its outputs is larger than 1 GiB.
    """

    def __init__(self, path: Path, settings: SegmenterSettings) -> None:
        check_onnx_file(path)
        self.path = path
        opened = open_session(
            path,
            requested_providers(settings.provider),
            require_gpu=settings.require_gpu,
            threads=settings.threads,
            entries=_FOLDING_LIMIT,
        )
        self._session = opened.session
        self.requested, self.actual = opened.requested, opened.actual
        self.inputs = {entry.name: _tensor(path, entry) for entry in self._session.get_inputs()}
        self.outputs = {entry.name: _tensor(path, entry) for entry in self._session.get_outputs()}
        for tensor in self.outputs.values():
            self._check_bytes(tensor)

    def _check_bytes(self, tensor: Tensor) -> None:
        sides = [side for side in tensor.shape if side is not None]
        size = math.prod(sides) * np.dtype(tensor.dtype).itemsize
        if size > MAX_OUTPUT_BYTES:
            raise ModelError(
                f"{self.path}: output {tensor}, {size} bytes, limit {MAX_OUTPUT_BYTES}"
            )

    def input(self, name: str, dtypes: Collection[str], *shapes: str) -> Tensor:
        """Return an input of one of some types and shapes.

        Args:
            name: in the graph.
            dtypes: that are fine.
            shapes: that are fine, such as ``1 3 H W``: numbers must agree, letters may be anything.

        Raises:
            ModelError: there is none of that name, or it has another type or shape.
        """
        return self._find("input", self.inputs, name, dtypes, shapes)

    def output(self, name: str, dtypes: Collection[str], *shapes: str) -> Tensor:
        """Return an output of one of some types and shapes, as `input` does.

        Raises:
            ModelError: there is none of that name, or it has another type or shape.
        """
        return self._find("output", self.outputs, name, dtypes, shapes)

    def _find(
        self,
        side: str,
        tensors: Mapping[str, Tensor],
        name: str,
        dtypes: Collection[str],
        shapes: Collection[str],
    ) -> Tensor:
        tensor = tensors.get(name)
        if tensor is None:
            there = ", ".join(tensors) or "none"
            raise ModelError(f"{self.path}: no {side} '{name}'; its {side}s are: {there}")
        # a rank of 0 also stands for "nothing is stated"; what comes out is checked then
        open_rank = not tensor.shape
        if tensor.dtype not in dtypes or not (
            open_rank or any(_agrees(tensor.shape, shape) for shape in shapes)
        ):
            raise ModelError(
                f"{self.path}: {side} {tensor}, need {' or '.join(dtypes)} "
                f"{' or '.join(_shown(shape) for shape in shapes)}"
            )
        return tensor

    def refuse_others(self, known: Collection[str]) -> None:
        """Refuse inputs that nobody would feed.

        Raises:
            ModelError: the graph has an input that is not known.
        """
        for name, tensor in self.inputs.items():
            if name not in known:
                raise ModelError(
                    f"{self.path}: input {tensor} is not one that this kind feeds: "
                    f"{', '.join(entry for entry in known if entry)}"
                )

    def run(self, feed: Mapping[str, np.ndarray], *names: str) -> tuple[np.ndarray, ...]:
        """Return some outputs.

        Raises:
            ModelError: the graph fails.
        """
        try:
            arrays = self._session.run(list(names), dict(feed))
        except Exception as error:  # onnxruntime raises a class of its own for each failure
            raise ModelError(f"{self.path}: it fails: {one_line(error)}") from None
        return tuple(np.asarray(array) for array in arrays)

    def misfit(self, name: str, array: np.ndarray, need: str) -> ModelError:
        """Return the error for an output that came out in another shape than needed."""
        tensor = Tensor(name, str(array.dtype), array.shape)
        return ModelError(f"{self.path}: output {tensor}, need {need}")


def _tensor(path: Path, entry: Any) -> Tensor:
    kind = str(entry.type)
    if not kind.startswith("tensor("):
        raise ModelError(f"{path}: '{entry.name}' is a {kind}, need a tensor")
    inner = kind.removeprefix("tensor(").removesuffix(")")
    dtype = _DTYPES.get(inner, inner)
    try:
        np.dtype(dtype)
    except TypeError:
        raise ModelError(
            f"{path}: '{entry.name}' is a {kind}, which numpy has no type for"
        ) from None
    sides = tuple(side if isinstance(side, int) else None for side in entry.shape or ())
    return Tensor(str(entry.name), dtype, sides)


def _agrees(shape: tuple[int | None, ...], pattern: str) -> bool:
    need = pattern.split()
    return len(need) == len(shape) and all(
        side is None or not word.isdigit() or side == int(word)
        for side, word in zip(shape, need, strict=True)
    )


def _shown(pattern: str) -> str:
    return f"({', '.join(pattern.split())})"
