"""Fetching from a real server on this machine, which behaves as badly as it is asked to."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from amodal_model.errors import InputError, LimitError
from amodal_service.address_guard import AddressGuard
from amodal_service.url_fetch import FetchLimits, fetch_url

BODY = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """Counts its requests."""

    daemon_threads = True
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.server.requests += 1
        kind, _, rest = self.path[1:].partition("/")
        getattr(self, f"_{kind}")(rest)

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def _file(self, _: str) -> None:
        self._head(200, Content_Length=str(len(BODY)))
        self.wfile.write(BODY)

    def _to(self, target: str) -> None:
        self._head(302, Location=target, Content_Length="0")

    def _around(self, _: str) -> None:
        self._head(307, Location="/around/", Content_Length="0")

    def _endless(self, _: str) -> None:
        self._head(200, Connection="close")
        try:
            while True:
                self.wfile.write(BODY)
        except OSError:
            self.close_connection = True

    def _huge(self, _: str) -> None:
        self._head(200, Content_Length=str(1 << 40), Connection="close")

    def _trickle(self, _: str) -> None:
        self._head(200, Content_Length="1000", Connection="close")
        self._write_slowly(b"x" * 1000)

    def _slowhead(self, _: str) -> None:
        self._write_slowly(b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 1000)

    def _write_slowly(self, content: bytes) -> None:
        self.close_connection = True
        try:
            for byte in content:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            return

    def _short(self, _: str) -> None:
        self._head(200, Content_Length=str(len(BODY)), Connection="close")
        self.wfile.write(BODY[:1000])
        self.close_connection = True

    def _gzip(self, _: str) -> None:
        self._head(200, Content_Encoding="gzip", Content_Length="3")
        self.wfile.write(b"abc")

    def _nonsense(self, _: str) -> None:
        self.wfile.write(b"\x00\x01 nonsense\r\n\r\n")
        self.close_connection = True

    def _gone(self, _: str) -> None:
        self._head(404, Content_Length="0")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


HERE = AddressGuard(frozenset({"127.0.0.1"}))


def test_a_file_is_fetched_whole_with_its_name(server: Server, tmp_path: Path) -> None:
    got = fetch_url(f"{server.url}/file/my%20clip.mp4?x=1", tmp_path / "a", HERE)
    assert (got.path.read_bytes(), got.size_bytes, got.name) == (BODY, len(BODY), "my clip.mp4")


def test_a_redirect_is_followed_to_the_end(server: Server, tmp_path: Path) -> None:
    got = fetch_url(f"{server.url}/to//to//file/b.mp4", tmp_path / "a", HERE)
    assert (got.path.read_bytes(), got.name) == (BODY, "b.mp4")


def test_this_machine_is_refused_without_a_connection(server: Server, tmp_path: Path) -> None:
    before = server.requests
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"):
        with pytest.raises(InputError, match=r"not public|cannot be resolved"):
            fetch_url(f"http://{host}:{server.server_port}/file/a", tmp_path / "a", AddressGuard())
    assert server.requests == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("http://169.254.169.254/latest/meta-data", r"address 169\.254\.169\.254, which is not"),
        ("http://localhost/file/a", r"host 'localhost' has the address .*, which is not public"),
        ("http://[::1]/file/a", r"address ::1, which is not public"),
        ("//10.0.0.1/", r"address 10\.0\.0\.1, which is not public"),
        ("file:///etc/passwd", r"of the kind 'file'"),
        ("gopher://x/", r"of the kind 'gopher'"),
        ("http://[", r"redirected to what is no URL"),
    ],
)
def test_a_redirect_inwards_is_refused(
    server: Server, tmp_path: Path, target: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fetch_url(f"{server.url}/to/{target}", tmp_path / "a", HERE)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_changes_its_address_is_refused_or_pinned(
    server: Server, tmp_path: Path
) -> None:
    answers = iter([["1.1.1.1"], ["127.0.0.1"]])  # public when first asked, then this machine
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    guard = AddressGuard(resolve=resolve)
    assert guard.addresses("rebind.example", server.server_port) == ["1.1.1.1"]  # the early check
    before = server.requests
    with pytest.raises(InputError, match=r"'rebind\.example' has the address 127\.0\.0\.1"):
        fetch_url(f"http://rebind.example:{server.server_port}/file/a", tmp_path / "a", guard)
    assert (server.requests, asked) == (before, ["rebind.example"] * 2)


def test_the_connection_goes_to_the_address_that_was_judged(server: Server, tmp_path: Path) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    guard = AddressGuard(frozenset({"store.invalid"}), resolve)
    got = fetch_url(f"http://store.invalid:{server.server_port}/file/a", tmp_path / "a", guard)
    assert got.size_bytes == len(BODY)  # the system's resolver does not know this name
    assert asked == ["store.invalid"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("huge/", r"has 1099511627776 bytes, limit 200000"),
        ("endless/", r"more than 200000 bytes"),
        ("around/", "more than 5 redirects"),
        ("trickle/", r"too slow: .* 0\.5 s for all of it"),
        ("slowhead/", r"too slow: .* 0\.5 s for all of it"),
    ],
)
def test_too_much_and_too_slow_end_at_the_limit(
    server: Server, tmp_path: Path, path: str, message: str
) -> None:
    start_s = time.monotonic()
    with pytest.raises(LimitError, match=message):
        fetch_url(f"{server.url}/{path}", tmp_path / "a", HERE, FetchLimits(200_000, 0.5))
    assert time.monotonic() - start_s < 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("short/", "cannot be fetched from"),
        ("gzip/", "compressed body"),
        ("nonsense/", "cannot be fetched from"),
        ("gone/", "answers 404, must be 200"),
    ],
)
def test_an_answer_that_is_no_file_is_one_line(
    server: Server, tmp_path: Path, path: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        fetch_url(f"{server.url}/{path}", tmp_path / "a", HERE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for ``store.invalid``, signed by itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(  # noqa: S603  (a fixed command)
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=store.invalid", "-addext", "subjectAltName=DNS:store.invalid"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_a_certificate_must_be_that_of_the_name(
    tls_files: tuple[Path, Path], tmp_path: Path
) -> None:
    names = frozenset({"store.invalid", "other.invalid"})
    guard = AddressGuard(names, lambda host, port: ["127.0.0.1"])
    trusting = ssl.create_default_context(cafile=tls_files[0])
    with Server(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls_files)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"https://store.invalid:{server.server_port}"
        assert fetch_url(f"{url}/file/a", tmp_path / "a", guard, tls=trusting).size_bytes == len(
            BODY
        )
        with pytest.raises(InputError, match="certificate verify failed"):
            fetch_url(f"{url}/file/a", tmp_path / "b", guard)
        other = url.replace("store", "other")
        with pytest.raises(InputError, match="certificate is not valid for 'other"):
            fetch_url(f"{other}/file/a", tmp_path / "b", guard, tls=trusting)
        with pytest.raises(InputError, match="from https to a connection that is not encrypted"):
            fetch_url(f"{url}/to/http://store.invalid/", tmp_path / "b", guard, tls=trusting)
        server.shutdown()


def test_a_closed_port_is_an_input_error(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(InputError, match=r"'127\.0\.0\.1' cannot be fetched from"):
        fetch_url(f"http://127.0.0.1:{port}/", tmp_path / "a", HERE)
