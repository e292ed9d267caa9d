"""The files of a model: a folder with ``model.json``, ONNX graphs and the weights.

model.json        what it is: name, version, network size, what it was trained on, sha256
model.onnx        float32, for any execution provider
model-fp16.onnx   completion in half precision, for GPUs
model-int8.onnx   convolutions in 8 bit, for CPUs; only where it held its gate at export
weights.npz       the weights, to train on from
"""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.errors import ModelError

FORMAT = 2
SHIPPED = {"shipped": "base", "small": "small"}
"""Names a user can give for the models inside the package, and their folders."""
GRAPHS = {"fp32": "model.onnx", "fp16": "model-fp16.onnx", "int8": "model-int8.onnx"}
"""File of each precision."""


class ModelFolder(NamedTuple):
    """A model on disk.

    Attributes:
        path: its folder.
        description: content of ``model.json``.
    """

    path: Path
    description: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the model."""
        return str(self.description["name"])

    @property
    def version(self) -> str:
        """Version of the model."""
        return str(self.description["version"])

    def has(self, precision: str) -> bool:
        """Return whether the folder describes a graph of this precision."""
        return GRAPHS.get(precision) in self.description.get("sha256", {})

    def graph(self, precision: str = "fp32") -> Path:
        """Return the ONNX file of a precision, one of `GRAPHS`.

        Raises:
            ModelError: the folder has no such file, or it is not the one described.
        """
        file_name = GRAPHS.get(precision)
        if file_name is None:
            raise ModelError(f"precision {precision!r} is not one of {', '.join(GRAPHS)}")
        path = self.path / file_name
        if not path.is_file():
            raise ModelError(f"{self.path}: no {file_name}")
        expected = self.description.get("sha256", {}).get(file_name)
        if expected != file_sha256(path):
            raise ModelError(f"{path}: not the file that model.json describes (sha256 differs)")
        return path


def find_model(model: str | Path) -> ModelFolder:
    """Return the model of a name (one of `SHIPPED`) or a folder (RUN or RUN/model).

    Raises:
        ModelError: no such model, or a description that this version cannot read.
    """
    if isinstance(model, str) and model in SHIPPED:
        root = Path(str(resources.files("amodal_model"))) / "weights" / SHIPPED[model]
    else:
        root = Path(model)
    for folder in (root, root / "model"):
        if (folder / "model.json").is_file():
            return _read(folder)
    names = ", ".join(SHIPPED)
    raise ModelError(f"no model {str(model)!r}: give one of {names}, or a folder with model.json")


def find_helper(kind: str, model: str | Path) -> ModelFolder:
    """Return a network that helps the model: ``shipped``, or a folder.

    Args:
        kind: its folder among the shipped weights: ``follower`` (of prompted objects) or ``veils``.
        model: which one.

    Raises:
        ModelError: no such network.
    """
    if model == "shipped":
        return find_model(Path(str(resources.files("amodal_model"))) / "weights" / kind)
    return find_model(model)


def _read(folder: Path) -> ModelFolder:
    path = folder / "model.json"
    try:
        description = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelError(f"{path}: not a model description of format {FORMAT}")
    if not isinstance(description.get("name"), str) or "version" not in description:
        raise ModelError(f"{path}: has no name or no version")
    return ModelFolder(folder, description)


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
