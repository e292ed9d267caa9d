"""The bundled clips, annotated, drawn and measured."""

import io
import json
from pathlib import Path

import cv2
import pytest
from rich.console import Console

from amodal_model.errors import DatasetError
from amodal_model.masks import decode_rle
from amodal_model.video import open_clip
from amodal_service.amodal_json import Segmented
from amodal_service.demo import OVERLAY_SIZE, measure, run_demo
from amodal_service.progress import Reporter


@pytest.fixture
def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO()))


@pytest.fixture
def clips(segmented: Segmented, tmp_path: Path) -> Path:
    """Demo clips of one dataset: a block, and an object behind it that is later not there."""
    dataset = tmp_path / "clips" / "first"
    (dataset / "videos").mkdir(parents=True)
    segmented.source.clip.path.rename(dataset / "videos" / "clip")
    video = {"id": 7, "file_name": "clip", "width": 64, "height": 48, "length": 4, "fps": 10}
    tracks = {track.track_id: list(track.segmentations) for track in segmented.source.tracklets}
    for name in ("visible.json", "amodal.json"):
        content = {
            "videos": [video],
            "annotations": [
                {"id": track_id, "video_id": 7, "category_id": 1, "segmentations": segmentations}
                for track_id, segmentations in tracks.items()
            ],
        }
        (dataset / name).write_text(json.dumps(content))
        tracks[2] = [
            record["objects"][1]["segmentation"] if n else None
            for n, record in enumerate(segmented.journal.records())
        ]
    return tmp_path / "clips"


def test_the_demo_writes_pictures_masks_and_figures(
    clips: Path, tmp_path: Path, quiet: Reporter
) -> None:
    lines = run_demo(clips, tmp_path / "out", quiet)
    text = "\n".join(lines)
    for name in ("overlay.mp4", "contact_sheet.png", "first/amodal.json"):
        assert (tmp_path / "out" / name).is_file()
        assert str(tmp_path / "out" / name) in text
    assert "miou_full" in text
    clip = open_clip(tmp_path / "out" / "overlay.mp4")
    assert clip.frame_size == OVERLAY_SIZE
    assert len(list(clip.frames())) == 4
    assert cv2.imread(str(tmp_path / "out" / "contact_sheet.png")) is not None


def test_the_figures_are_those_of_the_definition(
    clips: Path, segmented: Segmented, tmp_path: Path
) -> None:
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(r) + "\n" for r in segmented.journal.records()))
    figures = measure(clips / "first", records)
    assert (figures.miou_full, figures.miou_occ) == (1.0, 1.0)  # the truth is what was predicted
    # object 1 is whole; object 2 shows 100 of 200 pixels, then none
    assert figures.visible_miou_full == pytest.approx((1.0 + (0.5 + 0.0) / 2) / 2)
    truth = json.loads((clips / "first" / "amodal.json").read_text())
    rle = truth["annotations"][1]["segmentations"][1]
    assert decode_rle(rle).area == 200


def test_a_place_without_clips_is_one_line(tmp_path: Path, quiet: Reporter) -> None:
    with pytest.raises(DatasetError, match="no demo clips"):
        run_demo(tmp_path, tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
