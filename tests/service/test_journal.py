"""Finished frames on disk: what a crash leaves behind can be gone on with."""

from pathlib import Path

import numpy as np

from amodal_service.journal import open_journal, was_made_from_something_else


def _filled(folder: Path, *, fingerprint: str = "a", finished: bool = False) -> None:
    journal = open_journal(folder, fingerprint)
    for index in range(3):
        journal.append({"frame_index": index}, overlap_pixels=5 if index else 0)
    journal.save({"memory": np.arange(4.0), "size": np.array([3, 4])}, is_finished=finished)


def test_a_journal_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    _filled(tmp_path / "j")
    journal = open_journal(tmp_path / "j", "a")
    assert journal.checkpoint.frames == 3
    assert (journal.checkpoint.overlap_frames, journal.checkpoint.overlap_pixels) == (2, 10)
    assert journal.arrays["memory"].tolist() == [0, 1, 2, 3]
    journal.append({"frame_index": 3})
    journal.save({}, is_finished=True)
    assert [r["frame_index"] for r in journal.records()] == [0, 1, 2, 3]
    assert open_journal(tmp_path / "j", "a", keep_unfinished=False).checkpoint.frames == 4


def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path: Path) -> None:
    _filled(tmp_path / "j")
    with (tmp_path / "j" / "frames.jsonl").open("a") as out:
        out.write('{"frame_index": 3}\n{"frame_in')
    journal = open_journal(tmp_path / "j", "a")
    assert [r["frame_index"] for r in journal.records()] == [0, 1, 2]


def test_other_inputs_start_afresh(tmp_path: Path) -> None:
    _filled(tmp_path / "j", finished=True)
    assert was_made_from_something_else(tmp_path / "j", "b")
    assert not was_made_from_something_else(tmp_path / "j", "a")
    journal = open_journal(tmp_path / "j", "b")
    assert (journal.checkpoint.frames, journal.arrays, list(journal.records())) == (0, {}, [])


def test_a_clip_that_cannot_be_gone_on_with_starts_afresh(tmp_path: Path) -> None:
    _filled(tmp_path / "j")
    assert open_journal(tmp_path / "j", "a", keep_unfinished=False).checkpoint.frames == 0


def test_a_broken_checkpoint_or_lost_frames_start_afresh(tmp_path: Path) -> None:
    _filled(tmp_path / "j")
    (tmp_path / "j" / "checkpoint.npz").write_bytes(b"PK\x03\x04 and nothing more")
    assert open_journal(tmp_path / "j", "a").checkpoint.frames == 0
    _filled(tmp_path / "k")
    (tmp_path / "k" / "frames.jsonl").write_text("")
    assert open_journal(tmp_path / "k", "a").checkpoint.frames == 0
