from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from amodal_model.errors import InputError, LimitError
from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.video import open_clip
from amodal_model.youtube_vis import read_mask_file
from amodal_training.benchmark import Recipe, write_clips, write_tabletop
from amodal_training.labeled_clip import LabeledClip
from amodal_training.tabletop_assets import TabletopAssets

FRAME_SIZE = (32, 48)
RECIPE = Recipe({"kind": "squares", "seed": 1}, ("a", "b", "c"), "Nobody's.\n", with_amodal=True)


def square(x0: int) -> BoxedMask:
    mask = np.zeros(FRAME_SIZE, bool)
    mask[8:20, x0 : x0 + 10] = True
    return box_mask(mask)


def make_clip(name: str) -> LabeledClip:
    frames = np.full((3, *FRAME_SIZE, 3), 40 * (1 + ord(name) - ord("a")), np.uint8)
    whole = (square(2), square(4), square(6))
    shown = (square(2), empty_mask(FRAME_SIZE), square(6))
    return LabeledClip(name, f"from-{name}", frames, 12.0, {7: shown}, {7: whole})


def test_a_dataset_holds_every_clip_with_its_source_and_masks(tmp_path: Path) -> None:
    write_clips(RECIPE, tmp_path / "out", make_clip)
    visible = read_mask_file(tmp_path / "out" / "visible.json")
    amodal = read_mask_file(tmp_path / "out" / "amodal.json")
    assert [video.file_name for video in visible.videos] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [video.other["source"] for video in amodal.videos] == ["from-a", "from-b", "from-c"]
    assert visible.tracklets_of(2)[0].segmentations[1] is None
    assert amodal.masks_at(2, 1)[7].bbox_xyxy == (4, 8, 14, 20)
    frames = list(open_clip(tmp_path / "out" / "videos" / "b.mp4").frames())
    assert len(frames) == 3
    assert abs(float(frames[0].image.mean()) - 80) < 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "LICENSE.md",
        "amodal.json",
        "videos",
        "visible.json",
    ]


def test_training_data_has_no_amodal_file(tmp_path: Path) -> None:
    write_clips(replace(RECIPE, with_amodal=False), tmp_path / "out", make_clip)
    assert (tmp_path / "out" / "visible.json").is_file()
    assert not (tmp_path / "out" / "amodal.json").exists()


def test_an_interrupted_dataset_is_resumed_without_making_a_clip_twice(tmp_path: Path) -> None:
    made: list[str] = []

    def interrupted(name: str) -> LabeledClip:
        if name == "c" and "c" not in made:
            made.append(name)
            raise KeyboardInterrupt
        made.append(name)
        return make_clip(name)

    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write_clips(RECIPE, output, interrupted)
    assert not (output / "visible.json").exists()
    write_clips(RECIPE, output, interrupted)
    assert made == ["a", "b", "c", "c"]
    write_clips(RECIPE, tmp_path / "whole", make_clip)
    for name in ("visible.json", "amodal.json"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_finished_dataset_is_left_alone(tmp_path: Path) -> None:
    write_clips(RECIPE, tmp_path / "out", make_clip)

    def never(name: str) -> LabeledClip:
        raise AssertionError(name)

    write_clips(RECIPE, tmp_path / "out", never)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    write_clips(RECIPE, tmp_path / "out", make_clip)
    other = replace(RECIPE, parameters={"kind": "squares", "seed": 2})
    with pytest.raises(InputError, match=r"'seed': 1.*'seed': 2"):
        write_clips(other, tmp_path / "out", make_clip)


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_clips(RECIPE, tmp_path, make_clip)


@pytest.mark.parametrize("content", ["[]", "{}", '{"info": 3}', "no JSON"])
def test_a_dataset_that_is_not_ours_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "visible.json").write_text(content)
    with pytest.raises(InputError, match="holds None"):
        write_clips(RECIPE, tmp_path, make_clip)
    assert (tmp_path / "visible.json").read_text() == content


def test_a_file_as_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        write_clips(RECIPE, tmp_path / "out", make_clip)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": range(0)}, "0 seeds"),
        ({"frames": 1}, "1 frames"),
        ({"frame_size": (31, 48)}, "48x31"),
    ],
)
def test_a_tabletop_out_of_range_is_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    nothing = TabletopAssets((), tmp_path, tmp_path, ())
    wanted: dict[str, object] = {"seeds": range(1), "frames": 4, "frame_size": (48, 64)}
    with pytest.raises(InputError, match=message):
        write_tabletop(tmp_path / "out", assets=nothing, **(wanted | arguments))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_seed_that_is_kept_for_others_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("mujoco", reason="needs the [sim] extra")
    nothing = TabletopAssets((), tmp_path, tmp_path, ())
    with pytest.raises(LimitError, match="seed 1000, limit 0 to 999"):
        write_tabletop(tmp_path / "out", seeds=range(999, 1001), assets=nothing)
