"""Answers that are lost on the way: nothing is done twice, nothing is missing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from killable_server import Served
from small_clips import SmallClip, write_small_clip

from amodal_client import Client, ConnectionLostError


class Cut(NamedTuple):
    """An answer to cut off, once: to the request that begins so, after some bytes."""

    request: bytes
    after_bytes: int


class CuttingProxy:
    """Hands connections on to a server, and cuts some answers off; for one client in turn."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.to_cut: list[Cut] = []
        self.was_cut: list[bytes] = []
        self._cut: Cut | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            sender = threading.Thread(target=self._send, args=(client, server), daemon=True)
            sender.start()
            self._hand_back(server, client)
            _shut(client)
            _shut(server)
            sender.join(5)

    def _hand_back(self, server: socket.socket, client: socket.socket) -> None:
        sent = 0  # of the answer that is to be cut off
        while data := _receive(server):
            cut = self._cut
            if cut is None:
                client.sendall(data)
                continue
            client.sendall(data[: cut.after_bytes - sent])
            sent += len(data)
            if sent >= cut.after_bytes:
                self._cut = None
                self.was_cut.append(cut.request)
                return

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        while data := _receive(client):
            for cut in self.to_cut:
                if data.startswith(cut.request):
                    self.to_cut.remove(cut)
                    self._cut = cut
                    break
            try:
                server.sendall(data)
            except OSError:
                return


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "street.mp4", 12)


@pytest.fixture
def proxy(served: Served) -> Iterator[CuttingProxy]:
    proxy = CuttingProxy(int(served.url.rpartition(":")[2]))
    yield proxy
    proxy.close()


def test_a_job_whose_answer_was_lost_is_made_once(proxy: CuttingProxy, clip: SmallClip) -> None:
    with Client(proxy.url) as client:
        before = {job.id for job in client.jobs()}
        proxy.to_cut = [Cut(b"POST /v1/jobs ", 0)]
        job = client.submit(clip.video, clip.visible)
        assert {each.id for each in client.jobs()} - before == {job.id}
        client.wait(job)
    assert proxy.was_cut == [b"POST /v1/jobs "]


def test_changes_whose_answers_were_lost_count_once(
    proxy: CuttingProxy, clip: SmallClip, tmp_path: Path
) -> None:
    long = write_small_clip(tmp_path, "long.mp4", 300)
    with Client(proxy.url) as client:
        job = client.submit(long.video, long.visible)
        path = f"/v1/jobs/{job.id}".encode()
        proxy.to_cut = [
            Cut(b"POST " + path + b"/cancel", 0),
            Cut(b"POST " + path + b"/retry", 20),
            Cut(b"DELETE " + path, 0),
        ]
        assert client.cancel(job).state == "cancelled"
        assert client.retry(job).runs == 2
        client.delete(job)
        assert job.id not in [each.id for each in client.jobs()]
    assert len(proxy.was_cut) == 3


def test_streams_that_break_go_on_where_they_were(
    proxy: CuttingProxy, served: Served, clip: SmallClip, tmp_path: Path
) -> None:
    with Client(served.url) as client:
        job = client.wait(client.submit(clip.video, clip.visible))
        frames, events = list(client.results(job)), list(client.events(job))
        whole = client.download(job, "amodal.json", tmp_path).read_bytes()
    path = f"GET /v1/jobs/{job.id}".encode()
    streams = (b"/results", b"/events", b"/artifacts")
    with Client(proxy.url) as client:
        for after_bytes in (100, 700, 1500):
            proxy.to_cut = [Cut(path + stream, after_bytes) for stream in streams]
            assert list(client.results(job)) == frames
            assert list(client.events(job)) == events
            again = client.download(job, "amodal.json", tmp_path / f"{after_bytes}.json")
            assert again.read_bytes() == whole
    assert len(proxy.was_cut) == 9


def test_who_does_not_want_to_wait_is_told_at_once(proxy: CuttingProxy) -> None:
    proxy.to_cut = [Cut(b"GET /v1/models", 0)]
    with Client(proxy.url, retry_s=0) as client, pytest.raises(ConnectionLostError):
        client.models()
