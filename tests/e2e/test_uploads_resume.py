"""Resumable uploads to a real server by clients that others wrote, through its death."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

SIZE = 40 << 20


class Served:
    """A server that can be killed and started again on the same port and data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        settings = {"AMODAL_DATA": str(self._folder / "data"), "AMODAL_PORT": str(self._port)}
        self.process = ServiceProcess("serve", settings, self._folder / "log")
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        assert self.process.is_running, (self._folder / "log").read_text()
        try:
            return httpx2.get(f"{self.url}/healthz").status_code == 200
        except httpx2.TransportError:
            return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    yield served
    served.process.stop()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    path.write_bytes(os.urandom(SIZE))
    return path


def stored_bytes(served: Served, url: str) -> bytes:
    """Return what lies in the server's folder for an upload."""
    folder = served._folder / "data" / "files" / "uploads" / url.rsplit("/", 1)[1]
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if "#" not in path.name)


def test_a_job_is_made_of_two_uploads_by_tuspy(served: Served, tmp_path: Path) -> None:
    clip = write_small_clip(tmp_path, "street.mp4", 12)
    ids = [_upload(served, path) for path in clip]
    sources = {"video": {"upload_id": ids[0]}, "visible": {"upload_id": ids[1]}}
    made = httpx2.post(f"{served.url}/v1/jobs", json=sources)
    assert made.status_code == 201, made.text
    assert made.json()["video_name"] == "street.mp4"
    url = f"{served.url}/v1/jobs/{made.json()['id']}"
    wait_until(lambda: httpx2.get(url).json()["state"] not in ("queued", "running"))
    assert httpx2.get(url).json()["state"] == "succeeded", httpx2.get(url).text


def _upload(served: Served, path: Path) -> str:
    client = TusClient(f"{served.url}/v1/uploads")
    metadata = {"filename": path.name}
    with path.open("rb") as file:
        uploader = client.uploader(
            file_stream=file, chunk_size=1000, metadata=metadata, upload_checksum=True
        )
        uploader.upload()
    return str(uploader.url).rsplit("/", 1)[1]


def test_an_upload_goes_on_after_the_server_was_killed(served: Served, large: Path) -> None:
    client = TusClient(f"{served.url}/v1/uploads")
    file = large.open("rb")
    uploader = client.uploader(file_stream=file, retries=300, retry_delay=0.3)  # in one request
    failure: list[Exception] = []

    def upload() -> None:
        try:
            uploader.upload()
        except (TusCommunicationError, TusUploadFailed) as error:
            failure.append(error)
        finally:
            file.close()

    thread = threading.Thread(target=upload)
    thread.start()
    wait_until(lambda: uploader.url is not None)
    url = str(uploader.url)
    folder = served._folder / "data" / "files" / "uploads" / url.rsplit("/", 1)[1]
    wait_until(lambda: folder.exists() and bool(list(folder.iterdir())))
    served.process.kill()
    served.start()
    thread.join(90)
    assert not failure
    assert not thread.is_alive()
    assert httpx2.get(url).json()["offset"] == SIZE
    assert stored_bytes(served, url) == large.read_bytes()


_SCRIPT = """
import * as tus from 'tus-js-client'
import fs from 'node:fs'
const [, , endpoint, path] = process.argv
let isAborted = false
function run(url) {
  const upload = new tus.Upload(fs.createReadStream(path), {
    endpoint, uploadUrl: url, chunkSize: 4 << 20, uploadSize: fs.statSync(path).size,
    metadata: { filename: 'large.bin' }, retryDelays: [100, 200],
    onError: (error) => { console.error(String(error)); process.exit(1) },
    onProgress: (sent) => {
      if (!isAborted && sent > 10 << 20) {
        isAborted = true
        upload.abort().then(() => run(upload.url))
      }
    },
    onSuccess: () => { if (isAborted) console.log(upload.url) },
  })
  upload.start()
}
run(null)
"""


@pytest.mark.slow
def test_tus_js_client_uploads_breaks_off_and_resumes(
    served: Served, large: Path, tmp_path: Path
) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, which brings tus-js-client")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    command = [npm, "install", "--no-audit", "--no-fund", "--silent", "tus-js-client@4.3.1"]
    installed = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)  # noqa: S603
    if installed.returncode:
        pytest.skip("npm cannot install tus-js-client: no registry in reach?")
    (tmp_path / "upload.mjs").write_text(_SCRIPT)
    node = shutil.which("node")
    assert node
    ran = subprocess.run(  # noqa: S603
        [node, "upload.mjs", f"{served.url}/v1/uploads", str(large)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    url = ran.stdout.strip().splitlines()[-1]
    assert httpx2.get(url).json() | {"expires_s": 0} == {
        "id": url.rsplit("/", 1)[1],
        "name": "large.bin",
        "size_bytes": SIZE,
        "offset": SIZE,
        "expires_s": 0,
    }
    assert stored_bytes(served, url) == large.read_bytes()
