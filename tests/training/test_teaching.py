"""Teaching: a network begins where its teacher is alike, and comes to say what the teacher says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from moving_ellipses import Ellipses
from torch import Tensor

from amodal_model.network import AmodalNetwork, Completion, NetworkConfig
from amodal_training.batches import draw_batch
from amodal_training.losses import make_target
from amodal_training.occluders import PasteConfig
from amodal_training.teaching import begin_from, taught_loss
from amodal_training.trainer import TrainConfig, to_tensors, train_network

SMALL = NetworkConfig((8, 8, 8), (1, 1, 1))
LARGE = NetworkConfig((8, 8, 16), (2, 1, 1))
CONFIG = TrainConfig(
    steps=20, sequences=4, frames=8, learning_rate=0.01, seed=3, precision="32-true", workers=0
)


def network(config: NetworkConfig, seed: int) -> AmodalNetwork:
    torch.manual_seed(seed)
    made = AmodalNetwork(config)
    torch.nn.init.normal_(made.residual.weight, std=0.3)
    return made.eval()


def test_what_is_alike_is_begun_from() -> None:
    student, teacher = network(SMALL, 1), network(LARGE, 2)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    count = begin_from(student, teacher)
    after, taught = student.state_dict(), teacher.state_dict()
    same = {name for name in after if name in taught and taught[name].shape == after[name].shape}
    assert count == len(same)
    assert {"stem.weight", "down_fine.0.body.0.weight", "down_middle.0.weight"} <= same
    assert not any(name.startswith("down_coarse") for name in same if "weight" in name)
    for name, value in after.items():
        assert torch.equal(value, (taught if name in same else before)[name]), name


def test_a_taught_network_comes_to_say_what_its_teacher_says(tmp_path: Path) -> None:
    teacher = network(SMALL, 5)
    known = {name: value.clone() for name, value in teacher.state_dict().items()}
    alone = train_network(tmp_path / "alone", Ellipses(), network(SMALL, 6), CONFIG)
    taught = train_network(
        tmp_path / "taught", Ellipses(), network(SMALL, 6), CONFIG, teacher=teacher
    )
    least = distance(teacher, teacher)
    assert distance(taught, teacher) - least < 0.9 * (distance(alone, teacher) - least)
    assert all(torch.equal(value, known[name]) for name, value in teacher.state_dict().items())


@torch.no_grad()
def distance(student: AmodalNetwork, teacher: AmodalNetwork) -> float:
    """Return the loss over a batch that no step trains on."""
    batch = draw_batch(np.random.default_rng(77), Ellipses(), PasteConfig(), (6, 8))
    crop, context, memory, answer, unknown = to_tensors(batch, torch.device("cpu"))
    made, said = (each.eval().complete(crop, context, memory) for each in (student, teacher))
    target = make_target(crop, answer, unknown)
    return float(taught_loss(made, said, crop[:, 1] + crop[:, 2], target))


def test_no_gradient_reaches_the_teacher_and_own_pixels_teach_nothing() -> None:
    crop = torch.zeros(1, 3, 96, 96)
    crop[:, 0, 20:60, 20:60] = 1
    crop[:, 1, 20:60, 60:90] = 1
    target = make_target(crop, crop[:, 0], torch.zeros(1, 96, 96))
    logits = torch.zeros(1, 96, 96, requires_grad=True)
    confidence = torch.zeros(1, 2)
    said = Completion(torch.full((1, 96, 96), 2.0), confidence)
    loss = taught_loss(Completion(logits, confidence), said, crop[:, 1] + crop[:, 2], target)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert isinstance(gradient, Tensor)
    assert not gradient[0, 20:60, 20:60].any()
    covered, uncovered = gradient[0, 40, 75].abs(), gradient[0, 5, 5].abs()
    assert covered > 5 * uncovered > 0
