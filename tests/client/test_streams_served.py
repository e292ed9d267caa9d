"""Live streams of a real server with the real model: equal to the command line, and unkillable."""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from command_line import Run
from killable_server import Served
from service_processes import wait_until
from small_clips import SmallClip, write_small_clip
from veiled_box import write_veiled_clip

from amodal_client import AsyncClient, Client, LimitError, Resumed, StreamResult, UsageError
from amodal_model.masks import BoxedMask, box_mask, mask_iou
from amodal_service.live_sources import LiveFrame
from amodal_service.sources import find_sources
from amodal_service.stream_run import frame_result_of
from amodal_service.stream_sinks import JsonLines

REPOSITORY = Path(__file__).parents[2]
DUCK = REPOSITORY / "examples" / "demo" / "teaduck"
VIDEO, VISIBLE = DUCK / "videos" / "teaduck.mp4", DUCK / "visible.json"
FLOATS = ("score", "occlusion_rate", "confidence_visible", "confidence_occluded")


@pytest.fixture
def run(amodal: Run, monkeypatch: pytest.MonkeyPatch, served: Served) -> Run:
    """Runs ``amodal`` with a server."""
    monkeypatch.setenv("AMODAL_SERVER", served.url)
    return amodal


def lines_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "coco-rle.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def close(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> bool:
    """Return whether records are equal; numbers to the four digits that a stream sends."""
    return _cut(a) == _cut(b) and all(
        abs(one[name] - other[name]) < 1e-4
        for left, right in zip(a, b, strict=True)
        for one, other in zip(left["objects"], right["objects"], strict=True)
        for name in FLOATS
    )


def _cut(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **record,
            "objects": [
                {k: v for k, v in each.items() if k not in FLOATS} for each in record["objects"]
            ],
        }
        for record in records
    ]


@pytest.mark.slow
def test_a_lossless_stream_of_given_masks_is_what_annotate_writes(run: Run, tmp_path: Path) -> None:
    live, whole = tmp_path / "live", tmp_path / "whole"
    words = ("stream", VIDEO, "--visible", VISIBLE, "--mode", "lossless", "-o", live, "--json")
    code, out, _ = run(*words, "--overlay", tmp_path / "live.mp4")
    assert code == 0
    figures = json.loads(out)
    assert figures["totals"]["results"] == figures["totals"]["captured"] == 144
    assert 0 < figures["latency"]["p50_ms"] <= figures["latency"]["p99_ms"]
    assert (tmp_path / "live.mp4").stat().st_size > 10_000
    assert run("annotate", VIDEO, "--visible", VISIBLE, "-o", whole, "--format", "coco-rle")[0] == 0
    assert close(lines_of(live), lines_of(whole))


def test_a_lossless_stream_with_pictures_is_what_annotate_writes_with_them(
    run: Run, served: Served, tmp_path: Path
) -> None:
    """Their pixels must be the same: JPEG changes them, PNG does not."""
    clip = write_veiled_clip(tmp_path)
    whole, by_masks = tmp_path / "whole", tmp_path / "by-masks"
    words = ("annotate", clip.video, "--visible", clip.visible, "--format", "coco-rle", "-o")
    assert run(*words, whole, "--pictures")[0] == run(*words, by_masks)[0] == 0
    streamed = _streamed_with_pictures(served.url, clip, tmp_path / "live.jsonl")
    assert close(streamed, lines_of(whole))
    assert not close(streamed, lines_of(by_masks))


def _streamed_with_pictures(url: str, clip: SmallClip, path: Path) -> list[dict[str, Any]]:
    """Return the records of a lossless stream of PNG images and given masks."""
    source = find_sources(clip.video, clip.visible, lambda line: None).clips[0]
    frames = [LiveFrame(each.index, each.pts_s, each.image) for each in source.clip.frames()]
    with (
        Client(url) as client,
        client.stream(mode="lossless", pictures=True, remembered=True) as stream,
        JsonLines(path, clip.video.name) as sink,
    ):

        def send() -> None:
            for frame in frames:
                masks = {key: mask.full() for key, mask in source.masks(frame.index).items()}
                stream.send(frame.image, masks, codec="png")
            stream.end()

        sender = threading.Thread(target=send)
        sender.start()
        for event in stream:
            if isinstance(event, StreamResult):
                sink.write(frames[event.seq], frame_result_of(event))
        sender.join()
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_commands_look_at_pictures_where_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    """Frames are sent as JPEG there, so results are close to those of `annotate`, no more."""
    clip = write_veiled_clip(tmp_path)
    words = ("stream", clip.video, "--visible", clip.visible, "--mode", "lossless", "-o")
    assert run(*words, tmp_path / "seen", "--pictures")[0] == 0
    assert run(*words, tmp_path / "unseen")[0] == 0
    assert not close(lines_of(tmp_path / "seen"), lines_of(tmp_path / "unseen"))
    given = (clip.video, "--visible", clip.visible, "--pictures", "-o")
    assert run("segment", *given, tmp_path / "there")[0] == 0
    assert run("annotate", *given, tmp_path / "here")[0] == 0
    there, here = ((tmp_path / name / "amodal.json").read_bytes() for name in ("there", "here"))
    assert there == here


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 30)


@pytest.mark.parametrize("words", [("--masks", "motion"), ("--prompts", "PROMPTS")])
def test_a_stream_whose_masks_the_server_finds(
    run: Run, clip: SmallClip, tmp_path: Path, words: tuple[str, str]
) -> None:
    option, value = words[0], clip.prompts if words[1] == "PROMPTS" else words[1]
    given = ("stream", clip.video, option, value, "--mode", "lossless", "-o", tmp_path)
    code, out, said = run(*given, "--max-frames", 20)
    assert (code, said) == (0, "")
    assert " 20 " in out
    records = lines_of(tmp_path)
    assert [record["frame_index"] for record in records] == list(range(20))
    if option == "--prompts":
        assert {each["track_id"] for each in records[-1]["objects"]} == {10, 20}


def test_a_file_is_played_at_its_own_pace(run: Run, clip: SmallClip) -> None:
    code, out, _ = run("stream", clip.video, "--visible", clip.visible, "--json")
    totals = json.loads(out)["totals"]
    assert code == 0
    assert totals["captured"] == 30
    assert totals["results"] + sum(totals["dropped"].values()) == 30


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a.mp4",), "say where visible masks come from"),
        (("a.mp4", "--masks", "motion"), "a.mp4: no such file or folder"),
        (("--masks", "motion"), "name a video file"),
        (("http://a/b.mp4", "--masks", "motion"), "only files and rtsp://"),
        (("a.mp4", "--masks", "given"), "--masks given needs --visible"),
        (("--camera", 0, "--visible", "v.json"), "not for a camera"),
    ],
)
def test_what_cannot_be_streamed_is_one_line(run: Run, words: tuple[str], said: str) -> None:
    code, _, err = run("stream", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert said in err


@pytest.mark.skipif("DISPLAY" in os.environ, reason="there is a display")
def test_without_a_display_there_is_no_window(run: Run, clip: SmallClip) -> None:
    code, _, err = run("stream", clip.video, "--masks", "motion", "--show")
    assert (code, err.count("\n")) == (2, 1)
    assert "use --overlay" in err


def test_the_example_feeds_masks_alone(
    served: Served, clip: SmallClip, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["stream_masks_only.py", served.url, str(clip.visible)]
    before, sys.argv = sys.argv, words
    try:
        runpy.run_path(str(REPOSITORY / "examples" / words[0]), run_name="__main__")
    finally:
        sys.argv = before
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 30
    assert "10: " in lines[-1]
    assert "20: " in lines[-1]


def masks_at(seq: int) -> dict[int, np.ndarray]:
    rows, columns = np.mgrid[:96, :128]
    pole = (abs(columns - 64) < 10) & (rows > 10)
    ball = (columns - 20 - 0.75 * seq) ** 2 + (rows - 60) ** 2 < 10**2
    return {1: ball & ~pole, 2: pole}


def stream_masks(
    url: str,
    frames: int,
    on_result: Callable[[int], None] = lambda seq: None,
    waits: Mapping[int, threading.Event] | None = None,
) -> list[Any]:
    """Stream some frames; before those in ``waits`` the sender waits for an event."""
    events: list[Any] = []
    with Client(url) as client, client.stream(mode="lossless") as stream:

        def send() -> None:
            for seq in range(frames):
                if waits and seq in waits:
                    waits[seq].wait(60)
                stream.send(None, masks_at(seq))
            stream.end()

        sender = threading.Thread(target=send)
        sender.start()
        for event in stream:
            events.append(event)
            if isinstance(event, StreamResult):
                on_result(event.seq)
        sender.join()
    return events


@pytest.mark.slow
def test_a_stream_goes_on_when_the_server_is_killed_and_when_it_is_restarted(
    make_served: Callable[[], Served],
) -> None:
    served, frames = make_served(), 100
    whole = [each for each in stream_masks(served.url, frames) if isinstance(each, StreamResult)]

    is_killed, is_restarted = threading.Event(), threading.Event()

    def harm(seq: int) -> None:
        if seq == 40:
            wait_until(lambda: _snapshot_seq(served.url) >= 0)
            served.process.kill()
            served.start()
            is_killed.set()
        if seq == 70:
            served.process.stop()
            served.start()
            is_restarted.set()

    # else a fast server would have finished before it is harmed
    events = stream_masks(served.url, frames, harm, {55: is_killed, 85: is_restarted})
    found = [each for each in events if isinstance(each, StreamResult)]
    resumes = [each for each in events if isinstance(each, Resumed)]
    assert [each.seq for each in found] == list(range(frames))
    assert [each.kind for each in resumes] == ["warm", "warm"]
    assert events[-1].totals.lost == 0
    ious = [
        mask_iou(_boxed(one), _boxed(other))
        for a, b in zip(whole, found, strict=True)
        for one, other in zip(a.objects, b.objects, strict=True)
        if one.amodal_mask is not None or other.amodal_mask is not None
    ]
    assert min(ious) >= 0.98


def _snapshot_seq(url: str) -> int:
    streams = httpx2.get(f"{url}/v1/streams").json()["streams"]
    return max((each["snapshot_seq"] or -1 for each in streams), default=-1)


def _boxed(each: Any) -> BoxedMask:
    mask = each.amodal_mask
    return box_mask(np.zeros(each.frame_size, bool) if mask is None else mask)


def test_both_clients_see_what_is_refused(served: Served) -> None:
    async def too_many() -> None:
        async with AsyncClient(served.url) as client, client.stream(max_objects=1024):
            pass

    with pytest.raises(LimitError, match="max_objects is 1024"):
        asyncio.run(too_many())
    with (
        Client(served.url) as client,
        pytest.raises(UsageError, match="must be bool"),
        client.stream() as stream,
    ):
        stream.send(None, {1: np.zeros((9, 9))})
