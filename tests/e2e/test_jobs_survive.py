"""Jobs outlive the processes that run them: killed, frozen or stopped, and real ones."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from moving_scene import write_scene_clip
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import SmallClip, write_small_clip

from amodal_service.annotation import AnnotateOptions, annotate
from amodal_service.progress import Reporter

FRAMES = 120
CHUNK_FRAMES = 10
Start = Callable[..., ServiceProcess]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "long.mp4", FRAMES)


@pytest.fixture(scope="module")
def undisturbed(clip: SmallClip, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    annotate(AnnotateOptions(clip.video, output, clip.visible), Reporter())
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes of one service, and stops them all at the end."""
    settings = {"AMODAL_DATA": str(tmp_path / "data"), "AMODAL_CHUNK_FRAMES": str(CHUNK_FRAMES)}
    started: list[ServiceProcess] = []

    def make(command: str, *options: str) -> ServiceProcess:
        log = tmp_path / f"{command}-{len(started)}.log"
        started.append(ServiceProcess(command, settings, log, *options))
        return started[-1]

    yield make
    for process in started:
        process.stop()


class Service:
    """What a client does with a server."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def answers(self) -> bool:
        try:
            return self.client.get("/healthz").status_code == 200
        except httpx2.TransportError:
            return False

    def post(self, clip: SmallClip, masks: str = "given") -> str:
        files = {"video": (clip.video.name, clip.video.read_bytes())}
        if masks == "given":
            files["visible"] = ("visible.json", clip.visible.read_bytes())
        elif masks == "prompted":
            files["prompts"] = ("prompts.json", clip.prompts.read_bytes())
        data = {"request": json.dumps({"masks": masks})}
        made = self.client.post("/v1/jobs", files=files, data=data)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/jobs/{job_id}").json()
        return found

    def wait_for_frames(self, job_id: str, count: int) -> None:
        wait_until(lambda: self.job(job_id)["frames_done"] >= count, timeout_s=120)

    def wait_for_end(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.job(job_id)["state"] not in ("queued", "running"), timeout_s=180)
        return self.job(job_id)

    def files(self, job: dict[str, Any]) -> dict[str, bytes]:
        return {each["name"]: self.client.get(each["url"]).content for each in job["artifacts"]}

    def event_kinds(self, job_id: str) -> list[str]:
        lines = self.client.get(f"/v1/jobs/{job_id}/events").text.splitlines()
        return [line[7:] for line in lines if line.startswith("event: ")]


@pytest.fixture
def service(start: Start) -> Iterator[Service]:
    """A server without a worker of its own."""
    port = free_port()
    start("serve", "--port", str(port), "--no-worker")
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        service = Service(client)
        wait_until(service.answers, timeout_s=120)
        yield service


@pytest.mark.slow
def test_a_job_goes_on_in_another_worker_when_its_own_is_killed(
    service: Service, start: Start, clip: SmallClip, undisturbed: dict[str, bytes]
) -> None:
    first = start("worker")
    job_id = service.post(clip)
    service.wait_for_frames(job_id, 2 * CHUNK_FRAMES)
    first.kill()
    done = service.job(job_id)["frames_done"]
    start("worker")
    job = service.wait_for_end(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert service.files(job) == undisturbed
    kinds = service.event_kinds(job_id)
    assert kinds.count("succeeded") == 1
    assert kinds.count("progress") == FRAMES // CHUNK_FRAMES  # none was worked on twice
    assert 2 * CHUNK_FRAMES <= done < FRAMES


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["prompted", "motion"])
def test_a_job_that_finds_its_masks_goes_on_with_what_its_source_remembers(
    service: Service, start: Start, masks: str, tmp_path: Path
) -> None:
    scene = write_scene_clip(tmp_path / "scene.mp4", 40)
    annotate(scene.options(tmp_path / "undisturbed", masks), Reporter())
    first = start("worker")
    job_id = service.post(scene, masks)
    service.wait_for_frames(job_id, CHUNK_FRAMES)
    first.kill()
    done = service.job(job_id)["frames_done"]
    start("worker")
    job = service.wait_for_end(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", 2)
    assert CHUNK_FRAMES <= done < 40
    assert service.event_kinds(job_id).count("progress") == 40 // CHUNK_FRAMES
    found = service.files(job)
    assert found == {p.name: p.read_bytes() for p in (tmp_path / "undisturbed").iterdir()}
    tracks = json.loads(found["amodal.json"])["annotations"]
    assert any(track["visible_segmentations"][35] for track in tracks)


def _freeze(worker: ServiceProcess, database: Path) -> None:
    """Freeze a worker while it holds no lock: a frozen writer of SQLite stops everybody."""
    while True:
        worker.pause()
        with closing(sqlite3.connect(database, timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                worker.go_on()
                time.sleep(0.1)
                continue
            connection.rollback()
            return


@pytest.mark.slow
def test_a_frozen_worker_that_wakes_up_changes_nothing(
    service: Service,
    start: Start,
    clip: SmallClip,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    first = start("worker")
    job_id = service.post(clip)
    service.wait_for_frames(job_id, CHUNK_FRAMES)
    _freeze(first, tmp_path / "data" / "amodal.sqlite3")
    start("worker")
    wait_until(lambda: service.job(job_id)["attempts"] == 2, timeout_s=120)
    first.go_on()
    job = service.wait_for_end(job_id)
    wait_until(lambda: "job_left" in first.log.read_text(), timeout_s=60)
    assert job["state"] == "succeeded"
    assert service.files(job) == undisturbed
    kinds = service.event_kinds(job_id)
    assert (kinds.count("succeeded"), kinds.count("progress")) == (1, FRAMES // CHUNK_FRAMES)


@pytest.mark.slow
def test_a_stopped_worker_leaves_its_job_to_the_next_one(
    service: Service, start: Start, clip: SmallClip, undisturbed: dict[str, bytes]
) -> None:
    worker = start("worker")
    job_id = service.post(clip)
    service.wait_for_frames(job_id, CHUNK_FRAMES)
    assert worker.stop() == 0
    left = service.job(job_id)
    assert (left["state"], left["attempts"]) == ("queued", 0)
    start("worker")
    job = service.wait_for_end(job_id)
    assert (job["state"], job["attempts"]) == ("succeeded", 1)
    assert service.files(job) == undisturbed
    # a signal may come while the loop closes; the interpreter says so in lines of its own
    lines = worker.log.read_text().splitlines()
    log = [json.loads(line) for line in lines if line.startswith("{")]
    assert {"job_id", "event", "level", "timestamp"} <= log[1].keys()
