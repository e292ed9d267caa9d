"""Health, models, metrics, and the document of it all."""

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

METHODS = {"get", "post", "put", "patch", "delete", "head"}


def test_a_server_is_ready_when_its_model_has_run(client: TestClient) -> None:
    ready = client.get("/readyz").json()
    assert ready["status"] == "ready"
    assert ready["step_ms"] > 0
    assert ready["model"] == client.get("/v1/models").json()["models"][0]


def test_a_model_says_what_it_really_runs_on(client: TestClient) -> None:
    model = client.get("/v1/models").json()["models"][0]
    assert model["provider_actual"] in model["provider_requested"]
    assert re.fullmatch("[0-9a-f]{64}", model["sha256"])


def test_metrics_tell_of_jobs_workers_and_queue_time(client: TestClient) -> None:
    client.get("/healthz")
    text = client.get("/metrics").text
    assert "amodal_workers 1.0" in text
    assert 'amodal_jobs{state="queued"}' in text
    assert "amodal_job_queue_seconds_count" in text
    assert 'amodal_request_seconds_count{method="GET",route="/healthz",status="200"}' in text


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def test_every_route_is_documented_with_its_problems(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for name, operation in _operations(document):
        assert operation.get("description"), name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)


def test_every_reference_of_the_document_leads_somewhere(client: TestClient) -> None:
    document = client.get("/openapi.json")
    named = set(re.findall(r'"#/components/schemas/(\w+)"', document.text))
    assert named
    assert named <= document.json()["components"]["schemas"].keys()


def test_whoever_is_asked_for_a_key_may_also_be_told_to_wait(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    asked = {name for name, each in _operations(document) if "401" in each["responses"]}
    assert asked == {name for name, each in _operations(document) if "security" in each}
    assert asked == {name for name, each in _operations(document) if "429" in each["responses"]}
    assert {"POST /v1/segment", "GET /v1/models"} <= asked


def test_the_version_of_tus_is_documented_where_it_is_demanded(client: TestClient) -> None:
    for name, operation in _operations(client.get("/openapi.json").json()):
        named = [each["name"] for each in operation.get("parameters", []) if each["required"]]
        assert ("Tus-Resumable" in named) == ("412" in operation["responses"]), name


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/healthz", "GET"),
        ("/v1/jobs", "GET, POST"),
        (f"/v1/jobs/{'0' * 32}", "DELETE, GET"),
    ],
)
def test_every_allowed_method_of_a_path_is_named(
    client: TestClient, path: str, allowed: str
) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
