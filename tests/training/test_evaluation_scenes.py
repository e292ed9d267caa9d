"""Figures on scenes with pictures, that nobody has labelled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner
from veiled_box import BACKGROUND, LENGTH, box_at, pictures, wall_at

from amodal_model.errors import DatasetError
from amodal_model.masks import mask_iou
from amodal_training.evaluate_drawn_command import evaluate_drawn
from amodal_training.evaluation_scenes import open_scene_set
from amodal_training.veil_scenes import OTHERS, VeilScene

pytest.importorskip("onnxruntime")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """One scene: a wall passes before a box, thing 1; the wall takes a label that is no target."""
    labels, wholes = np.zeros((2, LENGTH, *BACKGROUND.shape[:2]), np.uint8)
    for t in range(LENGTH):
        labels[t][box_at(t).full()] = 1
        labels[t][wall_at(t).full()] = OTHERS
        wholes[t][box_at(t).full()] = 1
    scene = VeilScene(np.stack(pictures()), labels, wholes, np.ones(OTHERS, bool))
    folder = tmp_path / "scenes"
    folder.mkdir()
    np.savez(folder / "wall-000000.npz", **scene._asdict())
    return folder


def miou_full(scenes: Path, output: Path, *options: str) -> float:
    app = typer.Typer()
    app.command()(evaluate_drawn)
    arguments = [str(scenes), "--no-baselines", "--json", str(output), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (found,) = json.loads(output.read_text())["methods"].values()
    return float(found["figures"]["miou_full"]["mean"])


def test_a_judge_is_measured_on_what_crosses_without_a_mask(scenes: Path, tmp_path: Path) -> None:
    clip = next(open_scene_set(scenes, 1.0, 0).clips())
    assert clip.is_looked_at
    whole = clip.amodal[1][20]
    assert whole is not None
    assert mask_iou(whole, box_at(20)) == 1
    assert all(set(masks) == {1} for masks in clip.visible_frames)
    judged = miou_full(scenes, tmp_path / "judged.json", "--unseen-share", "1")
    alone = miou_full(scenes, tmp_path / "alone.json", "--unseen-share", "1", "--judge", "none")
    assert judged > alone + 0.05


def test_with_masks_all_that_crosses_is_one_other_object(scenes: Path) -> None:
    clip = next(open_scene_set(scenes, 0.0, 0).clips())
    assert clip.visible_frames[20][2].area == wall_at(20).area


def test_a_folder_without_a_scene_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no scene"):
        open_scene_set(tmp_path, 1.0, 0)
