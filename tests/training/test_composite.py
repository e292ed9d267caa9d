from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_model.masks import box_mask, encode_rle, overlap_area, subtract
from amodal_model.video import open_clip
from amodal_model.video_writer import VideoWriter
from amodal_model.youtube_vis import (
    MaskFile,
    Tracklet,
    VideoEntry,
    mask_file_json,
    read_mask_file,
)
from amodal_training.benchmark import write_davis_composite
from amodal_training.composite import (
    OCCLUDER_ID,
    TARGET_ID,
    cutout_of,
    make_composite,
    pass_kind,
    read_sequences,
)
from amodal_training.composite_plan import plan_pass
from amodal_training.occluder_pass import (
    Cutout,
    OccluderPass,
    PassKind,
    covered_rates,
    target_of,
)

HEIGHT, WIDTH, FRAMES = 64, 96, 24


def moving_disk(radius: int, start_x: float, speed: float) -> list[np.ndarray]:
    masks = []
    for index in range(FRAMES):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        center = (round(start_x + speed * index), HEIGHT // 2)
        cv2.ellipse(mask, center, (radius, radius - 3), 20, 0, 360, 1, -1)
        masks.append(mask.astype(bool))
    return masks


SHAPES = {
    "green": (moving_disk(12, 36, 1.0), (20, 200, 20)),
    "red": (moving_disk(16, 60, -0.5), (200, 20, 20)),
}


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("davis")
    (folder / "videos").mkdir()
    videos, tracklets = [], []
    for video_id, (name, (masks, color)) in enumerate(SHAPES.items(), start=1):
        with VideoWriter(folder / "videos" / f"{name}.mp4", fps=12.0) as writer:
            for index, mask in enumerate(masks):
                image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
                image[mask] = color
                writer.write(image, index / 12)
        videos.append(VideoEntry(video_id, f"{name}.mp4", WIDTH, HEIGHT, FRAMES, 12.0))
        runs = tuple(encode_rle(box_mask(mask)) for mask in masks)
        tracklets.append(Tracklet(1, video_id, runs))
    content = mask_file_json(MaskFile(tuple(videos), tuple(tracklets)))
    (folder / "visible.json").write_text(json.dumps(content))
    (folder / "tags.json").write_text(json.dumps({"whole_silhouette": ["green", "red"]}))
    return folder


@pytest.fixture(scope="module")
def dataset(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("composites") / "davis-composite"
    write_davis_composite(davis, output, seed=3, per_target=4)
    return output


def test_the_amodal_truth_is_the_annotated_silhouette_on_every_frame(dataset: Path) -> None:
    amodal = read_mask_file(dataset / "amodal.json")
    assert len(amodal.videos) == 8
    for video in amodal.videos:
        (track,) = amodal.tracklets_of(video.video_id)
        assert track.track_id == TARGET_ID
        for index, truth in enumerate(SHAPES[video.other["source"]][0]):
            found = track.mask(index)
            assert found is not None
            assert np.array_equal(found.full(), truth)


def test_visible_masks_are_disjoint_and_the_target_lies_within_its_truth(dataset: Path) -> None:
    visible = read_mask_file(dataset / "visible.json")
    amodal = read_mask_file(dataset / "amodal.json")
    for video in visible.videos:
        for index in range(video.length):
            seen = visible.masks_at(video.video_id, index)
            truth = amodal.masks_at(video.video_id, index)[TARGET_ID]
            if TARGET_ID in seen:
                assert subtract(seen[TARGET_ID], truth).area == 0
            if len(seen) == 2:
                assert overlap_area(seen[TARGET_ID], seen[OCCLUDER_ID]) == 0
            hidden = truth.area - (seen[TARGET_ID].area if TARGET_ID in seen else 0)
            over = overlap_area(truth, seen[OCCLUDER_ID]) if OCCLUDER_ID in seen else 0
            assert hidden == over


def test_a_cover_hides_the_target_entirely_and_gives_it_back(dataset: Path) -> None:
    visible = read_mask_file(dataset / "visible.json")
    video = visible.video_named("green-0.mp4")
    target = visible.tracklets_of(video.video_id)[0]
    shown = np.array([target.mask(index) is not None for index in range(FRAMES)])
    assert np.count_nonzero(~shown) >= 5
    assert shown[:6].all()
    assert shown[np.flatnonzero(~shown)[-1] :].any()


@pytest.mark.parametrize("kind", ["linger", "cross"])
def test_partial_passes_hide_much_but_start_clean(davis: Path, kind: PassKind) -> None:
    sequences = read_sequences(davis)
    target = target_of("green", sequences.masks_of("green"))
    passing = plan_pass(kind, target, [cutout_of(sequences, "red")], np.random.default_rng(1))
    rates = covered_rates(passing, target)
    assert rates[:6].max() < 0.02
    assert 0.27 < rates.max() < 1.0


def test_an_occluder_behind_the_target_hides_nothing_of_it(davis: Path) -> None:
    sequences = read_sequences(davis)
    assert pass_kind(0, 3) == "behind"
    cutouts = [cutout_of(sequences, name) for name in sequences.names]
    clip = make_composite(sequences, cutouts, "green", 3, 0)
    hidden_behind = 0
    for index, truth in enumerate(SHAPES["green"][0]):
        assert np.array_equal(clip.visible[TARGET_ID][index].full(), truth)
        hidden_behind += int(clip.visible[OCCLUDER_ID][index].area > 0)
    assert hidden_behind > 0


def test_pasted_pixels_show_the_occluder_inside_its_mask(dataset: Path) -> None:
    visible = read_mask_file(dataset / "visible.json")
    video = visible.video_named("green-0.mp4")
    checked = 0
    for frame in open_clip(dataset / "videos" / video.file_name).frames():
        over = visible.masks_at(video.video_id, frame.index).get(OCCLUDER_ID)
        if over is None or over.area < 100:
            continue
        inner = cv2.erode(over.full().astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
        red, green, _ = frame.image[inner].mean(axis=0)
        assert red > 150 > green
        checked += 1
    assert checked > 5


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    davis: Path, dataset: Path, tmp_path: Path
) -> None:
    write_davis_composite(davis, tmp_path / "again", seed=3, per_target=4)
    write_davis_composite(davis, tmp_path / "other", seed=4, per_target=1)
    for name in ("visible.json", "amodal.json"):
        assert (dataset / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    first = read_mask_file(dataset / "visible.json").tracklets_of(1)[1]
    other = read_mask_file(tmp_path / "other" / "visible.json").tracklets_of(1)[1]
    assert first.segmentations != other.segmentations


def test_a_target_without_a_mask_on_some_frame_is_refused() -> None:
    masks = [box_mask(mask) for mask in SHAPES["green"][0]]
    masks[4] = box_mask(np.zeros((HEIGHT, WIDTH), bool))
    with pytest.raises(DatasetError, match="green, frame 4"):
        target_of("green", masks)


def test_a_folder_without_tags_is_refused(davis: Path, tmp_path: Path) -> None:
    (tmp_path / "visible.json").write_bytes((davis / "visible.json").read_bytes())
    with pytest.raises(DatasetError, match=r"tags\.json"):
        read_sequences(tmp_path)


def test_a_short_occluder_plays_there_and_back() -> None:
    masks = tuple(box_mask(mask) for mask in SHAPES["red"][0][:4])
    cutout = Cutout("red", masks, (10, 11, 12, 13))
    assert [cutout.position(index) for index in range(8)] == [0, 1, 2, 3, 2, 1, 0, 1]


def test_a_pasted_occluder_is_centred_where_the_path_says() -> None:
    mask = box_mask(SHAPES["red"][0][0])
    centers = np.array([[30.0, 20.0]])
    for flipped in (False, True):
        passing = OccluderPass("cross", Cutout("red", (mask,), (0,)), 0, flipped, 0.8, centers)
        x0, y0, x1, y1 = box_mask(passing.silhouette(0, (HEIGHT, WIDTH))).bbox_xyxy
        assert abs((x0 + x1) / 2 - 30) <= 0.5
        assert abs((y0 + y1) / 2 - 20) <= 0.5
