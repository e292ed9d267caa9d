"""The fit of a network's confidence: through the stream, on clean drawn occlusions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from moving_ellipses import Ellipses  # noqa: E402

from amodal_model.engine_torch import TorchEngine  # noqa: E402
from amodal_model.network import AmodalNetwork, NetworkConfig  # noqa: E402
from amodal_model.stream import AmodalSegmenter  # noqa: E402
from amodal_training import confidence_fit  # noqa: E402
from amodal_training.confidence_fit import clean_sequences, fit_confidence, fit_shift  # noqa: E402


def new_network(said: float) -> AmodalNetwork:
    """Return an untrained network that expects the same IoU everywhere, as a logit."""
    torch.manual_seed(0)
    network = AmodalNetwork(NetworkConfig((8, 8, 8), (1, 1, 1))).eval()
    last: Any = network.confidence[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(said)
    return network


def hidden_pairs(network: AmodalNetwork, sequences: list[Any]) -> np.ndarray:
    """Return what the network expects of hidden parts and reaches, (M, 2)."""
    segmenter = AmodalSegmenter(TorchEngine(network))
    found = [pair for one in sequences for pair in confidence_fit._expectations(segmenter, one)]
    return np.array([hidden for _, hidden in found if hidden is not None])


@pytest.mark.parametrize("said", [-2.0, 3.0])
def test_expectations_become_what_is_reached(said: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confidence_fit, "_HOLD", 0.5)
    network = new_network(said)
    sequences = list(clean_sequences(Ellipses(), count=8, frames=16))
    before = hidden_pairs(network, sequences)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    assert fit_confidence(network, sequences)
    after = hidden_pairs(network, sequences)
    assert abs(before.mean(0) @ [1, -1]) > 0.15
    assert abs(after.mean(0) @ [1, -1]) < 0.1
    np.testing.assert_array_equal(before[:, 1], after[:, 1])
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, kept[k])}
    assert changed == {"confidence.2.bias"}


def test_too_few_frames_change_nothing() -> None:
    network = new_network(3.0)
    assert not fit_confidence(network, clean_sequences(Ellipses(), count=1, frames=4))
    assert network.state_dict()["confidence.2.bias"].tolist() == [3.0, 3.0]


def test_a_shift_is_found_and_held_where_little_is_known() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 4000)
    expected = 1 / (1 + np.exp(-logits))
    reached = 1 / (1 + np.exp(-(logits + 0.8)))
    pairs = np.stack([expected, reached], 1)
    assert fit_shift(pairs) == pytest.approx(0.8, abs=0.05)
    assert 0 < fit_shift(pairs[:8]) < 0.2
    assert fit_shift(np.array([[1.0, 0.0]] * 4000)) < -8
