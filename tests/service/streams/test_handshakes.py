"""Handshakes of streams as bytes: whole, in pieces, after a request; what their headers say."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from service_processes import wait_until
from stream_socket import StreamServer, stream_server

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StreamServer]:
    folder = tmp_path_factory.mktemp("data")
    with stream_server(folder, folder / "log", {}) as server:
        yield server


def handshake(
    *extra: str, target: str = "/v1/stream", host: str = "127.0.0.1", upgrade: str = "websocket"
) -> bytes:
    lines = (
        f"GET {target} HTTP/1.1",
        f"HOST: {host}",
        f"UPGRADE: {upgrade}",
        "connection: Upgrade",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: amodal.stream.v1",
        *extra,
    )
    return "\r\n".join((*lines, "", "")).encode()


def answer(server: StreamServer, *pieces: bytes) -> str:
    """Return what comes back when pieces are sent one after the other."""
    with connected(server) as connection:
        for each in pieces:
            connection.sendall(each)
            time.sleep(0.05)
        connection.settimeout(1.0)
        data = b""
        while b'{"op":' not in data:
            try:
                read = connection.recv(65536)
            except TimeoutError:
                break
            if not read:
                break
            data += read
        return data.decode(errors="replace")


def connected(server: StreamServer) -> socket.socket:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), 10)


WHOLE = handshake()


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param((WHOLE,), id="whole"),
        pytest.param((WHOLE[:20], WHOLE[20:]), id="in two pieces"),
        pytest.param((WHOLE[:-2], WHOLE[-2:]), id="whole but for its end"),
        pytest.param((handshake(target="/v1/stream?mode=lossless"),), id="with options"),
        pytest.param((REQUEST, WHOLE), id="after a request"),
    ],
)
def test_a_handshake_is_answered_with_a_welcome(
    server: StreamServer, pieces: tuple[bytes, ...]
) -> None:
    said = answer(server, *pieces)
    assert "101 Switching Protocols" in said
    assert '{"op":"welcome"' in said


@pytest.mark.parametrize(
    "sent",
    [
        handshake("X-FORWARDED-FOR: 192.0.2.1"),
        handshake("Forwarded: for=192.0.2.1"),
        handshake(host="elsewhere.example"),
        handshake("ORIGIN: https://elsewhere.example"),
    ],
)
def test_names_of_headers_are_read_in_any_letters(server: StreamServer, sent: bytes) -> None:
    """Who says by them that it is not from this machine needs a key."""
    said = answer(server, sent)
    assert '"status":401' in said or '"status":403' in said


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (handshake(target="/v1/streamer"), "403"),
        (handshake(upgrade="h2c"), "404"),
        (WHOLE.replace(b"connection: Upgrade", b"connection: close"), "426"),
        (WHOLE.replace(b"Version: 13", b"Version: 12"), "400"),
        (b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "404"),
    ],
)
def test_what_is_no_handshake_of_a_stream_is_refused(
    server: StreamServer, sent: bytes, status: str
) -> None:
    assert answer(server, sent).startswith(f"HTTP/1.1 {status} ")


def test_of_many_at_once_each_is_welcomed(server: StreamServer) -> None:
    connections = [connected(server) for _ in range(30)]
    for each in connections:
        each.sendall(handshake(target="/v1/stream?max_objects=1&max_message_bytes=4096"))
    for each in connections:
        each.settimeout(10.0)
        data = b""
        while b'{"op":"welcome"' not in data:
            read = each.recv(65536)
            assert read, data
            data += read
        each.close()


def test_clients_that_are_gone_at_once_leave_nothing_behind(server: StreamServer) -> None:
    for _ in range(100):
        connection = connected(server)
        connection.sendall(WHOLE)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert '{"op":"welcome"' in answer(server, WHOLE)
    wait_until(lambda: "connected" not in states(server))


def states(server: StreamServer) -> set[str]:
    listed = httpx2.get(f"{server.url}/v1/streams").json()
    return {each["state"] for each in listed["streams"]}
