"""Things cut out along their masks: only what is inside, laid elsewhere along another path."""

from pathlib import Path

import numpy as np

from amodal_training.scene_cutouts import read_cutouts, sample_cutout
from amodal_training.silhouette_motion import sample_camera, sample_pose

SIZE = (96, 128)


def test_things_too_small_or_cut_off_by_the_border_are_left_out(passing_dataset: Path) -> None:
    assert read_cutouts(passing_dataset) == ()  # a ball of 20 pixels, a bar from edge to edge


def test_a_cutout_is_drawn_where_its_pose_says() -> None:
    piece = np.zeros((40, 40, 4), np.uint8)
    piece[5:-5, 5:-5] = (90, 80, 70, 255)
    rng = np.random.default_rng(1)
    pose = sample_pose(rng, 6, SIZE, sample_camera(rng, 6, SIZE))
    drawn = sample_cutout([(piece,) * 8], rng, pose).draw(2, SIZE)
    rows, columns = np.nonzero(drawn[..., 3] > 128)
    assert abs(columns.mean() - pose.centre_x[2]) < 2
    assert abs(rows.mean() - pose.centre_y[2]) < 2
