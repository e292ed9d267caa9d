"""Layers: laid over each other as opacity says, textures that move with what they cover."""

import numpy as np
from small_scenes import small_clip, small_library

from amodal_training.scene_layers import over, premultiplied, sample_figure, sample_puppet
from amodal_training.silhouette_motion import sample_camera, sample_gait, sample_pose

SIZE = (96, 128)


def test_half_opaque_red_over_blue_is_half_of_both() -> None:
    red = premultiplied(np.full((2, 2, 3), (200, 0, 0), np.uint8), np.full((2, 2), 128, np.uint8))
    blue = np.full((2, 2, 3), (0, 0, 100), np.uint8)
    assert np.abs(over(red, blue)[0, 0].astype(int) - (100, 0, 50)).max() <= 1


def test_an_opaque_layer_hides_what_is_behind_and_an_empty_one_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    back = np.full((4, 4, 3), 7, np.uint8)
    assert np.array_equal(over(premultiplied(image, np.full((4, 4), 255, np.uint8)), back), image)
    assert np.array_equal(over(premultiplied(image, np.zeros((4, 4), np.uint8)), back), back)


def test_puppets_and_figures_are_drawn_premultiplied_inside_the_frame() -> None:
    footage, shown = (small_clip(0),), 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        camera = sample_camera(rng, 6, SIZE)
        pose, gait = sample_pose(rng, 6, SIZE, camera), sample_gait(rng, 6)
        things = (
            sample_puppet(small_library(), footage, rng, pose, gait),
            sample_figure(footage, rng, pose, gait),
        )
        for thing in things:
            layer = thing.draw(3, SIZE)
            assert layer.shape == (*SIZE, 4)
            shown += bool((layer[..., 3] >= 128).any())
            assert (layer[..., :3].astype(int) <= layer[..., 3:].astype(int) + 1).all()
    assert shown >= 8  # of 12; the others are beyond the border
