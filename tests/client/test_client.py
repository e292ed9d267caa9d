"""One surface for both clients, without torch and without the server's code."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from amodal_client import AsyncClient, Client, ClientError, ConnectionLostError, UsageError
from amodal_client.exchange import Patience


def _surface(kind: type) -> dict[str, list[inspect.Parameter]]:
    return {
        name: list(inspect.signature(method).parameters.values())
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


def test_both_clients_have_one_surface() -> None:
    assert _surface(Client) == _surface(AsyncClient)
    assert {"segment", "submit", "wait", "events", "results", "download"} <= _surface(Client).keys()


def test_the_client_loads_neither_torch_nor_the_server() -> None:
    code = (
        "import sys, amodal_client; "
        "print([n for n in sys.modules if n.split('.')[0] in "
        "('torch', 'amodal_service', 'amodal_model', 'fastapi', 'cv2', 'onnxruntime')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8420", "ftp://a", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="server"):
        Client(url)


def test_patience_ends_and_is_renewed_by_progress() -> None:
    now_s = [0.0]
    patience = Patience(10.0, clock=lambda: now_s[0])
    error = ConnectionLostError("gone")
    waits: list[float] = []

    def fail_on() -> None:
        while True:
            waits.append(patience.wait_s(error))
            now_s[0] += waits[-1]

    with pytest.raises(ConnectionLostError):
        fail_on()
    assert 0.1 <= waits[0] <= 0.2
    assert max(waits) <= 5.0
    assert 4.0 < sum(waits) <= 10.0
    patience.renew()
    assert patience.wait_s(error) <= 0.2


def test_a_wait_that_the_server_asks_for_is_kept_or_refused() -> None:
    patience = Patience(10.0, clock=lambda: 0.0)
    error = ClientError("later")
    error.retry_after_s = 6.0
    assert patience.wait_s(error) == 6.0
    error.retry_after_s = 60.0
    with pytest.raises(ClientError):
        patience.wait_s(error)


def test_a_server_that_was_never_there_is_said_to_be_out_of_reach() -> None:
    with Client("http://127.0.0.1:9", retry_s=0.5) as client, pytest.raises(ConnectionLostError):
        client.models()
