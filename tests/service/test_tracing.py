"""Spans over the wire, to a collector of our own; and what is said where they cannot be sent."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip

from amodal_model.errors import InputError
from amodal_service.tracing import tracing

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"


class Collector:
    """What an OpenTelemetry collector does with spans, and no more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.services: set[str] = set()
        self.spans: list[Any] = []

    def take(self, body: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                each.value.string_value
                for each in group.resource.attributes
                if each.key == "service.name"
            }
            self.spans += [span for scope in group.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the attributes of the spans of a name."""
        return [
            {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
            for span in self.spans
            if span.name == name
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                found.take(body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def test_requests_and_jobs_leave_spans_with_their_ids(collector: Collector, tmp_path: Path) -> None:
    clip = write_small_clip(tmp_path, "street.mp4", 20)
    url = f"http://127.0.0.1:{(port := free_port())}"
    settings = {
        "AMODAL_DATA": str(tmp_path / "data"),
        "AMODAL_CHUNK_FRAMES": "8",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SERVICE_NAME": "robot-vision",
    }
    server = ServiceProcess("serve", settings, tmp_path / "log", "--port", str(port))
    try:
        with httpx2.Client(base_url=url) as client:
            wait_until(lambda: _answers(client))
            headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}
            files = {
                "video": ("street.mp4", clip.video.read_bytes()),
                "visible": ("v.json", clip.visible.read_bytes()),
            }
            made = client.post("/v1/jobs", files=files, headers=headers)
            job_id = made.json()["id"]
            broken = client.post("/v1/jobs", files={**files, "video": ("b.mp4", b"no video")})
            for each in (job_id, broken.json()["id"]):
                path = f"/v1/jobs/{each}"
                wait_until(lambda at=path: client.get(at).json()["finished_s"] is not None)  # type: ignore[misc]
    finally:
        server.stop()  # what was not sent yet is sent now
    assert collector.services == {"robot-vision"}
    posts = collector.named("POST /v1/jobs")
    assert not [span.name for span in collector.spans if "healthz" in span.name]
    assert {each["amodal.job_id"] for each in posts} == {job_id, broken.json()["id"]}
    assert made.headers["x-request-id"] in {each["amodal.request_id"] for each in posts}
    assert bytes.fromhex(TRACE_ID) in {span.trace_id for span in collector.spans}
    assert {"amodal.job_id": job_id, "amodal.run": 1, "amodal.attempt": 1} in collector.named("job")
    chunks = [e["amodal.chunk"] for e in collector.named("chunk") if e["amodal.job_id"] == job_id]
    assert chunks == [0, 1, 2]
    jobs = {span.span_id: span.status for span in collector.spans if span.name == "job"}
    assert sorted(status.code for status in jobs.values()) == [0, 2]
    assert "Data that does not hold what it should" in {s.message for s in jobs.values()}
    parents = {span.parent_span_id for span in collector.spans if span.name in ("chunk", "publish")}
    assert len(parents) == 1  # of the job that could be opened
    assert parents < set(jobs)


def _answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    before = trace.get_tracer_provider()
    with structlog.testing.capture_logs() as lines, tracing():
        assert trace.get_tracer_provider() is before
    [line] = lines
    assert (line["event"], line["log_level"]) == ("tracing_not_installed", "warning")
    assert line["install"] == "pip install amodal[otel]"


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with (
        pytest.raises(InputError, match="OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc', must be"),
        tracing(),
    ):
        pass


def test_without_an_endpoint_nothing_is_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    before = trace.get_tracer_provider()
    with tracing():
        assert trace.get_tracer_provider() is before
