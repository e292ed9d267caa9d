"""What tests of the model share."""

from __future__ import annotations

import pytest

from amodal_model.stream import AmodalSegmenter


@pytest.fixture(scope="module")
def evidence_segmenter() -> AmodalSegmenter:
    """An untrained network: it says what the memory says."""
    torch = pytest.importorskip("torch")
    from amodal_model.engine_torch import TorchEngine  # noqa: PLC0415
    from amodal_model.network import AmodalNetwork, NetworkConfig  # noqa: PLC0415

    torch.manual_seed(0)
    return AmodalSegmenter(TorchEngine(AmodalNetwork(NetworkConfig((8, 8, 8), (1, 1, 1)))))
