"""A whole job whose files are in an S3 store: uploaded in parts, taken over, removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest
from s3_server import MISSING, running_s3, s3_program
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip

from amodal_client import Client
from amodal_client.uploads import PIECE_BYTES
from amodal_service.annotation import annotate
from amodal_service.progress import Reporter
from amodal_service.storage import Storage, open_storage

FRAMES, CHUNK_FRAMES = 120, 10


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The settings of a service whose files are on an S3 server."""
    if s3_program() is None:
        pytest.skip(MISSING)
    with running_s3() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        own = {"AMODAL_DATA": str(tmp_path / "data"), "AMODAL_CHUNK_FRAMES": str(CHUNK_FRAMES)}
        yield {**environment, **own}


@pytest.mark.slow
def test_a_job_with_its_files_in_an_object_store_outlives_its_worker(
    settings: dict[str, str], tmp_path: Path
) -> None:
    clip = write_small_clip(tmp_path, "street.mp4", FRAMES)
    with clip.video.open("ab") as video:  # so that its upload has several parts
        video.write(_free_box(2 * PIECE_BYTES))
    annotate(clip.options(tmp_path / "undisturbed", "prompted"), Reporter())
    storage = open_storage(settings["AMODAL_STORAGE_URL"])
    with ExitStack() as stack:
        port = free_port()
        _start(stack, settings, tmp_path, "serve", "--no-worker", "--port", str(port))
        first = _start(stack, settings, tmp_path, "worker")
        client = stack.enter_context(Client(f"http://127.0.0.1:{port}"))
        wait_until(lambda: _answers(port), timeout_s=120)
        job = client.submit(clip.video, prompts=clip.prompts)
        wait_until(lambda: client.job(job).frames_done >= 2 * CHUNK_FRAMES, timeout_s=120)
        first.kill()
        assert client.job(job).frames_done < FRAMES
        _start(stack, settings, tmp_path, "worker")
        done = client.wait(job, timeout_s=180)
        (tmp_path / "found").mkdir()
        for artifact in client.artifacts(job):
            client.download(job, artifact.name, tmp_path / "found")
        assert _folders(storage, "jobs") == {"input", "records", "artifacts"}
        client.delete(job)
    assert (done.attempts, done.frames_done) == (2, FRAMES)
    for path in (tmp_path / "undisturbed").iterdir():
        assert (tmp_path / "found" / path.name).read_bytes() == path.read_bytes()
    assert _folders(storage, "jobs") == set()
    assert _folders(storage, "uploads") == set()
    assert not (tmp_path / "data" / "files").exists()


def _free_box(size: int) -> bytes:
    """Return a part of an MP4 file that readers pass over."""
    return size.to_bytes(4, "big") + b"free" + bytes(size - 8)


def _start(
    stack: ExitStack, settings: dict[str, str], folder: Path, command: str, *options: str
) -> ServiceProcess:
    process = ServiceProcess(command, settings, folder / f"{command}.log", *options)
    stack.callback(process.stop)
    return process


def _answers(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def _folders(storage: Storage, prefix: str) -> set[str]:
    return {found.key.split("/")[2] for found in storage.list(prefix)}
