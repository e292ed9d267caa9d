"""The server is killed and comes back: whoever uses the client does not notice."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from killable_server import Served
from service_processes import wait_until
from small_clips import SmallClip, write_small_clip

from amodal_client import Client, Event, FrameResult, Job, JobFailedError
from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.progress import Reporter

FRAMES = 120


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "long.mp4", FRAMES)


@pytest.mark.slow
def test_an_upload_goes_on_after_the_server_was_killed(
    make_served: Callable[[], Served], clip: SmallClip, tmp_path: Path
) -> None:
    served = make_served()
    large = tmp_path / "large.mp4"
    large.write_bytes(os.urandom(40 << 20))
    sent: list[int] = []
    killers: list[threading.Timer] = []
    is_killed = threading.Event()

    def kill() -> None:
        served.process.kill()
        served.start()
        is_killed.set()

    def on_upload(path: Path, there: int, size: int) -> None:
        if path != large:
            return
        sent.append(there)
        if there > 10 << 20 and not killers:
            served.process.pause()  # the next piece is under way when the server dies
            killers.append(threading.Timer(0.5, kill))
            killers[0].start()

    with Client(served.url) as client:
        job = client.submit(large, clip.visible, on_upload=on_upload)
        stored = (served.data / "files" / "jobs" / job.id).rglob("*")
        assert large.read_bytes() in [each.read_bytes() for each in stored if each.is_file()]
        with pytest.raises(JobFailedError):  # random bytes are no video
            client.wait(job)
    assert is_killed.is_set()
    assert sent == sorted(sent)  # what was there was not sent again
    assert sent[-1] == large.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("is_killed", "attempts"),
    [(True, {2, 3}), (False, {1})],  # on a quick machine the job may have ended by the second death
)
def test_a_job_and_its_streams_go_on_when_the_server_is_killed_or_restarted_twice(
    make_served: Callable[[], Served],
    clip: SmallClip,
    tmp_path: Path,
    is_killed: bool,
    attempts: set[int],
) -> None:
    annotate(AnnotateOptions(clip.video, tmp_path / "local", clip.visible), Reporter())
    served = make_served()
    events: list[Event] = []
    frames: list[FrameResult] = []
    with Client(served.url) as client, ThreadPoolExecutor(3) as pool:
        job = client.submit(clip.video, clip.visible)
        streams = [
            pool.submit(lambda: events.extend(client.events(job))),
            pool.submit(lambda: frames.extend(client.results(job))),
        ]
        waiting = pool.submit(client.wait, job)
        for least in (20, 60):
            wait_until(lambda least=least: len(frames) >= least)  # type: ignore[misc]
            served.process.kill() if is_killed else served.process.stop()
            served.start()
        done: Job = waiting.result(timeout=120)
        for stream in streams:
            stream.result(timeout=30)
        for artifact in done.artifacts:
            client.download(job, artifact.name, tmp_path)
    assert done.state == "succeeded"
    assert done.attempts in attempts
    assert [frame.frame_index for frame in frames] == list(range(FRAMES))
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))
    kinds = [event.kind for event in events]
    assert (kinds.count("progress"), kinds[-1]) == (FRAMES // 10, "succeeded")
    for path in (tmp_path / "local").iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
