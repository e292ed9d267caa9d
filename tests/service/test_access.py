"""Who may do what, asked of the whole app."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from amodal_service.api_keys import NewKey, create_key, revoke_key
from amodal_service.app import create_app
from amodal_service.job_transitions import insert_job
from amodal_service.jobs import NewJob
from amodal_service.services import Services
from amodal_service.settings import Settings


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return create_app(Settings(data=tmp_path_factory.mktemp("data"), embedded_worker=False))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def new_key(services: Services, *scopes: str, **allowance: int) -> NewKey:
    with services.database.write() as connection:
        return create_key(connection, "test", scopes or ("read", "write"), allowance=allowance)


def bearer(key: NewKey) -> dict[str, str]:
    return {"Authorization": f"Bearer {key.token}"}


def test_a_program_on_this_machine_needs_no_key(client: TestClient) -> None:
    assert client.get("/v1/jobs").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"Host": "rebound.example"},
        {"Host": "localhost.example:8420"},
        {"Origin": "https://site.example"},
        {"Origin": "null"},
    ],
)
def test_a_proxy_or_a_page_of_another_site_needs_a_key(
    client: TestClient, headers: dict[str, str], services: Services
) -> None:
    answer = client.get("/v1/jobs", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:amodal:problem:unknown-caller"
    with_key = {**headers, **bearer(new_key(services))}
    assert client.get("/v1/jobs", headers=with_key).status_code == 200


def test_another_machine_needs_a_key(app: FastAPI, services: Services) -> None:
    far = TestClient(app, client=("203.0.113.9", 4000))
    assert far.get("/v1/jobs").status_code == 401
    assert far.get("/v1/jobs", headers=bearer(new_key(services))).status_code == 200
    assert far.get("/healthz").status_code == 200


def test_a_wrong_key_is_not_anonymous(client: TestClient, services: Services) -> None:
    key = new_key(services)
    with services.database.write() as connection:
        revoke_key(connection, key.key.id)
    for headers in (bearer(key), {"Authorization": "Bearer amodal_x"}):
        assert client.get("/v1/jobs", headers=headers).status_code == 401


def test_a_key_does_what_its_scopes_say(client: TestClient, services: Services) -> None:
    reader = bearer(new_key(services, "read"))
    assert client.get("/v1/jobs", headers=reader).status_code == 200
    answer = client.post("/v1/jobs", headers=reader, json={})
    assert answer.status_code == 403
    assert answer.json()["detail"] == "this API key lacks the scope 'write'"


def test_nobody_sees_anothers_job(client: TestClient, services: Services) -> None:
    mine, other = new_key(services), new_key(services)
    with services.database.write() as connection:
        insert_job(connection, NewJob("0" * 32, mine.key.owner, {"video_name": "a"}, "", 5))
    url = f"/v1/jobs/{'0' * 32}"
    assert client.get(url, headers=bearer(mine)).status_code == 200
    unknown = client.get(f"/v1/jobs/{'1' * 32}", headers=bearer(other))
    for method, path in (
        ("GET", url),
        ("GET", f"{url}/events"),
        ("GET", f"{url}/results"),
        ("GET", f"{url}/artifacts/amodal.json"),
        ("POST", f"{url}/cancel"),
        ("POST", f"{url}/retry"),
        ("DELETE", url),
    ):
        answer = client.request(method, path, headers=bearer(other))
        assert answer.status_code == unknown.status_code == 404
        assert answer.json()["detail"].replace("0" * 32, "1" * 32) == unknown.json()["detail"]
    assert client.get("/v1/jobs", headers=bearer(other)).json()["jobs"] == []
    assert client.get(url, headers=bearer(mine)).json()["state"] == "queued"


def test_too_many_requests_are_told_when_to_come_back(
    client: TestClient, services: Services
) -> None:
    key = bearer(new_key(services, requests_per_minute=2))
    answers = [client.get("/v1/jobs", headers=key) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["type"] == "urn:amodal:problem:quota"


def test_bytes_are_counted_even_of_a_request_that_is_refused(
    client: TestClient, services: Services
) -> None:
    key = bearer(new_key(services, bytes_per_hour=5000))
    for status in (422, 422, 429):
        answer = client.post("/v1/segment", headers=key, json={"nonsense": "x" * 3000})
        assert answer.status_code == status
    assert "bytes used, limit 5000 an hour" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) <= 3600
    assert client.get("/v1/jobs", headers=key).status_code == 200


def test_one_request_larger_than_the_hour_is_refused_unread(
    client: TestClient, services: Services
) -> None:
    key = bearer(new_key(services, bytes_per_hour=5000))
    answer = client.post("/v1/segment", headers=key, json={"nonsense": "x" * 6000})
    assert answer.status_code == 413
