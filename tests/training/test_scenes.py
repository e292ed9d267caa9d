"""Drawn scenes: reproducible, with labels that are exact and flows that say where pixels were."""

import numpy as np
import pytest
from small_scenes import small_clip, small_parts

from amodal_training.scenes import FLOW_UNIT, SCENE_FRAMES, SCENE_SIZE, Scene, draw_scene, flows_of


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(small_parts(), np.random.default_rng(seed)) for seed in range(4)]


def test_the_same_seed_draws_the_same_scene(scenes: list[Scene]) -> None:
    again = draw_scene(small_parts(), np.random.default_rng(2))
    assert all(np.array_equal(a, b) for a, b in zip(scenes[2], again, strict=True))


def test_scenes_have_one_shape_and_things_that_move(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.images.shape == (SCENE_FRAMES, *SCENE_SIZE, 3)
        assert scene.labels.shape == (SCENE_FRAMES, *SCENE_SIZE)
        assert scene.flows.shape == (SCENE_FRAMES, *SCENE_SIZE, 2)
        assert 1 <= scene.labels.max() <= 5
        assert (scene.labels[0] != scene.labels[-1]).any()


def test_a_flow_says_where_a_pixel_was() -> None:
    frames = small_clip(3)[:, :160, :256]  # what is at x now was at x + 3
    flows = flows_of(frames) * FLOW_UNIT
    assert not flows[0].any()
    inner = flows[1:, 20:-20, 20:-20]
    assert np.abs(inner - (3, 0)).mean() < 0.2
