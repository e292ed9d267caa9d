"""Occluders: what they hide is asked back, what is not known is not asked for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from amodal_model.masks import BoxedMask, box_mask
from amodal_training.occluders import PasteConfig, PastedSequence, paste_occluders
from amodal_training.sequences import MaskSequence

SIZE = (70, 100)
FRAMES = 12
CLEAN = PasteConfig(
    none_share=0, noise_share=0, behind_share=0, unseen_share=0, standing_share=0, carried_share=0
)
SEEDS = range(6)


class Ellipses:
    """One moving ellipse a sequence; absent in frame 3, another object at the right border."""

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        x, y = rng.uniform(35, 60), rng.uniform(25, 45)
        speed, radii = rng.uniform(-1, 1, 2), rng.uniform(9, 16, 2)
        target: list[BoxedMask | None] = []
        for index in range(frames):
            across = (columns - x - speed[0] * index) / radii[0]
            down = (rows - y - speed[1] * index) / radii[1]
            target.append(None if index == 3 else box_mask(across**2 + down**2 < 1))
        others = np.zeros(SIZE, np.uint8)
        others[20:60, 85:95] = 1
        return MaskSequence(SIZE, target, [others] * frames)


class NoShapes:
    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        raise AssertionError("a plain occluder needs no silhouette")


def pasted(seed: int, config: PasteConfig) -> tuple[MaskSequence, PastedSequence]:
    rng = np.random.default_rng(seed)
    sequence = Ellipses().sample(rng, FRAMES)
    return sequence, paste_occluders(rng, sequence, Ellipses(), config)


@pytest.mark.parametrize("seed", SEEDS)
def test_hidden_pixels_are_in_the_answer_and_never_in_own(seed: int) -> None:
    sequence, result = pasted(seed, CLEAN)
    hidden_pixels = 0
    for index, given in enumerate(sequence.target):
        own, answer = result.own[index].full(), result.answer[index].full()
        expected = np.zeros(SIZE, bool) if given is None else given.full()
        np.testing.assert_array_equal(answer, expected)
        assert not (own & ~answer).any()
        hidden = answer & ~own
        hidden_pixels += hidden.sum()
        assert (result.coverage[index][hidden] == 1).all(), "the occluder is seen there"
    assert hidden_pixels or seed not in {0, 1}


def test_something_is_hidden_in_most_sequences() -> None:
    rates = []
    for seed in range(20):
        _, result = pasted(seed, CLEAN)
        rates.append(
            sum(a.area - o.area for a, o in zip(result.answer, result.own, strict=True)) > 0
        )
    assert sum(rates) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_masks_do_not_overlap_without_noise(seed: int) -> None:
    _, result = pasted(seed, CLEAN._replace(behind_share=0.5))
    assert max(int(coverage.max()) for coverage in result.coverage) == 1
    for own, coverage in zip(result.own, result.coverage, strict=True):
        assert (coverage[own.full()] == 1).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_occluder_behind_never_hides(seed: int) -> None:
    _, result = pasted(seed, CLEAN._replace(behind_share=1))
    for own, answer in zip(result.own, result.answer, strict=True):
        np.testing.assert_array_equal(own.full(), answer.full())


@pytest.mark.parametrize("seed", SEEDS)
def test_unknown_covers_others_and_absent_frames(seed: int) -> None:
    """Another object may hide the target; where it is absent, nothing is known."""
    sequence, result = pasted(seed, CLEAN)
    for index, (others, unknown) in enumerate(zip(sequence.others, result.unknown, strict=True)):
        assert (unknown[others > 0] == 1).all()
        if sequence.target[index] is None:
            assert unknown.all()
        else:
            assert unknown.sum() == 42 * 12, "the other object and a rim of one pixel"


def test_unseen_occluder_hides_without_a_mask() -> None:
    hidden = 0
    for seed in SEEDS:
        _, result = pasted(seed, CLEAN._replace(unseen_share=1, second_share=0))
        for own, answer, coverage in zip(result.own, result.answer, result.coverage, strict=True):
            gone = answer.full() & ~own.full()
            hidden += gone.sum()
            assert (coverage[gone] == 0).all()
    assert hidden > 0


def test_sequence_without_an_occluder_is_as_it_was() -> None:
    sequence, result = pasted(0, CLEAN._replace(none_share=1))
    for own, answer, others, coverage in zip(
        result.own, result.answer, sequence.others, result.coverage, strict=True
    ):
        np.testing.assert_array_equal(own.full(), answer.full())
        np.testing.assert_array_equal(coverage, np.maximum(others, own.full()))


def test_full_occluders_hide_the_target_entirely_at_times() -> None:
    fully = 0
    for seed in range(20):
        _, result = pasted(seed, CLEAN._replace(full_share=1))
        fully += any(
            answer.area and not own.area
            for own, answer in zip(result.own, result.answer, strict=True)
        )
    assert fully >= 8


def test_standing_occluders_never_show_what_they_hide() -> None:
    standing = 0
    for seed in range(12):
        config = CLEAN._replace(full_share=0, second_share=0, standing_share=1, plain_share=1)
        _, result = pasted(seed, config)
        shares = [
            1 - own.area / answer.area
            for own, answer in zip(result.own, result.answer, strict=True)
            if answer.area
        ]
        standing += min(shares) > 0.02
    assert standing >= 3


def test_targets_that_were_hidden_entirely_come_out_changed() -> None:
    changed = 0
    for seed in range(20):
        config = CLEAN._replace(full_share=1)
        _, plain = pasted(seed, config)
        _, carried = pasted(seed, config._replace(carried_share=1))
        for t, (before, after) in enumerate(zip(plain.answer, carried.answer, strict=True)):
            if not np.array_equal(before.full(), after.full()):
                assert not all(own.area for own in plain.own[: t + 1])
                changed += 1
                break
    assert changed >= 8


def test_dropped_masks_leave_the_answer() -> None:
    _, result = pasted(0, CLEAN._replace(noise_share=1, drop_rate=1))
    assert all(own.area == 0 for own in result.own)
    assert sum(answer.area for answer in result.answer) > 0


def test_noise_moves_contours_by_two_pixels_at_most() -> None:
    kernel = np.ones((5, 5), np.uint8)
    for seed in SEEDS:
        config = CLEAN._replace(none_share=1, noise_share=1, drop_rate=0)
        _, result = pasted(seed, config)
        for own, answer in zip(result.own, result.answer, strict=True):
            whole = answer.full().astype(np.uint8)
            grown, shrunk = cv2.dilate(whole, kernel), cv2.erode(whole, kernel)
            assert not (own.full() & (grown == 0)).any()
            assert not ((shrunk == 1) & ~own.full()).any()


def test_same_seed_pastes_the_same() -> None:
    (_, first), (_, second) = pasted(4, PasteConfig()), pasted(4, PasteConfig())
    for a, b in zip(first.own + first.answer, second.own + second.answer, strict=True):
        np.testing.assert_array_equal(a.full(), b.full())
    np.testing.assert_array_equal(first.coverage, second.coverage)
    np.testing.assert_array_equal(first.unknown, second.unknown)


def labeled(seed: int) -> MaskSequence:
    """The ellipse's lower half is under something; whole ellipses, also in frame 3, are known."""
    sequence = Ellipses().sample(np.random.default_rng(seed), FRAMES)
    whole = [mask for mask in sequence.target if mask is not None]
    answers: list[BoxedMask | None] = [*whole[:3], whole[2], *whole[3:]]
    target = [None if mask is None else upper_half(mask) for mask in sequence.target]
    return sequence._replace(target=target, answers=answers)


def upper_half(mask: BoxedMask) -> BoxedMask:
    full = mask.full()
    full[(mask.bbox_xyxy[1] + mask.bbox_xyxy[3]) // 2 :] = False
    return box_mask(full)


def test_answers_are_asked_for_and_nothing_is_unknown() -> None:
    sequence = labeled(1)
    assert sequence.answers is not None
    result = paste_occluders(np.random.default_rng(5), sequence, Ellipses(), CLEAN)
    for answer, truth in zip(result.answer, sequence.answers, strict=True):
        assert truth is not None
        np.testing.assert_array_equal(answer.full(), truth.full())
    assert not any(unknown.any() for unknown in result.unknown)


def test_answers_change_nothing_that_is_shown() -> None:
    """Supervised and self-supervised learning differ in labels alone: same draws, same masks."""
    sequence, config = labeled(2), PasteConfig(none_share=0, noise_share=1)
    with_answers, without = (
        paste_occluders(np.random.default_rng(3), given, Ellipses(), config)
        for given in (sequence, sequence._replace(answers=None))
    )
    np.testing.assert_array_equal(with_answers.coverage, without.coverage)
    for a, b in zip(with_answers.own, without.own, strict=True):
        np.testing.assert_array_equal(a.full(), b.full())
    assert with_answers.softness == without.softness


def test_target_that_is_not_in_the_frame_has_an_empty_answer() -> None:
    sequence = labeled(0)
    gone = sequence._replace(answers=[None] * FRAMES)
    result = paste_occluders(np.random.default_rng(0), gone, Ellipses(), CLEAN)
    assert all(answer.area == 0 for answer in result.answer)


def test_pasting_leaves_the_sequence_alone() -> None:
    sequence, _ = pasted(2, PasteConfig(none_share=0, noise_share=1))
    for others in sequence.others:
        assert others.sum() == 400


def test_plain_occluders_need_no_silhouettes() -> None:
    rng = np.random.default_rng(0)
    sequence = Ellipses().sample(rng, FRAMES)
    for _ in range(5):
        result = paste_occluders(rng, sequence, NoShapes(), CLEAN._replace(plain_share=1))
        assert len(result.own) == FRAMES
