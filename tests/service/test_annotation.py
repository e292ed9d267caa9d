"""Runs that stop and go on, and what is left behind when they cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stopping_reporter import StoppingReporter

from amodal_model.clip import Mode
from amodal_model.errors import DatasetError, LimitError
from amodal_model.masks import box_mask, encode_rle
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, mask_file_json
from amodal_service.annotation import WORK_FOLDER, AnnotateOptions, annotate

CHUNK_FRAMES = 8
"""Frames between checkpoints here: few, so that short clips have several."""
LENGTH = CHUNK_FRAMES + 6
SIZE = (48, 64)


def _masks(moved: int = 0, length: int = LENGTH) -> MaskFile:
    """Return the masks of a block that drifts to the right under a bar."""
    tracks = []
    for track_id, speed in ((1, 1.6), (2, 0.0)):
        rles = []
        for index in range(length):
            mask = np.zeros(SIZE, bool)
            left = round(8 + moved + speed * index) if speed else 26
            mask[12:30, left : left + 14] = True
            if speed:
                mask[:, 26:40] = False
            rles.append(encode_rle(box_mask(mask)) if mask.any() else None)
        tracks.append(Tracklet(track_id, 1, tuple(rles)))
    return MaskFile((VideoEntry(1, "clip", SIZE[1], SIZE[0], length, 25.0),), tuple(tracks))


def _save(masks: MaskFile, path: Path) -> None:
    path.write_text(json.dumps(mask_file_json(masks)))


@pytest.fixture
def options(
    tmp_path: Path, frames: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> AnnotateOptions:
    monkeypatch.setattr("amodal_service.journal.CHUNK_FRAMES", CHUNK_FRAMES)
    frames(tmp_path / "clip", LENGTH)
    _save(_masks(), tmp_path / "visible.json")
    return AnnotateOptions(tmp_path / "clip", tmp_path / "out", tmp_path / "visible.json")


def _interrupt(options: AnnotateOptions, after: int) -> str:
    reporter = StoppingReporter(after)
    with pytest.raises(KeyboardInterrupt):
        annotate(options, reporter)
    return reporter.text.getvalue()


def _finish(options: AnnotateOptions) -> tuple[bytes, str]:
    reporter = StoppingReporter()
    path = annotate(options, reporter)
    assert not (options.output / WORK_FOLDER).exists()
    return path.read_bytes(), reporter.text.getvalue()


@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_a_resumed_run_ends_as_an_uninterrupted_one(
    options: AnnotateOptions, mode: Mode, tmp_path: Path
) -> None:
    options = replace(options, mode=mode)
    whole, _ = _finish(replace(options, output=tmp_path / "whole"))
    _interrupt(options, CHUNK_FRAMES + 2)
    assert [p.name for p in options.output.iterdir()] == [WORK_FOLDER]
    resumed, said = _finish(options)
    assert resumed == whole
    # causal goes on from the chunk, offline starts the clip again
    assert (f"resuming: {CHUNK_FRAMES} frames are done" in said) == (mode == "causal")


def test_a_run_stopped_while_drawing_does_not_segment_again(
    options: AnnotateOptions, tmp_path: Path
) -> None:
    options = replace(options, overlay=True)
    _interrupt(options, LENGTH + 3)
    assert not (options.output / "overlay.mp4").exists()
    _, said = _finish(options)
    assert f"resuming: {LENGTH} frames are done" in said
    assert (options.output / "overlay.mp4").stat().st_size > 0


def test_other_inputs_start_afresh_with_one_line(options: AnnotateOptions, tmp_path: Path) -> None:
    _interrupt(options, CHUNK_FRAMES + 2)
    _save(_masks(moved=4), tmp_path / "visible.json")
    resumed, said = _finish(options)
    assert said == "the interrupted run had other inputs or options: starting afresh\n"
    whole, _ = _finish(replace(options, output=tmp_path / "whole"))
    assert resumed == whole


@pytest.mark.parametrize("had_pictures", [True, False])
def test_a_run_is_gone_on_with_where_it_looks_at_pictures_as_before(
    options: AnnotateOptions, had_pictures: bool
) -> None:
    _interrupt(replace(options, pictures=had_pictures), CHUNK_FRAMES + 2)
    _interrupt(replace(options, pictures=had_pictures), 2)
    said = _interrupt(replace(options, pictures=not had_pictures), CHUNK_FRAMES + 2)
    assert "other inputs or options: starting afresh" in said
    _, said = _finish(replace(options, pictures=not had_pictures))
    assert f"resuming: {CHUNK_FRAMES} frames are done" in said


def test_a_run_stopped_before_its_first_chunk_leaves_nothing(options: AnnotateOptions) -> None:
    _interrupt(options, 5)
    assert not options.output.exists()


def test_a_failing_run_keeps_what_was_in_the_output(
    options: AnnotateOptions, tmp_path: Path
) -> None:
    options.output.mkdir()
    (options.output / "mine.txt").write_text("kept")
    _save(_masks(length=LENGTH + 2), tmp_path / "visible.json")
    with pytest.raises(DatasetError, match=f"{LENGTH} frames, its visible masks have"):
        annotate(options, StoppingReporter())
    assert (options.output / "mine.txt").read_text() == "kept"
    assert not (options.output / "amodal.json").exists()


def test_too_many_objects_for_a_palette_are_refused_before_any_work(
    options: AnnotateOptions, tmp_path: Path
) -> None:
    masks = _masks(length=1)
    many = tuple(replace(masks.tracklets[0], track_id=number) for number in range(256))
    _save(replace(masks, tracklets=many), tmp_path / "visible.json")
    with pytest.raises(LimitError, match="256 objects, a palette PNG holds 255"):
        annotate(replace(options, formats=("davis",)), StoppingReporter())
    assert not options.output.exists()
