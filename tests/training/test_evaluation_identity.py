"""Identity: counts by hand, empty and perfect, and the command that prints them."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from amodal_model.errors import InputError
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.stream import AmodalSegmenter
from amodal_training.evaluate_command import evaluate
from amodal_training.evaluation_clip import open_evaluation_set
from amodal_training.evaluation_identity import (
    IdentityCounts,
    associate_clip,
    count_identity,
    evaluate_identity,
    identity_methods,
    ids_of,
)
from amodal_training.identity_report import sum_counts

BALL, BAR = 4, 9


def square(x: int, side: int = 10) -> BoxedMask:
    full = np.zeros((40, 60), bool)
    full[5 : 5 + side, x : x + side] = True
    return box_mask(full)


def test_counts_by_hand() -> None:
    frames = [{1: 7, 2: 9}, {1: 7}, {2: 9}, {1: 9, 2: 3}, {1: 9, 2: 3}, {}, {1: 9, 5: 7}]
    # 2 returns as 9 in frame 2; 1 returns in frame 3 as 9, which was 2's; 2 changes there to 3;
    # 1 returns in frame 6 as 9; 5 is new and gets 7, which was 1's
    assert count_identity("s", frames) == IdentityCounts("s", 3, 1, 2, 2)


def test_an_id_of_its_own_again_is_a_switch_but_not_mistaken() -> None:
    frames = [{1: 7}, {1: 8}, {1: 7}]
    assert count_identity("s", frames) == IdentityCounts("s", 0, 0, 2, 0)


@pytest.mark.parametrize("frames", [[], [{}, {}], [{1: 7}]])
def test_nothing_to_count_is_zero(frames: list[dict[int, int]]) -> None:
    assert count_identity("s", frames) == IdentityCounts("s", 0, 0, 0, 0)


def test_perfect_ids_count_returns_alone() -> None:
    frames = [{1: 5, 2: 6}, {2: 6}, {1: 5, 2: 6}]
    assert count_identity("s", frames) == IdentityCounts("s", 1, 0, 0, 0)


def test_ids_go_to_the_masks_that_overlap_most() -> None:
    true = {1: square(0), 2: square(20), 3: square(40)}
    found = {8: square(21), 9: square(0), 5: square(2)}
    assert ids_of(true, found) == {1: 9, 2: 8}
    assert ids_of(true, {}) == {}


def test_without_ids_the_order_of_masks_tells_nothing(tiny_segmenter: AmodalSegmenter) -> None:
    frames = [{8: square(3 + step), 3: square(45 - step)} for step in range(5)]
    for segmenter in (None, tiny_segmenter):
        ids = associate_clip(frames, (40, 60), segmenter)
        assert [sorted(one) for one in ids] == [[3, 8]] * 5
        assert all(one == ids[0] for one in ids)


def test_every_method_is_counted_on_every_clip(
    passing_dataset: Path, tiny_segmenter: AmodalSegmenter
) -> None:
    clip = next(open_evaluation_set(passing_dataset).clips())
    shown = [BALL in masks for masks in clip.visible_frames]
    assert not all(shown)
    methods = identity_methods([("with tiny", tiny_segmenter)])
    evaluation = evaluate_identity(passing_dataset, methods, limit_clips=1)
    assert list(evaluation.counts) == [
        "with tiny",
        "without amodal state",
        "with tiny, masks alone",
        "without amodal state, masks alone",
        "by overlap only",
    ]
    for counts in evaluation.counts.values():
        assert [one.source for one in counts] == ["source0"]
        assert sum_counts(counts)["returns"] >= 1


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_command_prints_and_writes_identity(passing_dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "identity.json"
    code, output = run(str(passing_dataset), "--identity", "--model", "none", "--json", str(target))
    assert code == 0, output
    assert "without amodal state" in output
    content = json.loads(target.read_text())
    names = ["without amodal state", "without amodal state, masks alone", "by overlap only"]
    assert list(content["identity"]) == names
    assert len(content["identity"]["by overlap only"]["clips"]) == 2


def test_identity_of_the_future_or_under_noise_is_refused(passing_dataset: Path) -> None:
    with pytest.raises(InputError, match="--identity"):
        evaluate(passing_dataset, identity=True, mode="offline")
    with pytest.raises(InputError, match="--identity"):
        evaluate(passing_dataset, identity=True, noise=True)
