"""A follower that is served can be trained on: its graph gives its weights back."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from amodal_model.errors import ModelError  # noqa: E402
from amodal_model.follow_export import export_follower  # noqa: E402
from amodal_model.follow_network import FollowNetwork, Remembered  # noqa: E402
from amodal_model.learned_object import CUES, KEY_CHANNELS, KEYS, SIDE, SLOTS  # noqa: E402
from amodal_model.model_files import find_helper, find_model  # noqa: E402
from amodal_training.follow_start import begun_from_served, fix_norms  # noqa: E402


def answer(network: FollowNetwork) -> Any:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(2, 3, SIDE, SIDE, generator=generator)
    cues = torch.rand(2, CUES, SIDE, SIDE, generator=generator)
    keys = torch.randn(2, SLOTS, KEY_CHANNELS, KEYS, generator=generator)
    weights = torch.rand(2, SLOTS, 2, KEYS, generator=generator)
    with torch.no_grad():
        return network(picture, cues, Remembered(keys, weights))[0]


def test_an_exported_network_is_taken_over_to_the_last_weight(tmp_path: Path) -> None:
    served = FollowNetwork()
    served.train()
    for _ in range(3):
        answer(served)  # its norms learn something
    folder = export_follower(served.eval(), tmp_path / "model", "some", "1", {})
    taken = begun_from_served(folder)
    assert torch.allclose(answer(taken.eval()), answer(served), atol=1e-4)
    assert not torch.allclose(answer(FollowNetwork().eval()), answer(served), atol=1e-2)


def test_norms_that_are_fixed_stay_while_the_rest_learns() -> None:
    network = begun_from_served(find_helper("follower", "shipped"))
    before = answer(network.eval())
    network.train()
    fix_norms(network)
    assert torch.allclose(answer(network), before)
    assert any(module.training for module in network.modules())


def test_the_graph_of_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match="not a graph of this follower"):
        begun_from_served(find_model("shipped"))
