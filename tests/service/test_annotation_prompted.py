"""Annotating from prompts: ids, frames without masks, and runs that stop and go on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from stopping_reporter import StoppingReporter

from amodal_model.clip import Mode
from amodal_model.errors import InputError
from amodal_model.masks import decode_rle
from amodal_service.annotation import WORK_FOLDER, AnnotateOptions, annotate
from amodal_service.foreign_formats import WRITERS

CHUNK_FRAMES = 4
LENGTH = 10
SIZE = (96, 128)


def _write_clip(folder: Path) -> Path:
    """Write a red ball that moves over a grey field with some texture."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).integers(0, 40, (*SIZE, 1))
    for index in range(LENGTH):
        image = np.broadcast_to(90 + noise, (*SIZE, 3)).astype(np.uint8)
        cv2.circle(image, (30 + 3 * index, 48), 14, (30, 40, 220), -1)
        cv2.imwrite(str(folder / f"{index:03d}.png"), image)
    return folder


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AnnotateOptions:
    monkeypatch.setattr("amodal_service.journal.CHUNK_FRAMES", CHUNK_FRAMES)
    clip = _write_clip(tmp_path / "clip")
    prompts = [
        {"track_id": 8, "frame_index": 0, "bbox_xyxy": [14, 32, 46, 64]},
        {"track_id": 3, "frame_index": LENGTH - 2, "bbox_xyxy": [100, 4, 120, 20]},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"objects": prompts}))
    return AnnotateOptions(clip, tmp_path / "out", prompts=tmp_path / "p.json")


def _content(path: Path) -> Any:
    return json.loads(path.read_bytes())


@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_the_ids_of_the_prompts_are_those_of_the_result(
    options: AnnotateOptions, mode: Mode
) -> None:
    formats = tuple(WRITERS)
    content = _content(annotate(replace(options, mode=mode, formats=formats), StoppingReporter()))
    assert content["categories"] == [{"id": 1, "name": "object"}]
    video = content["videos"][0]
    assert (video["file_name"], video["width"], video["length"]) == ("clip", 128, LENGTH)
    first, second = content["annotations"]
    assert (first["id"], second["id"]) == (3, 8)
    assert first["segmentations"][: LENGTH - 2] == [None] * (LENGTH - 2)
    assert first["segmentations"][-1] is not None
    assert all(second["visible_segmentations"])
    x0, y0, x1, y1 = decode_rle(second["visible_segmentations"][-1]).bbox_xyxy
    assert abs((x0 + x1) / 2 - 57.5) < 3
    assert abs((y0 + y1) / 2 - 48.5) < 3


@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    options: AnnotateOptions, mode: Mode, tmp_path: Path
) -> None:
    options = replace(options, mode=mode)
    whole = annotate(replace(options, output=tmp_path / "whole"), StoppingReporter())
    with pytest.raises(KeyboardInterrupt):
        annotate(options, StoppingReporter(CHUNK_FRAMES + 2))
    assert [path.name for path in options.output.iterdir()] == [WORK_FOLDER]
    reporter = StoppingReporter()
    assert annotate(options, reporter).read_bytes() == whole.read_bytes()
    # causal goes on from the chunk, offline starts the clip again
    has_resumed = f"resuming: {CHUNK_FRAMES} frames are done" in reporter.text.getvalue()
    assert has_resumed == (mode == "causal")


def test_other_prompts_start_an_interrupted_run_afresh(
    options: AnnotateOptions, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        annotate(options, StoppingReporter(CHUNK_FRAMES + 2))
    content = _content(tmp_path / "p.json")
    content["objects"][0]["bbox_xyxy"] = [12, 30, 48, 66]
    (tmp_path / "p.json").write_text(json.dumps(content))
    reporter = StoppingReporter()
    annotate(options, reporter)
    assert "other inputs or options: starting afresh" in reporter.text.getvalue()


def test_a_dataset_is_annotated_where_it_has_prompts(
    options: AnnotateOptions, tmp_path: Path
) -> None:
    dataset = tmp_path / "dataset"
    for name in ("a", "b"):
        _write_clip(dataset / "videos" / name)
    content = _content(tmp_path / "p.json")
    for entry in content["objects"]:
        entry["video_id"] = 2
    (tmp_path / "p.json").write_text(json.dumps(content))
    reporter = StoppingReporter()
    found = _content(annotate(replace(options, video=dataset), reporter))
    assert [(video["id"], video["file_name"]) for video in found["videos"]] == [(2, "b")]
    assert (options.output / "b" / "frames.csv").exists()
    assert "1 videos without prompts left out, first 'a'" in reporter.text.getvalue()


def test_wrong_prompts_leave_nothing_behind(options: AnnotateOptions, tmp_path: Path) -> None:
    content = _content(tmp_path / "p.json")
    content["objects"][0]["frame_index"] = LENGTH
    (tmp_path / "p.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="frame 10 does not exist, the video has 10"):
        annotate(options, StoppingReporter())
    assert not options.output.exists()


def test_masks_of_a_file_and_of_prompts_are_not_mixed(options: AnnotateOptions) -> None:
    with pytest.raises(InputError, match="not both"):
        annotate(replace(options, visible=Path("visible.json")), StoppingReporter())
