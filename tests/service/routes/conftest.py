"""A served app with a worker of its own, and a small clip.

A module each: a process runs one job engine at a time, so no app may outlive its tests.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_processes import wait_until
from small_clips import SmallClip, write_small_clip

from amodal_service.app import create_app
from amodal_service.settings import Limits, Settings

Post = Callable[..., Any]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    limits = Limits(segment_seconds=2.0, upload_bytes=100_000, json_bytes=5_000)
    settings = Settings(
        data=tmp_path_factory.mktemp("data"),
        poll_s=0.05,
        heartbeat_s=0.2,
        chunk_frames=8,
        limits=limits,
    )
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 20)


@pytest.fixture
def post_job(client: TestClient, clip: SmallClip) -> Post:
    """Posts a job: options, and headers."""

    def post(
        headers: dict[str, str] | None = None, video: bytes | None = None, **options: Any
    ) -> Any:
        content = clip.video.read_bytes() if video is None else video
        files = {
            "video": (clip.video.name, content),
            "visible": ("visible.json", clip.visible.read_bytes()),
        }
        data = {"request": json.dumps(options)} if options else None
        return client.post("/v1/jobs", files=files, data=data, headers=headers)

    return post


@pytest.fixture
def wait_for(client: TestClient) -> Callable[[str], dict[str, Any]]:
    """Waits until a job has ended and returns it."""

    def wait(job_id: str) -> dict[str, Any]:
        def ended() -> bool:
            return client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running")

        wait_until(ended, timeout_s=120)
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        return job

    return wait
