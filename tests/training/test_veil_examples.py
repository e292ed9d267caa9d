"""Examples for the judge of veils: what is hidden in them is known, whoever is believed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from amodal_model.masks import BoxedMask, box_mask, subtract
from amodal_model.veil_judge import MAPS
from amodal_model.veils import Sighting
from amodal_training.occluders import PastedSequence
from amodal_training.veil_examples import Guide, draw_examples

SIZE = (90, 140)
LENGTH = 30


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def behind_a_wall_without_a_mask(*, is_carried: bool = False) -> PastedSequence:
    """A standing square; from frame 10 on a wall comes over it by five columns a frame."""
    square = rectangle(40, 25, 80, 65)
    walls = (rectangle(40, 0, min(max(5 * t - 10, 40), 59), 90) for t in range(LENGTH))
    own = [subtract(square, wall) for wall in walls]
    coverage = [mask.full().astype(np.uint8) for mask in own]
    unknown = [np.zeros(SIZE, np.uint8)] * LENGTH
    return PastedSequence(
        own, coverage, [square] * LENGTH, unknown, is_carried=[is_carried] * LENGTH
    )


def usual_of_last(guide: Guide) -> tuple[float, int]:
    """Return how much of what is hidden is still seen usually, and how many examples there are."""
    rng = np.random.default_rng(0)
    examples = draw_examples(rng, [behind_a_wall_without_a_mask()], [guide], 1.0)
    usual, hidden = examples.maps[-1, MAPS.index("usual")], examples.hidden[-1]
    return float(usual[hidden].mean() / 255), len(examples.maps)


def test_what_the_wall_hides_is_asked_for_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    sequence = behind_a_wall_without_a_mask()
    examples = draw_examples(rng, [sequence], [Guide(knows=True)], 1.0)
    assert len(examples.maps) > LENGTH // 2
    own = examples.maps[:, MAPS.index("own")] > 127
    assert not (examples.hidden & own).any()
    assert not (examples.counts & own).any()
    last = examples.hidden[-1] & examples.counts[-1]
    # 19 of 40 columns are hidden
    assert last.sum() / (last.sum() + own[-1].sum()) == pytest.approx(19 / 40, abs=0.05)


def test_a_veil_keeps_what_is_usually_seen() -> None:
    known, _ = usual_of_last(Guide(knows=True))
    nobody, _ = usual_of_last(Guide())
    assert known > nobody + 0.1

    def judge(sighting: Sighting) -> np.ndarray:
        return np.full(sighting.usual.shape, 1.0, np.float32)

    believed, _ = usual_of_last(Guide(judge))
    doubted, _ = usual_of_last(Guide(judge, offset=2.0))
    assert believed == pytest.approx(known, abs=0.05)
    assert doubted == pytest.approx(nobody, abs=0.05)


def test_examples_are_left_out_at_random() -> None:
    rng = np.random.default_rng(0)
    sequences = [behind_a_wall_without_a_mask()] * 4
    every = draw_examples(rng, sequences, [Guide()] * 4, 1.0)
    some = draw_examples(rng, sequences, [Guide()] * 4, 0.5)
    assert 0.3 < len(some.maps) / len(every.maps) < 0.7


def test_targets_that_were_carried_away_are_not_asked_for() -> None:
    rng = np.random.default_rng(0)
    sequence = behind_a_wall_without_a_mask(is_carried=True)
    examples = draw_examples(rng, [sequence], [Guide()], 1.0)
    assert len(examples.maps)
    assert not examples.counts.any()


def test_guides_of_sequences_side_by_side_are_their_own() -> None:
    rng = np.random.default_rng(0)
    sequences = [behind_a_wall_without_a_mask()] * 2
    both = draw_examples(rng, sequences, [Guide(knows=True), Guide()], 1.0)
    usual = both.maps[-2:, MAPS.index("usual")].astype(float) / 255
    first, second = (
        maps[hidden].mean() for maps, hidden in zip(usual, both.hidden[-2:], strict=True)
    )
    assert first > second + 0.1
