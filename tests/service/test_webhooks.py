"""Webhooks to a real receiver, checked with the specification's own library."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
from standardwebhooks import Webhook

from amodal_model.errors import InputError
from amodal_service import webhook_outbox, webhooks
from amodal_service.address_guard import AddressGuard
from amodal_service.database import Database, open_database
from amodal_service.ingest_tables import webhooks as table
from amodal_service.webhook_outbox import add_message, take_due
from amodal_service.webhooks import deliver_due, retry_delay_s, secret_key

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
HERE = AddressGuard(frozenset({"127.0.0.1"}))


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets; answers with ``statuses`` one after the other, then 204."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?x=1"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 0:
            time.sleep(1)
            return
        self.send_response(status)
        self.send_header("Location", "http://169.254.169.254/")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, args=(0.02,), daemon=True).start()
        yield receiver
        receiver.shutdown()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/amodal.sqlite3")


def send(database: Database, url: str, job: str = "job1") -> None:
    with database.write() as connection:
        add_message(connection, job, 1, "succeeded", {"url": url, "secret": SECRET})


def state_of(database: Database) -> tuple[str, int, str | None]:
    with database.read() as connection:
        query = sa.select(table.c.state, table.c.attempts, table.c.last_error)
        state, attempts, error = connection.execute(query).one()
        return state, attempts, error


def make_due(database: Database) -> None:
    with database.write() as connection:
        connection.execute(table.update().values(next_s=0.0))


def test_a_message_is_delivered_once_with_a_signature_that_others_accept(
    database: Database, receiver: Receiver
) -> None:
    send(database, receiver.url)
    assert deliver_due(database, HERE, for_s=60) == 1
    assert deliver_due(database, HERE, for_s=60) == 0
    [(headers, body)] = receiver.got
    payload = Webhook(SECRET).verify(body, headers)
    assert payload["type"] == "job.succeeded"
    assert payload["data"] == {
        "id": "job1",
        "run": 1,
        "state": "succeeded",
        "url": "/v1/jobs/job1",
    }
    assert headers["Content-Type"] == "application/json"
    assert state_of(database) == ("delivered", 1, None)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp"])
def test_a_changed_message_is_not_accepted(
    database: Database, receiver: Receiver, changed: str
) -> None:
    send(database, receiver.url)
    deliver_due(database, HERE, for_s=60)
    [(headers, body)] = receiver.got
    if changed == "body":
        body = body.replace(b"succeeded", b"cancelled")
    else:
        headers[changed] = headers[changed][:-1] + ("1" if headers[changed][-1] != "1" else "2")
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(SECRET).verify(body, headers)


def test_a_failure_is_tried_again_under_the_same_id(database: Database, receiver: Receiver) -> None:
    receiver.statuses = [500, 302]
    send(database, receiver.url)
    for attempt in range(3):
        assert deliver_due(database, HERE, for_s=60) == 1
        assert deliver_due(database, HERE, for_s=60) == 0  # not before its time
        if attempt == 0:
            assert state_of(database) == ("waiting", 1, "answered 500")
        make_due(database)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len(receiver.got) == 3
    assert state_of(database)[0] == "delivered"


def test_a_receiver_that_is_gone_or_fails_for_too_long_is_given_up(
    database: Database, receiver: Receiver
) -> None:
    receiver.statuses = [410]
    send(database, receiver.url)
    deliver_due(database, HERE, for_s=60)
    assert state_of(database) == ("failed", 1, "answered 410")
    receiver.statuses = [500]
    with database.write() as connection:
        connection.execute(table.update().values(next_s=0.0, state="waiting"))
    deliver_due(database, HERE, for_s=0)
    assert state_of(database) == ("failed", 2, "answered 500")


def test_a_message_is_not_sent_inwards(database: Database, receiver: Receiver) -> None:
    send(database, receiver.url)
    deliver_due(database, AddressGuard(), for_s=60)
    assert receiver.got == []
    state, _, error = state_of(database)
    assert (state, error) == (
        "waiting",
        "host '127.0.0.1' has the address 127.0.0.1, which is not public",
    )


def test_a_receiver_that_says_nothing_is_left(
    database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ATTEMPT_S", 0.2)
    receiver.statuses = [0]
    send(database, receiver.url)
    start_s = time.monotonic()
    deliver_due(database, HERE, for_s=60)
    assert time.monotonic() - start_s < 0.9
    assert state_of(database) == ("waiting", 1, "no answer within 0.2 s")


def test_two_who_deliver_do_not_send_one_message_twice(
    database: Database, receiver: Receiver
) -> None:
    for number in range(12):
        send(database, receiver.url, f"job{number}")
    threads = [
        threading.Thread(target=lambda: [deliver_due(database, HERE, for_s=60) for _ in range(3)])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sent = [json.loads(body)["data"]["id"] for _, body in receiver.got]
    assert sorted(sent) == sorted(f"job{number}" for number in range(12))


def test_what_a_dead_process_took_comes_back(database: Database, receiver: Receiver) -> None:
    send(database, receiver.url)
    with database.write() as connection:
        assert len(take_due(connection, lease_s=0.05)) == 1
        assert take_due(connection, lease_s=0.05) == []
    time.sleep(0.06)
    assert deliver_due(database, HERE, for_s=60) == 1
    assert state_of(database) == ("delivered", 2, None)


def test_one_end_of_a_run_is_one_message(database: Database) -> None:
    send(database, "http://a.example/")
    send(database, "http://a.example/")
    with database.write() as connection:
        add_message(connection, "job2", 1, "succeeded", None)
        assert len(take_due(connection, lease_s=60)) == 1


def test_old_messages_are_forgotten_but_not_those_that_wait(
    database: Database, receiver: Receiver
) -> None:
    send(database, receiver.url, "job1")
    deliver_due(database, HERE, for_s=60)
    send(database, receiver.url, "job2")
    with database.write() as connection:
        webhook_outbox.drop_old(connection, time.time() + 60)
    assert state_of(database)[0] == "waiting"


def test_delays_grow_to_hours() -> None:
    delays = [retry_delay_s(attempts) for attempts in range(1, 9)]
    assert 4 <= delays[0] <= 6
    assert 16 <= delays[1] <= 24
    assert 17280 <= delays[7] <= 25920


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_abc", SECRET[6:], "whsec_" + "A" * 20])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(InputError, match="24 to 64 bytes"):
        secret_key(secret)
