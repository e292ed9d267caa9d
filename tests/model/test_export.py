"""Export: what is written holds parity, and what does not hold is not written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxscript")
torch = pytest.importorskip("torch")

from amodal_model import export  # noqa: E402
from amodal_model.checkpoint import load_network, save_weights  # noqa: E402
from amodal_model.engine_onnx import OnnxEngine  # noqa: E402
from amodal_model.engine_torch import TorchEngine  # noqa: E402
from amodal_model.errors import ModelError  # noqa: E402
from amodal_model.export import blank_memory, check_parity, export_model, random_step  # noqa: E402
from amodal_model.model_files import ModelFolder, file_sha256, find_model  # noqa: E402
from amodal_model.network import AmodalNetwork, NetworkConfig  # noqa: E402


def changed(network: AmodalNetwork) -> AmodalNetwork:
    """Return another network of the same size."""
    other = AmodalNetwork(network.config)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.residual.weight[3] += 0.05
    return other.eval()


def test_exported_folder_describes_its_files(tiny_model_folder: ModelFolder) -> None:
    found = find_model(tiny_model_folder.path)
    assert (found.name, found.version) == ("tiny", "7")
    assert found.description["network"]["channels"] == [16, 16, 16]
    for name, sha256 in found.description["sha256"].items():
        assert sha256 == file_sha256(found.path / name)
    names = {path.name for path in found.path.iterdir()}
    assert names == {"model.json", "model.onnx", "model-fp16.onnx", "weights.npz"}


def test_export_leaves_no_partial_folder_behind(tiny_model_folder: ModelFolder) -> None:
    assert [path.name for path in tiny_model_folder.path.parent.iterdir()] == ["tiny"]


def test_weights_of_a_folder_are_those_exported(
    tiny_model_folder: ModelFolder, tiny_network: AmodalNetwork
) -> None:
    loaded = load_network(tiny_model_folder).state_dict()
    for name, value in tiny_network.state_dict().items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_exported_graph_takes_any_number_of_objects(
    tiny_model_folder: ModelFolder, precision: str
) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu", precision=precision)
    for count in (1, 3, 17):
        inputs = random_step(np.random.default_rng(count), count)
        outputs, memory = engine.step(inputs, blank_memory(count))
        assert outputs.logits.shape == (count, 96, 96)
        assert engine.to_host(memory).maps.shape == (count, 4, 96, 96)


def test_parity_of_another_network_is_refused(
    tiny_model_folder: ModelFolder, tiny_network: AmodalNetwork
) -> None:
    engine = OnnxEngine(tiny_model_folder, "cpu")
    with pytest.raises(ModelError, match=r"differs from the network by .* limit 0\.0001"):
        check_parity(TorchEngine(changed(tiny_network)), engine, export.TOLERANCE["fp32"])


def test_parity_with_a_graph_that_gives_nan_is_refused(
    tiny_model_folder: ModelFolder, tiny_network: AmodalNetwork
) -> None:
    broken = changed(tiny_network)
    with torch.no_grad():
        broken.residual.weight[3] = float("nan")
    engine = OnnxEngine(tiny_model_folder, "cpu")
    with pytest.raises(ModelError, match="differs from the network by nan"):
        check_parity(TorchEngine(broken), engine, export.TOLERANCE["fp32"])


def test_half_precision_says_the_same_within_its_tolerance(
    tiny_model_folder: ModelFolder, tiny_network: AmodalNetwork
) -> None:
    """Its memory stays in single precision, so differences do not add up over steps."""
    engine = OnnxEngine(tiny_model_folder, "cpu", precision="fp16")
    largest = check_parity(TorchEngine(tiny_network), engine, export.TOLERANCE["fp16"])
    assert largest > 0, "a graph in half precision cannot equal the network"


def test_graph_that_does_not_hold_is_not_written(
    tiny_model_folder: ModelFolder,
    tiny_network: AmodalNetwork,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exporter is replaced by one that writes the graph of another network."""

    def write_another(network: AmodalNetwork, path: Path, precision: str) -> None:
        path.write_bytes(tiny_model_folder.graph(precision).read_bytes())

    monkeypatch.setattr(export, "_write_graph", write_another)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.json").write_text("the former model")
    given: dict[str, Any] = {"name": "broken", "version": "1", "training": {}}
    with pytest.raises(ModelError, match="differs from the network"):
        export_model(changed(tiny_network), folder, **given)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "model.json").read_text() == "the former model"
    export_model(tiny_network, folder, **given)
    assert json.loads((folder / "model.json").read_text())["name"] == "broken"


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_weights(AmodalNetwork(NetworkConfig((8, 8, 8), (1, 1, 1))), tmp_path)
    size = {"channels": [16, 16, 16], "blocks": [1, 1, 1], "uses_memory": True}
    folder = ModelFolder(tmp_path, {"name": "x", "version": "1", "network": size})
    with pytest.raises(ModelError, match="not the weights of the described network"):
        load_network(folder)
    (tmp_path / "weights.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ModelError, match="not the weights of the described network"):
        load_network(folder)
    (tmp_path / "weights.npz").unlink()
    with pytest.raises(ModelError, match=r"no weights\.npz"):
        load_network(folder)
