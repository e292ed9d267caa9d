"""``amodal segment`` and ``amodal jobs`` against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run
from killable_server import Served
from small_clips import SmallClip, write_small_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 12)


@pytest.fixture
def run(amodal: Run, monkeypatch: pytest.MonkeyPatch, served: Served) -> Run:
    """Runs ``amodal`` with a server."""
    monkeypatch.setenv("AMODAL_SERVER", served.url)
    return amodal


def test_a_clip_is_segmented_on_a_server(run: Run, clip: SmallClip, tmp_path: Path) -> None:
    code, out, _ = run(
        "segment", clip.video, "--visible", clip.visible, "-o", tmp_path / "out",
        "--format", "overlay",
    )  # fmt: skip
    assert (code, out.split()[:2]) == (0, ["12", "frames"])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"amodal.json", "frames.csv", "overlay.mp4"} <= names


def test_a_job_is_followed_from_its_start_to_its_files(
    run: Run, clip: SmallClip, tmp_path: Path
) -> None:
    code, out, _ = run("jobs", "submit", clip.video, "--visible", clip.visible)
    job_id = out.strip()
    assert (code, len(job_id)) == (0, 32)
    assert run("jobs", "wait", job_id)[:2] == (0, "succeeded, 12/12 frames\n")
    assert json.loads(run("jobs", "show", job_id)[1])["state"] == "succeeded"
    lines = run("jobs", "results", job_id)[1].splitlines()
    assert [json.loads(line)["frame_index"] for line in lines] == list(range(12))
    run("jobs", "download", job_id, "-o", tmp_path / "files")
    assert (tmp_path / "files" / "amodal.json").is_file()
    assert job_id[:8] in run("jobs", "list", "--state", "succeeded")[1]
    assert run("jobs", "cancel", job_id)[1] == "succeeded\n"
    assert run("jobs", "delete", job_id)[0] == 0
    code, _, said = run("jobs", "show", job_id)
    assert (code, said.count("\n")) == (2, 1)
    assert job_id in said


def test_a_clip_without_masks_is_segmented_from_prompts_or_by_motion(
    run: Run, clip: SmallClip, tmp_path: Path
) -> None:
    words = ("segment", clip.video, "--prompts", clip.prompts, "-o", tmp_path / "out")
    assert run(*words)[0] == 0
    found = json.loads((tmp_path / "out" / "amodal.json").read_text())
    assert [each["id"] for each in found["annotations"]] == [10, 20]
    job_id = run("jobs", "submit", clip.video, "--masks", "motion")[1].strip()
    assert json.loads(run("jobs", "show", job_id)[1])["masks"] == "motion"
    code, _, said = run("jobs", "submit", clip.video)
    assert code == 2
    assert "needs a file of visible masks, a file of prompts, or masks 'motion'" in said


def test_a_server_out_of_reach_is_one_line_and_exit_code_2(run: Run) -> None:
    code, _, said = run("jobs", "list", "--server", "nowhere")
    assert (code, said) == (
        2,
        "amodal: server 'nowhere', must be http://HOST[:PORT] or https://HOST[:PORT]\n",
    )
