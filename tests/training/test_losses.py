"""Losses: by hand, perfect, and with nothing to learn from."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from amodal_training.losses import (  # noqa: E402
    LEAST_AREA,
    OPEN_WEIGHT,
    Target,
    confidence_loss,
    has_hidden_part,
    hidden_iou_loss,
    make_target,
    measured_iou,
    silhouette_loss,
    whole_iou_loss,
)

S = 32
SURE = 30.0


def columns(first: int, last: int) -> Tensor:
    """Return columns ``first`` to ``last - 1`` of a crop, (1, S, S)."""
    mask: Tensor = torch.zeros(1, S, S)
    mask[:, :, first:last] = 1
    return mask


def target_of(answer: Tensor, own: Tensor, covered: Tensor) -> Target:
    """Return a target where everything is known."""
    return Target(answer, own, 1 - own, covered)


def logits_of(mask: Tensor) -> Tensor:
    return SURE * (2 * mask - 1)


HALF_HIDDEN = target_of(columns(0, 8), columns(0, 4), columns(4, 32))
"""Half of the object is hidden by what covers the rest of the crop."""
OPEN_VIEW = target_of(columns(0, 8), columns(0, 8), columns(0, 0))
NOTHING = target_of(columns(0, 0), columns(0, 0), columns(0, 0))


def test_target_is_what_is_known_and_not_own() -> None:
    crop = torch.zeros(1, 3, 4, 4)
    crop[0, 0, :, 0] = 1
    crop[0, 1, :, 1:3] = 1
    answer, unknown = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    answer[..., :2] = 0.9
    unknown[0, 1, 2] = 1
    target = make_target(crop, answer, unknown)
    assert target.answer[0].tolist() == [[1, 1, 0, 0]] * 4
    assert target.own[0].tolist() == [[1, 0, 0, 0]] * 4
    assert target.open[0, :2].tolist() == [[0, 1, 1, 1], [0, 1, 0, 1]]
    assert target.covered[0, :2].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]


def test_perfect_silhouettes_cost_nothing() -> None:
    for target in (HALF_HIDDEN, OPEN_VIEW, NOTHING):
        logits = logits_of(target.answer)
        assert silhouette_loss(logits, target) == pytest.approx(0, abs=1e-6)
        assert hidden_iou_loss(logits, target) == pytest.approx(0, abs=1e-6)


def test_perfect_whole_silhouette_costs_nothing() -> None:
    for target in (HALF_HIDDEN, OPEN_VIEW):
        loss = whole_iou_loss(logits_of(target.answer), target)
        assert loss == pytest.approx(0, abs=1e-6)


def test_silhouette_loss_by_hand() -> None:
    """No object, an even guess: ten covered columns weigh 1, the other open ones less."""
    target = target_of(columns(0, 0), columns(0, 2), columns(2, 12))
    expected = math.log(2) * S * (10 + OPEN_WEIGHT * (S - 12)) / LEAST_AREA
    assert silhouette_loss(torch.zeros(1, S, S), target) == pytest.approx(expected, rel=1e-5)


def test_rim_of_the_silhouette_weighs_double() -> None:
    """A wrong pixel far from the contour costs half as much as one beside it."""
    target = target_of(columns(0, 8), columns(0, 4), columns(4, 32))
    costs = []
    for column in (9, 25):
        wrong = target.answer.clone()
        wrong[0, 16, column] = 1
        costs.append(float(silhouette_loss(logits_of(wrong), target)))
    assert costs[0] == pytest.approx(2 * costs[1], rel=1e-4)


def test_loss_is_a_mean_over_objects() -> None:
    both = Target(*(torch.cat(pair) for pair in zip(HALF_HIDDEN, OPEN_VIEW, strict=True)))
    logits = torch.zeros(2, S, S)
    single = [silhouette_loss(logits[:1], target) for target in (HALF_HIDDEN, OPEN_VIEW)]
    assert silhouette_loss(logits, both) == pytest.approx(float(sum(single)) / 2, rel=1e-5)


def test_what_is_not_known_costs_nothing() -> None:
    unknown = Target(columns(0, 8), columns(0, 4), columns(8, 8), columns(8, 8))
    wrong = logits_of(columns(8, 32))
    assert silhouette_loss(wrong, unknown) == 0
    assert hidden_iou_loss(wrong, unknown) == 0
    assert whole_iou_loss(wrong, unknown) == 0


def test_hidden_iou_loss_by_hand() -> None:
    """Four hidden columns, six predicted, four of them right: 1 - 4 / 6."""
    loss = hidden_iou_loss(logits_of(columns(0, 10)), HALF_HIDDEN)
    assert loss == pytest.approx(1 - 4 / 6, abs=1e-5)
    loss = hidden_iou_loss(torch.zeros(1, S, S), HALF_HIDDEN)
    assert loss == pytest.approx(1 - 2 / (14 + 4 - 2), abs=1e-5), "half of 28 columns"


def test_hidden_iou_loss_counts_objects_with_a_hidden_part_alone() -> None:
    both = Target(*(torch.cat(pair) for pair in zip(HALF_HIDDEN, OPEN_VIEW, strict=True)))
    logits = logits_of(columns(0, 10)).repeat(2, 1, 1)
    assert hidden_iou_loss(logits, both) == pytest.approx(1 - 4 / 6, abs=1e-5)
    assert hidden_iou_loss(logits[1:], OPEN_VIEW) == 0


def test_whole_iou_loss_by_hand() -> None:
    """Eight columns are the object, ten are said: 1 - 8 / 10."""
    loss = whole_iou_loss(logits_of(columns(0, 10)), HALF_HIDDEN)
    assert loss == pytest.approx(1 - 8 / 10, abs=1e-5)


def test_hidden_part_counts_from_a_share_and_a_size() -> None:
    big = columns(0, 31)
    small = big.clone()
    small[:, :11, 30] = 0  # 21 of 992 pixels are hidden: two per cent
    assert not has_hidden_part(target_of(big, columns(0, 30), columns(30, 31) * (1 - small)))
    assert has_hidden_part(HALF_HIDDEN).tolist() == [True]
    assert has_hidden_part(OPEN_VIEW).tolist() == [False]
    dot = torch.zeros(1, S, S)
    dot[:, :3, :3] = 1
    assert has_hidden_part(target_of(dot, columns(0, 0), dot)).tolist() == [False]


def test_measured_ious_by_hand() -> None:
    whole, hidden = measured_iou(logits_of(columns(4, 10)), HALF_HIDDEN)
    assert whole.item() == pytest.approx(8 / 10), "the visible part is given"
    assert hidden.item() == pytest.approx(4 / 6)


def test_measured_iou_of_nothing_is_one() -> None:
    whole, hidden = measured_iou(logits_of(columns(0, 0)), NOTHING)
    assert (whole.item(), hidden.item()) == (1, 1)


def test_confidence_loss_by_hand() -> None:
    """An even guess costs log 2 whatever was reached; the hidden part counts where there is one."""
    even = torch.zeros(1, 2)
    logits = logits_of(columns(0, 10))
    assert confidence_loss(even, logits, HALF_HIDDEN) == pytest.approx(math.log(2), rel=1e-5)
    biased = torch.tensor([[0.0, SURE]])
    assert confidence_loss(biased, logits, OPEN_VIEW) == pytest.approx(math.log(2), rel=1e-5)
    assert confidence_loss(biased, logits, HALF_HIDDEN) > 3


def test_confidence_that_says_what_is_reached_is_the_best() -> None:
    logits = logits_of(columns(0, 10))
    reached = torch.logit(torch.tensor([[8 / 10, 4 / 6]]))
    best = confidence_loss(reached, logits, HALF_HIDDEN)
    for other in (reached + 0.3, reached - 0.3):
        assert confidence_loss(other, logits, HALF_HIDDEN) > best


def test_confidence_teaches_no_silhouette() -> None:
    logits = torch.zeros(1, S, S, requires_grad=True)
    confidence = torch.zeros(1, 2, requires_grad=True)
    loss = confidence_loss(confidence, logits, HALF_HIDDEN)
    taught = torch.autograd.grad(loss, [confidence, logits], allow_unused=True)
    assert taught[0].abs().sum() > 0
    assert taught[1] is None
