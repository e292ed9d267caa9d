"""One shape for every error, one table from errors to statuses."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from amodal_model import errors
from amodal_model.errors import AmodalError, QuotaError
from amodal_service.app import create_app
from amodal_service.problems import KINDS, kind_of, problem_of
from amodal_service.settings import Settings


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Settings(data=tmp_path, embedded_worker=False))

    @app.get("/fails/{name}")
    def fails(name: str, number: int = 0) -> None:
        if name == "QuotaError":
            raise QuotaError("10 requests a minute", 7.2)
        raise getattr(errors, name, ZeroDivisionError)(f"what was wrong, {number}, limit 3")

    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_every_error_of_ours_has_its_status() -> None:
    own = [cls for cls in vars(errors).values() if isinstance(cls, type)]
    assert {cls.__name__ for cls in own} == {cls.__name__ for cls in KINDS}


def test_an_unlisted_class_takes_the_nearest_status() -> None:
    class NewLimitError(errors.LimitError):
        """A kind that nobody has thought of."""

    assert kind_of(NewLimitError("")).status == 413


def test_an_internal_error_says_nothing_about_itself() -> None:
    assert "secret" not in str(problem_of(ZeroDivisionError("secret path")))
    assert problem_of(AmodalError("secret"))["status"] == 500


def test_an_error_of_ours_is_answered_in_the_one_shape(client: TestClient) -> None:
    answer = client.get("/fails/LimitError?number=4")
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:amodal:problem:limit",
        "title": "Larger than a limit",
        "status": 413,
        "detail": "what was wrong, 4, limit 3",
        "instance": "/fails/LimitError",
        "request_id": answer.headers["x-request-id"],
    }


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/healthz", "POST", 405),
        ("/fails/InputError?number=x", "GET", 422),
        ("/fails/Unforeseen", "GET", 500),
    ],
)
def test_every_other_error_has_the_same_shape(
    client: TestClient, path: str, method: str, status: int
) -> None:
    answer = client.request(method, path)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert {"type", "title", "detail", "instance", "request_id"} <= set(problem)


def test_a_used_up_allowance_says_when_to_come_back(client: TestClient) -> None:
    answer = client.get("/fails/QuotaError")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "8")


def test_a_clients_own_request_id_is_kept(client: TestClient) -> None:
    assert (
        client.get("/healthz", headers={"x-request-id": "mine.1"}).headers["x-request-id"]
        == "mine.1"
    )
    strange = client.get("/healthz", headers={"x-request-id": "two words"})
    assert strange.headers["x-request-id"] != "two words"
