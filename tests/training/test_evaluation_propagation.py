"""J and F of followed objects, and the command that prints them."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from amodal_model.errors import DatasetError
from amodal_model.masks import BoxedMask, box_mask, encode_rle
from amodal_model.visible_source import Arrays, Expectation, Prompt
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, mask_file_json
from amodal_training.evaluate_command import evaluate
from amodal_training.evaluation_propagation import (
    evaluate_propagation,
    means_of,
    print_propagation,
    propagation_json,
)

SIZE = (48, 64)
LENGTH = 6


def _mask(index: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[10:30, 4 + 2 * index : 24 + 2 * index] = True
    return mask


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A red block that moves by two pixels a frame; it shows from frame 1 on."""
    folder = tmp_path / "dataset"
    (folder / "videos" / "a").mkdir(parents=True)
    grain = np.random.default_rng(0).integers(0, 60, (*SIZE, 3))
    for index in range(LENGTH):
        image = (grain + 60).astype(np.uint8)
        image[_mask(index)] = (40, 40, 220)
        cv2.imwrite(str(folder / "videos" / "a" / f"{index}.png"), image)
    rles = tuple(encode_rle(box_mask(_mask(i))) if i else None for i in range(LENGTH))
    video = VideoEntry(1, "a", SIZE[1], SIZE[0], LENGTH, 25.0)
    masks = MaskFile((video,), (Tracklet(5, 1, rles),))
    (folder / "visible.json").write_text(json.dumps(mask_file_json(masks)))
    return folder


class _Still(NamedTuple):
    """The state of a source that leaves the first box where it was."""

    box: tuple[float, float, float, float] | None


class _StillSource:
    def start(self, frame_size: tuple[int, int]) -> _Still:
        return _Still(None)

    def find(
        self,
        image: np.ndarray | None,
        prompts: Sequence[Prompt],
        state: _Still,
        expected: Mapping[int, Expectation],
    ) -> tuple[dict[int, BoxedMask], _Still]:
        box = prompts[0].bbox_xyxy if prompts else state.box
        if box is None:
            return {}, state
        x0, y0, x1, y1 = (int(side) for side in box)
        mask = np.zeros(SIZE, bool)
        mask[y0:y1, x0:x1] = True
        return {5: box_mask(mask)}, _Still(box)

    def save_state(self, state: _Still) -> Arrays:
        return {}

    def load_state(self, arrays: Mapping[str, np.ndarray]) -> _Still:
        return _Still(None)


def test_j_is_the_mean_iou_between_the_first_and_the_last_frame(dataset: Path) -> None:
    (found,) = evaluate_propagation(dataset, _StillSource(), None)
    # shown from frame 1 to 5: measured in 2, 3 and 4, shifted by 2, 4 and 6 of 20 columns
    assert (found.first, found.frames) == (1.0, 3)
    assert found.j == pytest.approx(np.mean([18 / 22, 16 / 24, 14 / 26]))


def test_means_are_over_objects(dataset: Path) -> None:
    (found,) = evaluate_propagation(dataset, _StillSource(), None)
    means = means_of([found, found._replace(j=0.5, f=0.25, file_name="b", cpu_ms=3.0)])
    assert means.j == pytest.approx((found.j + 0.5) / 2)
    assert means.j_and_f == pytest.approx((means.j + (found.f + 0.25) / 2) / 2)
    assert means.cpu_ms == pytest.approx((found.cpu_ms + 3.0) / 2)


def test_the_figures_are_printed_and_written_by_the_command(dataset: Path, tmp_path: Path) -> None:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(evaluate)
    target = tmp_path / "figures.json"
    arguments = [str(dataset), "--prompted", "--model", "none", "--json", str(target)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "1 objects from a box each: J&F" in " ".join(result.stdout.split())
    content = json.loads(target.read_text())
    assert content["objects"][0]["track_id"] == 5
    assert content["means"]["j"] > 0.8


def test_the_table_names_every_object(dataset: Path) -> None:
    text = io.StringIO()
    found = evaluate_propagation(dataset, _StillSource(), None)
    print_propagation(Console(file=text, width=120), found)
    assert "a " in text.getvalue()
    assert set(propagation_json(found)) == {"means", "halves", "objects"}


def test_a_dataset_without_visible_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"visible\.json: no such file"):
        evaluate_propagation(tmp_path, _StillSource(), None)
