"""Model folders: found by name or path, and only as their description says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from amodal_model.errors import ModelError
from amodal_model.model_files import FORMAT, GRAPHS, SHIPPED, file_sha256, find_model


def write_model(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"a graph")
    sha256 = {"model.onnx": hashlib.sha256(b"a graph").hexdigest()}
    description = {"format": FORMAT, "name": "tiny", "version": 3, "sha256": sha256}
    (folder / "model.json").write_text(json.dumps(description | changes))
    return folder


def test_model_is_found_in_its_folder_and_in_a_run(tmp_path: Path) -> None:
    write_model(tmp_path / "run" / "model")
    for given in (tmp_path / "run", tmp_path / "run" / "model", str(tmp_path / "run")):
        found = find_model(given)
        assert found.path == tmp_path / "run" / "model"
        assert (found.name, found.version) == ("tiny", "3")


def test_graph_is_the_file_described(tmp_path: Path) -> None:
    folder = find_model(write_model(tmp_path))
    assert folder.graph() == folder.graph("fp32") == tmp_path / "model.onnx"
    assert file_sha256(folder.graph()) == hashlib.sha256(b"a graph").hexdigest()


def test_changed_graph_is_refused(tmp_path: Path) -> None:
    folder = find_model(write_model(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"another graph")
    with pytest.raises(ModelError, match=r"model\.onnx: .*sha256 differs"):
        folder.graph()


def test_graph_without_a_checksum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sha256 differs"):
        find_model(write_model(tmp_path, sha256={})).graph()


def test_missing_graph_is_refused(tmp_path: Path) -> None:
    folder = find_model(write_model(tmp_path))
    with pytest.raises(ModelError, match=r"no model-fp16\.onnx"):
        folder.graph("fp16")


def test_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="precision 'int4' is not one of fp32, fp16, int8"):
        find_model(write_model(tmp_path)).graph("int4")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_have_every_graph_that_they_describe(name: str) -> None:
    model = find_model(name)
    assert model.name == SHIPPED[name]
    for precision in GRAPHS:
        assert model.graph(precision).is_file()
    assert (model.path / "README.md").is_file()


def test_unknown_model_is_refused(tmp_path: Path) -> None:
    for given in ("huge", tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match=r"no model .* give one of shipped"):
            find_model(given)


@pytest.mark.parametrize("text", ["", "{", "\x00"])
def test_description_that_is_not_json_is_refused(tmp_path: Path, text: str) -> None:
    (write_model(tmp_path) / "model.json").write_text(text)
    with pytest.raises(ModelError, match=r"model\.json: not JSON"):
        find_model(tmp_path)


@pytest.mark.parametrize("value", [0, 1, "2", None])
def test_other_formats_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelError, match="not a model description of format 2"):
        find_model(write_model(tmp_path, format=value))


def test_description_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no name or no version"):
        find_model(write_model(tmp_path, name=None))


def test_description_that_is_a_list_is_refused(tmp_path: Path) -> None:
    (write_model(tmp_path) / "model.json").write_text("[]")
    with pytest.raises(ModelError, match="not a model description"):
        find_model(tmp_path)
