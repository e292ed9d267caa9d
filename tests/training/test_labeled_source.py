"""The supervised bound's source: what is drawn is the same, the truth comes with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_training.labeled_source import LabeledSource
from amodal_training.sequences import DatasetSource, flip

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    for name in ("visible.json", "amodal.json"):
        shutil.copy(DEMO / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("is_selection", [False, True])
def test_draws_are_those_of_the_unlabeled_source(is_selection: bool) -> None:
    labeled = LabeledSource(DEMO, is_selection=is_selection)
    plain = DatasetSource(DEMO / "visible.json", is_selection=is_selection)
    assert len(labeled) == len(plain)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(6):
        ours, theirs = labeled.sample(first, 8), plain.sample(second, 8)
        assert theirs.answers is None
        np.testing.assert_array_equal(ours.others, theirs.others)
        for a, b in zip(ours.target, theirs.target, strict=True):
            assert (a is None) == (b is None)
            assert a is None or b is None or np.array_equal(a.full(), b.full())
    assert first.bit_generator.state == second.bit_generator.state


@pytest.mark.parametrize("is_selection", [False, True])
def test_truth_holds_what_shows_in_the_same_frame(is_selection: bool) -> None:
    """Played at every speed and both ways, held out or not: frames must not get mixed up."""
    source, rng = LabeledSource(DEMO, is_selection=is_selection), np.random.default_rng(2)
    shown = hidden = 0
    for _ in range(12):
        sequence = flip(source.sample(rng, 10))
        assert sequence.answers is not None
        for seen, whole in zip(sequence.target, sequence.answers, strict=True):
            if seen is not None:
                assert whole is not None
                assert not (seen.full() & ~whole.full()).any()
                shown += seen.area
                hidden += whole.area - seen.area
    assert shown > 0
    assert hidden > 0 or is_selection


def test_tracklet_without_truth_comes_without_answers(
    dataset: Path, edit_json: Callable[[Path, Callable[[Any], None]], None]
) -> None:
    edit_json(dataset / "amodal.json", lambda content: content["annotations"].clear())
    assert LabeledSource(dataset).sample(np.random.default_rng(0), 6).answers is None


def test_files_that_do_not_fit_are_refused(dataset: Path) -> None:
    content = json.loads((dataset / "amodal.json").read_text())
    content["videos"][0]["length"] -= 1
    for track in content["annotations"]:
        track["segmentations"].pop()
    (dataset / "amodal.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"frames of .* in amodal\.json"):
        LabeledSource(dataset)


def test_missing_truth_is_refused(dataset: Path) -> None:
    (dataset / "amodal.json").unlink()
    with pytest.raises(DatasetError, match=r"amodal\.json: no such file"):
        LabeledSource(dataset)
