"""The training of the judge of veils: rounds that go on, and what is left to serve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer
from small_scenes import small_parts, write_small_library
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from amodal_model.errors import InputError, ModelError  # noqa: E402
from amodal_model.model_files import find_model  # noqa: E402
from amodal_model.pictures import LOOK_CHANNELS  # noqa: E402
from amodal_model.veil_judge import open_judge  # noqa: E402
from amodal_model.veil_network import PICTURE_CHANNELS, VeilNetwork  # noqa: E402
from amodal_model.veils import Sighting  # noqa: E402
from amodal_training.batches import SilhouetteSource  # noqa: E402
from amodal_training.silhouette_shapes import read_library  # noqa: E402
from amodal_training.veil_command import veil_train  # noqa: E402
from amodal_training.veil_scenes import write_drawn_veils  # noqa: E402
from amodal_training.veil_trainer import (  # noqa: E402
    Round,
    VeilConfig,
    drawn_over,
    torch_judge,
    train_judge,
    veil_loss,
)

TINY = VeilConfig(rounds=2, sequences=16, frames=(12,), steps=3, batch=4, kept_share=1.0)


def some_sighting(*, has_look: bool = False) -> Sighting:
    rng = np.random.default_rng(0)
    maps = rng.random((2, 48, 48), np.float32)
    seen, context = rng.random((2, 3, 48, 48), np.float32) / 3, rng.random((2, 6), np.float32)
    misfit = rng.random(2, np.float32)
    shown = maps, maps > 0.5, maps, seen, context, misfit
    looks = rng.integers(0, 256, (2, LOOK_CHANNELS, 48, 48), np.uint8)
    return Sighting(np.arange(2), np.zeros((2, 4)), *shown, looks, np.full(2, has_look))


def test_only_what_counts_costs() -> None:
    hidden, counts = torch.zeros(1, 48, 48) > 0, torch.zeros(1, 48, 48) > 0
    hidden[0, :24], counts[0, 20:28] = True, True
    right = torch.where(hidden, 20.0, -20.0)
    assert float(veil_loss(right, hidden, counts)) < 1e-6
    elsewhere = torch.where(counts, right, -right)
    assert float(veil_loss(elsewhere, hidden, counts)) < 1e-6
    assert float(veil_loss(-right, hidden, counts)) == pytest.approx(20)
    assert float(veil_loss(right, hidden, counts & False)) == 0


@pytest.mark.slow
def test_training_goes_on_after_its_last_round(tmp_path: Path) -> None:
    shapes = tmp_path / "shapes.npz"
    write_small_library(shapes)
    source = drawn_over(SilhouetteSource(read_library(shapes)), TINY)
    seen: list[Round] = []
    train_judge(source, tmp_path / "two", TINY._replace(rounds=1), seen.append)
    resumed = train_judge(source, tmp_path / "two", TINY, seen.append)
    assert [one.number for one in seen] == [1, 2]
    assert all(one.examples > 0 and np.isfinite(one.loss) for one in seen)
    whole = train_judge(source, tmp_path / "one", TINY, lambda _: None)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    again = train_judge(source, tmp_path / "one", TINY, seen.append)
    assert len(seen) == 2
    assert torch.equal(again.logits.weight, whole.logits.weight)


@pytest.mark.slow
def test_a_trained_judge_is_served_as_it_was_trained(tmp_path: Path) -> None:
    shapes, run = tmp_path / "shapes.npz", tmp_path / "run"
    write_small_library(shapes)
    app = typer.Typer()
    app.command()(veil_train)
    drawn = ["--shapes", str(shapes), "--sequences", "16"]
    trained = ["-o", str(run), "--rounds", "1", "--steps", "2"]
    said = CliRunner().invoke(app, [*trained, *drawn], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert "round 1:" in said.output
    network = VeilNetwork()
    network.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["network"])
    sighting = some_sighting()
    np.testing.assert_allclose(
        open_judge(str(run))(sighting), torch_judge(network)(sighting), atol=1e-3
    )
    assert find_model(run).description["training"]["settings"]["steps"] == 2


@pytest.mark.slow
def test_a_judge_learns_from_pictures_and_keeps_the_one_of_masks(tmp_path: Path) -> None:
    scenes, run = tmp_path / "scenes", tmp_path / "run"
    write_drawn_veils(scenes, small_parts(), range(3))
    app = typer.Typer()
    app.command()(veil_train)
    learned = ["--scenes", str(scenes), "--sequences", "16", "--rounds", "1", "--steps", "2"]
    said = CliRunner().invoke(app, ["-o", str(run), *learned], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    network = VeilNetwork(sees_pictures=True, channels=PICTURE_CHANNELS)
    network.load_state_dict(torch.load(run / "checkpoint.pt", weights_only=True)["network"])
    served, shown = open_judge(str(run)), some_sighting(has_look=True)
    assert served.sees_pictures
    np.testing.assert_allclose(served(shown), torch_judge(network)(shown), atol=1e-3)
    without = some_sighting()
    np.testing.assert_array_equal(served(without), open_judge()(without))
    mixed = shown._replace(has_look=np.array([True, False]))
    np.testing.assert_allclose(served(mixed)[0], served(shown)[0], atol=1e-5)
    np.testing.assert_allclose(served(mixed)[1], served(without)[1], atol=1e-5)


def test_pictures_are_learned_from_alone(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(veil_train)
    both = ["-o", str(tmp_path / "run"), "--scenes", str(tmp_path), "--shapes", "some.npz"]
    with pytest.raises(InputError, match="--scenes is learned from alone"):
        CliRunner().invoke(app, both, catch_exceptions=False)
    with pytest.raises(InputError, match="nothing to draw from"):
        CliRunner().invoke(app, both[:2], catch_exceptions=False)
    assert not (tmp_path / "run").exists()


def test_a_model_of_another_kind_is_no_judge() -> None:
    with pytest.raises(ModelError, match="weights/base: not a judge of veils"):
        open_judge(str(find_model("shipped").path))
