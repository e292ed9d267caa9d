"""A `FakeStream` behind real sockets, whose connections break where a test wants it."""

from __future__ import annotations

import json
import random
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fake_stream import FakeStream
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from amodal_client.stream_messages import GoAway, SessionKind, encode_message
from amodal_client.stream_wire import SUBPROTOCOL


class FakeStreamServer:
    """Serves one stream; use it in ``with``.

    Attributes:
        stream: what is served.
        url: of the server.
        breaks: the kinds of resume after the connections that break; the last one holds.
        posts: bodies of ``POST /v1/streams``.
        is_unknown: whether the stream is known no more.
        is_away: whether it refuses to resume anything for now.
        goes_away: whether connections break with a goodbye.
        seed: of where they break.
    """

    def __init__(
        self,
        stream: FakeStream,
        breaks: tuple[SessionKind, ...] = (),
        *,
        goes_away: bool = False,
        seed: int = 1,
    ) -> None:
        self.stream = stream
        self.posts: list[dict[str, Any]] = []
        self.is_unknown = False
        self.is_away = False
        self.goes_away = goes_away
        self._breaks = list(breaks)
        self._random = random.Random(seed)  # noqa: S311  not a secret
        self._lock = threading.Lock()
        self._kind: SessionKind = "new"
        self._last_result = -1
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> FakeStreamServer:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = outer._open(json.loads(body))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._socket: Server = serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
        )
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        for each in (self._http.serve_forever, self._socket.serve_forever):
            self._threads.append(threading.Thread(target=each, daemon=True))
            self._threads[-1].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._socket.shutdown()
        for each in self._threads:
            each.join(10)

    def _open(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.posts.append(body)
        if "resume_token" in body and self.is_unknown:
            return 404, {"detail": "the resume token is of no stream"}
        if "resume_token" in body and self.is_away:
            return 503, {"detail": "the server is stopping"}
        self._last_result = body.get("last_result", -1)
        self._kind = self._kind if "resume_token" in body else "new"
        port = self._socket.socket.getsockname()[1]
        return 201, {"stream_id": "s", "ws_url": f"ws://127.0.0.1:{port}/v1/stream", "ticket": "t"}

    def _serve(self, connection: ServerConnection) -> None:
        assert "Sec-WebSocket-Extensions" not in connection.request.headers  # type: ignore[union-attr]
        left = self._random.randint(5, 30) if self._breaks else -1
        with self._lock, suppress(ConnectionClosed):
            for message in self.stream.connect(self._kind, self._last_result):
                connection.send(message)
            while not self.stream.is_ended and left != 0:
                left -= 1
                self._exchange(connection)
        if self.stream.is_ended:
            connection.close(1000, "end")
        elif self._breaks:
            self._kind = self._breaks.pop(0)
            if self.goes_away:
                connection.send(encode_message(GoAway("drain", 1000)))
                connection.close(1001, "drain")
            else:
                connection.socket.shutdown(socket.SHUT_RDWR)

    def _exchange(self, connection: ServerConnection) -> None:
        answers = []
        with suppress(TimeoutError):
            answers += self.stream.take(connection.recv(timeout=0.005))
        answers += self.stream.step()
        answers += self.stream.checkpoint(self.stream.acked_seq)
        for message in answers:
            connection.send(message)
