"""The bundled clips are what their mask files say."""

from pathlib import Path

import pytest

from amodal_model.masks import BoxedMask, overlap_area, subtract
from amodal_model.video import open_clip
from amodal_model.youtube_vis import MaskFile, read_mask_file

DEMO = Path(__file__).parents[2] / "examples" / "demo"
DATASETS = sorted(path.parent for path in DEMO.glob("*/visible.json"))


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda path: path.name)
def test_mask_file_fits_the_video(dataset: Path) -> None:
    for video in read_mask_file(dataset / "visible.json").videos:
        clip = open_clip(dataset / "videos" / video.file_name)
        assert clip.frame_size == video.frame_size
        assert sum(1 for _ in clip.frames()) == video.length


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda path: path.name)
def test_every_dataset_states_its_licence(dataset: Path) -> None:
    assert "licen" in (dataset / "LICENSE.md").read_text().lower()


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda path: path.name)
def test_visible_masks_of_one_frame_do_not_overlap(dataset: Path) -> None:
    masks = read_mask_file(dataset / "visible.json")
    for frame_index in range(0, masks.videos[0].length, 7):
        frame = list(masks.masks_at(masks.videos[0].video_id, frame_index).values())
        for index, mask in enumerate(frame):
            assert not any(overlap_area(mask, other) for other in frame[index + 1 :])


def test_duck_passes_behind_the_box_and_comes_back() -> None:
    seen = [mask is not None for mask in _track(read_mask_file(DEMO / "teaduck/visible.json"), 1)]
    first_hidden, last_hidden = seen.index(False), len(seen) - 1 - seen[::-1].index(False)
    assert 0 < first_hidden < last_hidden < len(seen) - 1
    assert not any(seen[first_hidden : last_hidden + 1])


def test_amodal_truth_contains_the_visible_mask() -> None:
    visible = read_mask_file(DEMO / "tabletop/visible.json")
    amodal = read_mask_file(DEMO / "tabletop/amodal.json")
    for track in visible.tracklets:
        pairs = zip(_track(visible, track.track_id), _track(amodal, track.track_id), strict=True)
        for shown, whole in pairs:
            if shown is not None:
                assert whole is not None
                assert subtract(shown, whole).area == 0


def _track(masks: MaskFile, track_id: int) -> list[BoxedMask | None]:
    tracklet = next(t for t in masks.tracklets if t.track_id == track_id)
    return [tracklet.mask(index) for index in range(len(tracklet.segmentations))]
