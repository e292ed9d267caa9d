"""A real S3-compatible server of our own: moto's, on a free port, with a bucket."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from service_processes import free_port, wait_until

MISSING = "no S3 server here: pip install 'moto[server]' elsewhere, its moto_server on the PATH"
BUCKET = "amodal-test"


def s3_program() -> str | None:
    """Return the program that serves S3, if there is one."""
    return shutil.which("moto_server")


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Run a server and yield the environment that leads to its bucket, `AMODAL_STORAGE_URL` too."""
    program, url = s3_program(), f"http://127.0.0.1:{(port := free_port())}"
    assert program is not None, MISSING
    words = [program, "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_until(lambda: _has_bucket(url))
        yield {
            "AMODAL_STORAGE_URL": f"s3://{BUCKET}",
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
    finally:
        process.terminate()
        process.wait()


def _has_bucket(url: str) -> bool:
    try:
        return httpx2.put(f"{url}/{BUCKET}").status_code == 200
    except httpx2.TransportError:
        return False
