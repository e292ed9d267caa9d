"""The client against a real server over a socket, blocking and on event loops."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from killable_server import Served
from small_clips import SmallClip, write_small_clip

import amodal_client
from amodal_client import (
    AsyncClient,
    Client,
    ConflictError,
    Event,
    InvalidRequestError,
    Job,
    JobCancelledError,
    JobFailedError,
    MissingError,
    UsageError,
    WaitTimeoutError,
)
from amodal_client.values import Masks
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.progress import Reporter

FRAMES = 24


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", FRAMES)


def test_a_short_clip_is_answered_with_masks(served: Served, clip: SmallClip) -> None:
    with Client(served.url) as client:
        found = client.segment(clip.video, clip.visible)
        models = client.models()
    assert (found.video.length, len(found.frames)) == (FRAMES, FRAMES)
    assert models == (found.model,)
    for each in found.frames[12].objects:
        amodal, visible, occluded = each.amodal_mask, each.visible_mask, each.occluded_mask
        if amodal is None or visible is None:
            continue
        assert amodal.shape == (48, 64)
        assert int(amodal.sum()) == each.area
        inferred = np.zeros_like(amodal) if occluded is None else occluded
        np.testing.assert_array_equal(inferred, amodal & ~visible)


def test_a_job_gives_what_the_command_line_gives(
    served: Served, clip: SmallClip, tmp_path: Path
) -> None:
    annotate(AnnotateOptions(clip.video, tmp_path / "local", clip.visible), Reporter())
    told: list[Job] = []
    sent: list[tuple[Path, int, int]] = []
    with Client(served.url) as client:
        job = client.submit(clip.video, clip.visible, on_upload=lambda *given: sent.append(given))
        frames = list(client.results(job))
        done = client.wait(job, told.append)
        for artifact in client.artifacts(job):
            client.download(job, artifact.name, tmp_path)
        events = list(client.events(job))
        short = client.segment(clip.video, clip.visible)
        assert job.id in [each.id for each in client.jobs()]
        with pytest.raises(UsageError, match=r"no file 'other.txt', it has: .*amodal.json"):
            client.download(job, "other.txt", tmp_path)
    assert frames == list(short.frames)
    assert (done.state, told[-1]) == ("succeeded", done)
    assert sent[-1] == (clip.visible, clip.visible.stat().st_size, clip.visible.stat().st_size)
    for path in (tmp_path / "local").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert [each.kind for each in events] == _kinds(events)
    assert not list(tmp_path.glob("*.part"))
    assert not any(served.data.glob("files/uploads/*/*"))  # the job has its own copy


@pytest.mark.parametrize("masks", ["prompted", "motion"])
def test_masks_are_found_as_on_the_command_line(
    served: Served, clip: SmallClip, tmp_path: Path, masks: Masks
) -> None:
    annotate(clip.options(tmp_path / "local", masks), Reporter())
    how: dict[str, Any] = {"prompts": clip.prompts} if masks == "prompted" else {"masks": "motion"}
    with Client(served.url) as client:
        job = client.wait(client.submit(clip.video, **how))
        client.download(job, "amodal.json", tmp_path)
        assert list(client.results(job)) == list(client.segment(clip.video, **how).frames)
    assert job.masks == masks
    whole = (tmp_path / "local" / "amodal.json").read_bytes()
    assert (tmp_path / "amodal.json").read_bytes() == whole
    assert json.loads(whole)["annotations"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({}, "needs a file of visible masks, a file of prompts, or masks 'motion'"),
        ({"visible": "v", "prompts": "p"}, "from a file of them or from prompts, not both"),
        ({"visible": "v", "masks": "motion"}, "masks is 'motion', and there are visible masks"),
        ({"prompts": "p", "masks": "motion"}, "masks is 'motion', and there are prompts"),
        ({"masks": "prompted"}, "masks is 'prompted', and there are neither"),
    ],
)
def test_masks_from_nowhere_or_from_two_places_are_refused_before_anything_is_sent(
    how: dict[str, Any], message: str
) -> None:
    with Client("http://127.0.0.1:9", retry_s=0.1) as client:
        for ask in (client.submit, client.segment):
            with pytest.raises(UsageError, match=message):
                ask("clip.mp4", **how)


def _kinds(events: list[Event]) -> list[str]:
    progress = sum(each.kind == "progress" for each in events)
    assert progress == 3  # chunks of 10 frames
    return ["queued", "started", *["progress"] * progress, "succeeded"]


def test_an_event_loop_runs_the_same(served: Served, clip: SmallClip, tmp_path: Path) -> None:
    async def run() -> None:
        async with AsyncClient(served.url) as client:
            job = await client.submit(clip.video, clip.visible, outputs=["overlay"])
            kinds = [event.kind async for event in client.events(job)]
            frames = [frame async for frame in client.results(job)]
            done = await client.wait(job)
            path = await client.download(job, "overlay.mp4", tmp_path)
            short = await client.segment(clip.video, clip.visible)
            assert kinds[-1] == done.state == "succeeded"
            assert frames == list(short.frames)
            assert path.stat().st_size == next(
                each.size_bytes for each in done.artifacts if each.name == "overlay.mp4"
            )
            with pytest.raises(MissingError):
                await client.job("0" * 32)

    anyio.run(run)


def test_a_job_is_cancelled_retried_and_deleted(served: Served, tmp_path: Path) -> None:
    long = write_small_clip(tmp_path, "long.mp4", 300)
    with Client(served.url) as client:
        job = client.submit(long.video, long.visible)
        with pytest.raises(WaitTimeoutError, match=job.id):
            client.wait(job, timeout_s=0)
        assert client.cancel(job).state == "cancelled"
        with pytest.raises(JobCancelledError) as caught:
            client.wait(job)
        assert caught.value.job.id == job.id
        with pytest.raises(JobCancelledError):
            list(client.results(job))
        assert client.retry(job).runs == 2
        with pytest.raises(ConflictError):
            client.retry(job)
        client.delete(job)
        with pytest.raises(MissingError):
            client.delete(job)


def test_the_example_of_the_package_runs(
    served: Served,
    clip: SmallClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(clip.video, tmp_path / "street.mp4")
    shutil.copy(clip.visible, tmp_path / "visible.json")
    monkeypatch.chdir(tmp_path)
    drawn = (amodal_client.__doc__ or "").split("\n\n", 1)[1].rpartition("`AsyncClient`")[0]
    code = textwrap.dedent(drawn).replace("http://127.0.0.1:8420", served.url)
    exec(compile(code, "example", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.startswith("0.0 ")
    assert (tmp_path / "overlay.mp4").is_file()


def test_a_job_that_fails_says_why(served: Served, clip: SmallClip, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video" * 100)
    with Client(served.url) as client:
        job = client.submit(damaged, clip.visible)
        with pytest.raises(JobFailedError, match=r"damaged\.mp4"):
            client.wait(job)
        assert [each.kind for each in client.events(job)][-1] == "failed"


def test_what_the_service_refuses_is_the_error_of_its_problem(
    served: Served, clip: SmallClip, tmp_path: Path
) -> None:
    masks = tmp_path / "masks.json"
    masks.write_text(json.dumps({"videos": []}))
    with Client(served.url) as client:
        with pytest.raises(InvalidRequestError) as caught:
            client.segment(clip.video, masks)
        assert caught.value.status == 422
        assert caught.value.request_id
        with pytest.raises(UsageError, match="no such file"):
            client.submit(tmp_path / "absent.mp4", masks)
        with pytest.raises(UsageError, match="job id"):
            client.job("../uploads")
    with Client(served.url, api_key="wrong") as client, pytest.raises(PermissionError):
        client.models()
