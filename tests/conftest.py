"""A tiny seeded network, as a model folder and a segmenter; moving boxes; the command line.

Torch is imported by the fixtures that need it alone: serving is tested without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Ran, Run, run_command

from amodal_model.masks import BoxedMask, box_mask
from amodal_model.model_files import ModelFolder
from amodal_model.stream import AmodalSegmenter

if TYPE_CHECKING:
    from amodal_model.network import AmodalNetwork

SIZE = (120, 160)
PATHS = {  # x, y, width, height and speed of each box, nearest first
    3: (0.0, 40.0, 30, 44, 2.5, 0.0),
    5: (120.0, 20.0, 34, 60, -1.5, 0.2),
    1: (64.0, 50.0, 24, 26, 0.2, -0.3),
    8: (40.0, 30.0, 40, 30, 0.8, 0.6),
}


def moving_boxes(frames: int) -> list[dict[int, BoxedMask]]:
    """Return the visible masks of four boxes that pass over each other."""
    scene = []
    for index in range(frames):
        taken = np.zeros(SIZE, bool)
        masks = {}
        for track_id, (x, y, width, height, speed_x, speed_y) in PATHS.items():
            whole = np.zeros(SIZE, bool)
            left, top = int(x + speed_x * index), int(y + speed_y * index)
            whole[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = True
            visible = box_mask(whole & ~taken)
            if visible.area:
                masks[track_id] = visible
            taken |= whole
        scene.append(masks)
    return scene


@pytest.fixture
def amodal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process."""

    def run(*words: object) -> Ran:
        return run_command(words, monkeypatch, capsys)

    return run


@pytest.fixture(scope="session")
def boxes_scene() -> list[dict[int, BoxedMask]]:
    """60 frames of four boxes, 160x120; ids 3, 5, 1, 8 from front to back."""
    return moving_boxes(60)


@pytest.fixture(scope="session")
def tiny_network() -> AmodalNetwork:
    """A seeded network of 20 thousand weights whose residual says something."""
    torch = pytest.importorskip("torch")
    from amodal_model.network import AmodalNetwork, NetworkConfig  # noqa: PLC0415

    torch.manual_seed(0)
    network = AmodalNetwork(NetworkConfig((16, 16, 16), (1, 1, 1)))
    torch.nn.init.normal_(network.residual.weight, std=0.05)
    return network.eval()


@pytest.fixture(scope="session")
def tiny_model_folder(
    tiny_network: AmodalNetwork, tmp_path_factory: pytest.TempPathFactory
) -> ModelFolder:
    """The tiny network, exported; read only."""
    pytest.importorskip("onnxscript")
    from amodal_model.export import export_model  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("models") / "tiny"
    return export_model(tiny_network, folder, name="tiny", version="7", training={"steps": 0})


@pytest.fixture(scope="session")
def tiny_segmenter(tiny_network: AmodalNetwork) -> AmodalSegmenter:
    """A segmenter that runs the tiny network with torch."""
    from amodal_model.engine_torch import TorchEngine  # noqa: PLC0415

    return AmodalSegmenter(TorchEngine(tiny_network, "tiny"))
