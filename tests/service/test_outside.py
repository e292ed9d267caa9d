"""Jobs whose files come from outside, and that tell somebody outside how they ended."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service_processes import wait_until
from small_clips import SmallClip, write_small_clip
from standardwebhooks import Webhook

from amodal_service.app import create_app
from amodal_service.settings import Settings

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class Outside(ThreadingHTTPServer):
    """Gives the files of a clip, and keeps what is posted to it."""

    daemon_threads = True

    def __init__(self, clip: SmallClip) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/street.mp4": clip.video, "/visible.json": clip.visible}
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Outside

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        if self.path == "/inwards":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data")
            self.end_headers()
        elif self.path in self.server.files:
            content = self.server.files[self.path].read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        self.send_response(204)
        self.end_headers()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 20)


@pytest.fixture(scope="module")
def outside(clip: SmallClip) -> Iterator[Outside]:
    with Outside(clip) as outside:
        threading.Thread(target=outside.serve_forever, args=(0.02,), daemon=True).start()
        yield outside
        outside.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(data=tmp_path_factory.mktemp("data"), poll_s=0.05, heartbeat_s=0.2)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AMODAL_OUTBOUND_HOSTS", "127.0.0.1")
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            yield client


def finish(client: TestClient, **request: Any) -> dict[str, Any]:
    made = client.post("/v1/jobs", json=request)
    assert made.status_code == 201, made.text
    url = made.headers["location"]
    wait_until(lambda: client.get(url).json()["state"] not in ("queued", "running"))
    job: dict[str, Any] = client.get(url).json()
    return job


def test_a_job_by_url_succeeds_and_says_so(served: TestClient, outside: Outside) -> None:
    job = finish(
        served,
        video={"url": f"{outside.url}/street.mp4"},
        visible={"url": f"{outside.url}/visible.json"},
        webhook={"url": f"{outside.url}/hook", "secret": SECRET},
    )
    assert job["state"] == "succeeded", job
    assert job["video_name"] == "street.mp4"
    wait_until(lambda: bool(outside.got))
    [(headers, body)] = outside.got
    assert Webhook(SECRET).verify(body, headers)["data"]["id"] == job["id"]
    assert SECRET not in str(job)


@pytest.mark.parametrize(
    ("path", "slug", "detail"),
    [
        ("/inwards", "input", "169.254.169.254, which is not public"),
        ("/absent", "input", "answers 404"),
    ],
)
def test_a_url_that_gives_no_clip_fails_the_job(
    served: TestClient, outside: Outside, path: str, slug: str, detail: str
) -> None:
    visible = {"url": f"{outside.url}/visible.json"}
    job = finish(served, video={"url": outside.url + path}, visible=visible)
    assert job["state"] == "failed"
    assert job["error"]["type"] == f"urn:amodal:problem:{slug}"
    assert detail in job["error"]["detail"]


@pytest.mark.parametrize(
    "url",
    ["http://localhost/a.mp4", "http://169.254.169.254/", "http://[::1]/", "http://10.0.0.1/"],
)
def test_a_url_inwards_is_refused_at_once(served: TestClient, outside: Outside, url: str) -> None:
    visible = {"url": f"{outside.url}/visible.json"}
    answer = served.post("/v1/jobs", json={"video": {"url": url}, "visible": visible})
    assert answer.status_code == 422
    assert "not public" in answer.json()["detail"]


def test_a_webhook_needs_a_strong_secret(served: TestClient, outside: Outside) -> None:
    source = {"url": f"{outside.url}/street.mp4"}
    for secret in ("", "whsec_", "whsec_" + "A" * 10, "x" * 50):
        webhook = {"url": outside.url, "secret": secret}
        request = {"video": source, "visible": source, "webhook": webhook}
        assert served.post("/v1/jobs", json=request).status_code == 422
