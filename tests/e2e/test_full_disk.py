"""A service on a disk that is full: jobs fail with one line, and the service stays up."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip

DISK_BYTES = 8 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True)  # noqa: S603  (a fixed command)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def test_a_full_disk_fails_the_job_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    clip = write_small_clip(tmp_path, "street.mp4", 24)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    storage = small_disk / "files"
    settings = {
        "AMODAL_DATA": str(tmp_path / "data"),
        "AMODAL_STORAGE_URL": storage.as_uri(),
        "AMODAL_PORT": str(port),
        "AMODAL_FREE_BYTES": "0",  # so that it is the disk itself that says no
        "AMODAL_CHUNK_FRAMES": "4",
    }
    server = ServiceProcess("serve", settings, tmp_path / "log")
    try:
        wait_until(lambda: _is_up(url, server, tmp_path / "log"))
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * (DISK_BYTES - (160 << 10)))
        job = _post(url, clip.video, clip.visible)
        assert job.status_code == 201, job.text  # its files still fit
        path = f"{url}/v1/jobs/{job.json()['id']}"
        wait_until(lambda: httpx2.get(path).json()["state"] not in ("queued", "running"))
        failed = httpx2.get(path).json()
        assert failed["state"] == "failed"
        assert failed["error"]["type"] == "urn:amodal:problem:storage"
        assert failed["artifacts"] == []
        refused = _post(url, clip.video, clip.visible, padding=1 << 20)
        assert refused.status_code == 507
        assert refused.json()["type"] == "urn:amodal:problem:storage"
        assert httpx2.get(f"{url}/healthz").status_code == 200
        filler.unlink()
        path = f"{url}/v1/jobs/{_post(url, clip.video, clip.visible).json()['id']}"
        wait_until(lambda: httpx2.get(path).json()["state"] not in ("queued", "running"))
        assert httpx2.get(path).json()["state"] == "succeeded"
    finally:
        server.stop()


def _is_up(url: str, server: ServiceProcess, log: Path) -> bool:
    assert server.is_running, log.read_text()
    try:
        return httpx2.get(f"{url}/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def _post(url: str, video: Path, visible: Path, padding: int = 0) -> httpx2.Response:
    content = video.read_bytes() + b"\0" * padding
    files = {"video": ("street.mp4", content), "visible": ("visible.json", visible.read_bytes())}
    return httpx2.post(f"{url}/v1/jobs", files=files)
