"""The upload protocol, header by header."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from amodal_model.errors import ConflictError
from amodal_service import uploads
from amodal_service.api_keys import create_key
from amodal_service.app import create_app
from amodal_service.retention import sweep
from amodal_service.services import Services
from amodal_service.settings import Limits, Settings

TUS = {"Tus-Resumable": "1.0.0"}
CONTENT = bytes(range(256)) * 16
UNKNOWN = f"/v1/uploads/{'0' * 32}"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    limits = Limits(upload_bytes=1 << 20)
    data = tmp_path_factory.mktemp("data")
    return create_app(Settings(data=data, embedded_worker=False, limits=limits))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def start(client: TestClient, size: int = len(CONTENT), metadata: str = "") -> str:
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}
    answer = client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["upload-offset"] == "0"
    location: str = answer.headers["location"]
    return location


def patch(client: TestClient, url: str, offset: int, content: bytes, **headers: str) -> Any:
    sent = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return client.patch(url, headers={**sent, **headers}, content=content)


def stored(services: Services, url: str) -> bytes:
    with services.database.read() as connection:
        parts = uploads.parts_of(connection, url.rsplit("/", 1)[1])
    return b"".join(services.storage.get(part.key) for part in parts)


def offset_of(client: TestClient, url: str) -> int:
    return int(client.head(url, headers=TUS).headers["upload-offset"])


def test_the_server_says_what_it_speaks(client: TestClient) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(1 << 20)
    assert "creation" in answer.headers["tus-extension"].split(",")


def test_an_upload_in_pieces_is_whole(client: TestClient, services: Services) -> None:
    name = base64.b64encode(b"my clip.mp4").decode()
    url = start(client, metadata=f"filename {name},is_confidential")
    for at in range(0, len(CONTENT), 1500):
        answer = patch(client, url, at, CONTENT[at : at + 1500])
        assert answer.status_code == 204
        assert int(answer.headers["upload-offset"]) == min(at + 1500, len(CONTENT))
        assert parsedate_to_datetime(answer.headers["upload-expires"]).timestamp() > time.time()
    head = client.head(url, headers=TUS)
    assert head.headers["upload-length"] == head.headers["upload-offset"] == str(len(CONTENT))
    assert head.headers["upload-metadata"] == f"filename {name},is_confidential"
    assert head.headers["cache-control"] == "no-store"
    assert stored(services, url) == CONTENT
    described = client.get(url).json()
    assert (described["name"], described["offset"]) == ("my clip.mp4", len(CONTENT))


def test_bytes_may_come_with_the_creation(client: TestClient, services: Services) -> None:
    headers = {
        **TUS,
        "Upload-Length": str(len(CONTENT)),
        "Content-Type": "application/offset+octet-stream",
    }
    answer = client.post("/v1/uploads", headers=headers, content=CONTENT)
    assert answer.status_code == 201
    assert answer.headers["upload-offset"] == str(len(CONTENT))
    assert stored(services, answer.headers["location"]) == CONTENT


def test_a_large_request_is_stored_in_parts(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 1000)
    url = start(client)
    assert patch(client, url, 0, CONTENT).status_code == 204
    found = services.storage.list(f"uploads/{url.rsplit('/', 1)[1]}")
    assert sorted(each.size_bytes for each in found) == [96, 1000, 1000, 1000, 1000]
    assert stored(services, url) == CONTENT


def test_what_came_before_a_connection_broke_off_is_kept(
    services: Services, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PART_BYTES", 1000)
    url = start(client)
    with services.database.read() as connection:
        upload = uploads.find_upload(connection, url.rsplit("/", 1)[1], "anonymous")

    async def breaking() -> AsyncIterator[bytes]:
        yield CONTENT[:2500]
        raise ClientDisconnect

    async def save(parts: Sequence[uploads.UploadPart]) -> None:
        with services.database.write() as connection:
            uploads.add_parts(connection, upload, parts, 60)

    async def run() -> int | None:
        intake = uploads.Intake(breaking(), upload.size_bytes)
        return await uploads.receive(services.storage, upload, intake, save, None)

    assert anyio.run(run) == 2500
    assert offset_of(client, url) == 2500
    assert patch(client, url, 2500, CONTENT[2500:]).status_code == 204
    assert stored(services, url) == CONTENT


def test_of_two_requests_for_the_same_bytes_one_wins(
    services: Services, client: TestClient
) -> None:
    url = start(client)
    with services.database.read() as connection:
        before = uploads.find_upload(connection, url.rsplit("/", 1)[1], "anonymous")
    assert patch(client, url, 0, CONTENT[:100]).status_code == 204
    part = uploads.UploadPart(0, "elsewhere", 100)
    with (
        services.database.write() as connection,
        pytest.raises(ConflictError, match="at byte 100, not at 0"),
    ):
        uploads.add_parts(connection, before, [part], 60)


def test_a_wrong_offset_is_a_conflict(client: TestClient) -> None:
    url = start(client)
    answer = patch(client, url, 5, CONTENT)
    assert answer.status_code == 409
    assert answer.json()["detail"] == "upload is at byte 0, not at 5"
    assert answer.headers["tus-resumable"] == "1.0.0"


def test_bytes_beyond_the_length_are_refused_and_not_kept(
    client: TestClient, services: Services
) -> None:
    url = start(client, 100)
    answer = patch(client, url, 0, CONTENT)
    assert answer.status_code == 413
    assert offset_of(client, url) == 0
    assert list(services.storage.list(f"uploads/{url.rsplit('/', 1)[1]}")) == []


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_a_checksum_is_kept_or_nothing_is(
    client: TestClient, services: Services, algorithm: str
) -> None:
    url = start(client)
    digest = base64.b64encode(hashlib.new(algorithm, CONTENT).digest()).decode()
    wrong = patch(
        client, url, 0, CONTENT[:-1] + b"x", **{"Upload-Checksum": f"{algorithm} {digest}"}
    )
    assert wrong.status_code == 460
    assert wrong.json()["type"] == "urn:amodal:problem:checksum"
    assert offset_of(client, url) == 0
    assert list(services.storage.list(f"uploads/{url.rsplit('/', 1)[1]}")) == []
    right = patch(client, url, 0, CONTENT, **{"Upload-Checksum": f"{algorithm} {digest}"})
    assert right.status_code == 204
    assert stored(services, url) == CONTENT


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Upload-Length": "5"}, 412),
        ({"Upload-Length": "5", "Tus-Resumable": "0.2.2"}, 412),
        ({**TUS}, 422),
        ({**TUS, "Upload-Length": "-1"}, 422),
        ({**TUS, "Upload-Length": "many"}, 422),
        ({**TUS, "Upload-Length": str((1 << 20) + 1)}, 413),
        ({**TUS, "Upload-Length": "9" * 30}, 422),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "filename ???"}, 422),
        ({**TUS, "Upload-Length": "5", "Upload-Metadata": "x " + "A" * 5000}, 422),
    ],
)
def test_a_creation_that_is_not_right_is_refused(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    answer = client.post("/v1/uploads", headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_patch_needs_its_content_type_and_a_known_checksum(client: TestClient) -> None:
    url = start(client)
    assert patch(client, url, 0, CONTENT, **{"Content-Type": "text/plain"}).status_code == 415
    for given in ("crc32 AAAA", "sha1 ???", "sha1"):
        assert patch(client, url, 0, CONTENT, **{"Upload-Checksum": given}).status_code in (
            422,
            460,
        )
    assert offset_of(client, url) == 0


def test_a_removed_upload_is_gone_with_its_bytes(client: TestClient, services: Services) -> None:
    url = start(client)
    patch(client, url, 0, CONTENT)
    assert client.delete(url, headers=TUS).status_code == 204
    for method in ("HEAD", "DELETE"):
        assert client.request(method, url, headers=TUS).status_code == 404
    assert patch(client, url, 0, CONTENT).status_code == 404
    assert list(services.storage.list(f"uploads/{url.rsplit('/', 1)[1]}")) == []


def test_nobody_sees_anothers_upload(client: TestClient, services: Services) -> None:
    url = start(client)
    with services.database.write() as connection:
        token = create_key(connection, "other", ["read", "write"]).token
    key = {"Authorization": f"Bearer {token}"}
    assert client.head(url, headers={**TUS, **key}).status_code == 404
    assert client.get(url, headers=key).json()["title"] == client.get(UNKNOWN).json()["title"]
    assert patch(client, url, 0, CONTENT, **key).status_code == 404
    assert client.delete(url, headers={**TUS, **key}).status_code == 404
    source = {"upload_id": url.rsplit("/", 1)[1]}
    answer = client.post("/v1/jobs", headers=key, json={"video": source, "visible": source})
    assert answer.status_code == 404


def test_an_upload_that_nobody_goes_on_with_expires(
    client: TestClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start(client)
    patch(client, url, 0, CONTENT[:100])
    later_s = time.time() + services.policies.upload_seconds + 1
    monkeypatch.setattr(time, "time", lambda: later_s)
    assert client.head(url, headers=TUS).status_code == 404
    assert sweep(services.place, services.queue).uploads >= 1
    monkeypatch.undo()
    assert client.head(url, headers=TUS).status_code == 404
    assert list(services.storage.list(f"uploads/{url.rsplit('/', 1)[1]}")) == []


def test_a_job_needs_a_whole_upload(client: TestClient) -> None:
    url = start(client)
    patch(client, url, 0, CONTENT[:100])
    source = {"upload_id": url.rsplit("/", 1)[1]}
    answer = client.post("/v1/jobs", json={"video": source, "visible": source})
    assert answer.status_code == 422
    assert "is at byte 100 of 4096: not finished" in answer.json()["detail"]
