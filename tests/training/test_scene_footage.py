"""Footage: small, from the middle; textures of one size; nothing to draw with is refused."""

from pathlib import Path

import numpy as np
import pytest
from small_clips import write_small_clip
from small_scenes import small_clip

from amodal_model.errors import DatasetError
from amodal_training.scene_footage import FOOTAGE_WIDTH, random_texture, read_footage


def test_footage_is_of_one_width(tmp_path: Path) -> None:
    clip = write_small_clip(tmp_path, "a.mp4", 5)
    (footage,) = read_footage([clip.video])
    assert footage.shape == (5, round(48 * FOOTAGE_WIDTH / 64), FOOTAGE_WIDTH, 3)


def test_no_video_is_refused() -> None:
    with pytest.raises(DatasetError, match="no video"):
        read_footage([])


def test_textures_are_square_and_differ() -> None:
    frame = small_clip(0)[0]
    textures = [random_texture(frame, np.random.default_rng(seed), 64) for seed in range(5)]
    assert {texture.shape for texture in textures} == {(64, 64, 3)}
    assert len({texture.tobytes() for texture in textures}) == 5
