"""The loop that teaches following: its loss, its checkpoints, and what it leaves to serve."""

from pathlib import Path

import numpy as np
import pytest
from small_scenes import write_small_scenes

torch = pytest.importorskip("torch")

from amodal_training.follow_scenes import scene_files  # noqa: E402
from amodal_training.follow_trainer import (  # noqa: E402
    FollowConfig,
    Progress,
    following_loss,
    measure_following,
    train_follower,
)

TINY = FollowConfig(minutes=0.02, streams=2, beginners=1, save_s=0.0)


def test_a_sure_and_right_map_costs_nothing_a_wrong_one_much_and_what_does_not_count_nothing() -> (
    None
):
    truth = torch.zeros(2, 8, 8)
    truth[:, 2:6, 2:6] = 1
    right = 40 * (truth - 0.5)
    assert float(following_loss(right, truth, torch.ones(2))) < 1e-4
    assert float(following_loss(-right, truth, torch.ones(2))) > 10
    mixed = torch.stack([right[0], -right[1]])
    assert float(following_loss(mixed, truth, torch.tensor([1.0, 0.0]))) < 1e-4


def test_the_loss_of_an_even_guess_is_known() -> None:
    truth = torch.zeros(1, 4, 4)
    truth[0, :2] = 1
    # cross entropy log 2, twice; soft IoU (4 + 1) / (12 + 1)
    wanted = 2 * np.log(2) + 1 - 5 / 13
    assert float(following_loss(torch.zeros(1, 4, 4), truth, torch.ones(1))) == pytest.approx(
        wanted, abs=1e-5
    )


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_and_can_be_measured(tmp_path: Path) -> None:
    files = scene_files(write_small_scenes(tmp_path / "scenes"))
    seen: list[Progress] = []
    train_follower(lambda: files, tmp_path / "run", TINY, seen.append)
    stored = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    longer = TINY._replace(minutes=0.04)
    network = train_follower(lambda: files, tmp_path / "run", longer, seen.append)
    again = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert again["step"] > stored["step"] > 0
    measured = measure_following(network, files, streams=2, steps=4)
    assert 0 <= measured.first_iou <= 1
