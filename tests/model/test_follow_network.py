"""The following network: keys of one length, an empty memory that says nothing, parity in ONNX."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from torch import Tensor  # noqa: E402

from amodal_model.errors import ModelError  # noqa: E402
from amodal_model.follow_export import export_follower  # noqa: E402
from amodal_model.follow_network import FollowNetwork, Remembered, scaled  # noqa: E402
from amodal_model.follower_learned import LearnedFollower  # noqa: E402
from amodal_model.learned_object import (  # noqa: E402
    CUES,
    KEY_CHANNELS,
    KEYS,
    SIDE,
    SLOTS,
)
from amodal_model.model_files import find_helper, find_model  # noqa: E402


@pytest.fixture(scope="module")
def network() -> FollowNetwork:
    torch.manual_seed(0)
    return FollowNetwork().eval()


def _inputs(count: int) -> tuple[Tensor, Tensor, Remembered]:
    generator = torch.Generator().manual_seed(1)
    picture = scaled(255 * torch.rand(count, 3, SIDE, SIDE, generator=generator))
    keys = torch.zeros(count, SLOTS, KEY_CHANNELS, KEYS)
    weights = torch.zeros(count, SLOTS, 2, KEYS)
    cues = torch.rand(count, CUES, SIDE, SIDE, generator=generator)
    return picture, cues, Remembered(keys, weights)


def test_keys_have_length_one(network: FollowNetwork) -> None:
    with torch.no_grad():
        logits, keys = network(*_inputs(2))
    assert logits.shape == (2, SIDE, SIDE)
    assert torch.allclose(keys.norm(dim=1), torch.ones(2, KEYS), atol=1e-4)


def test_an_empty_memory_favours_neither_side(network: FollowNetwork) -> None:
    picture, _, remembered = _inputs(1)
    with torch.no_grad():
        matches = network.match(network.features(picture)[1], remembered)
    ratios = matches.reshape(1, SLOTS, 3, -1)[:, :, 2]
    assert float(ratios.abs().max()) < 1e-6


def test_a_frame_matches_itself(network: FollowNetwork) -> None:
    picture, cues, _ = _inputs(1)
    with torch.no_grad():
        _, keys = network(picture, cues, _inputs(1)[2])
    weights = torch.zeros(1, SLOTS, 2, KEYS)
    weights[:, :, 0, : KEYS // 2] = 1  # the upper half is the object
    weights[:, :, 1, KEYS // 2 :] = 1
    remembered = Remembered(keys[:, None].expand(1, SLOTS, -1, -1), weights)
    with torch.no_grad():
        ratios = network.match(network.features(picture)[1], remembered)[0, 2]
    half = len(ratios) // 2
    assert float(ratios[:half].mean()) > float(ratios[half:].mean())


def test_what_is_exported_is_described_and_served(network: FollowNetwork, tmp_path: Path) -> None:
    folder = export_follower(network, tmp_path / "model", "tiny", "7", {"steps": 0})
    assert find_helper("follower", tmp_path).version == "7"
    assert repr(LearnedFollower(folder)) == "LearnedFollower(tiny 7)"
    assert folder.description["parameters"] == sum(p.numel() for p in network.parameters())


def test_a_model_of_silhouettes_does_not_follow() -> None:
    with pytest.raises(ModelError, match="inputs"):
        LearnedFollower(find_model("shipped"))
