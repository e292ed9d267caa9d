"""Clients that break the protocol of live streams, each in its own way, until time is up.

    python tests/faults/bad_stream_clients.py floods 127.0.0.1 8420 10

Run as a process of its own by ``stream_faults.py``. The websocket is written by hand: a library
would keep to the rules.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from amodal_client.stream_messages import FrameMeta, GivenObject, MaskRle
from amodal_client.stream_wire import HEADER, SUBPROTOCOL, Codec, Header, Op, encode_meta, pack

TEXT, BINARY = 1, 2
VANISHING = 1000
PAUSE_S = 0.05
"""Between two connections of a client that is thrown out all the time."""
_RNG = random.Random(0)  # noqa: S311  no secret

Until = float


class RawSocket:
    """A websocket that keeps to no rule."""

    def __init__(self, host: str, port: int, query: str = "", receive_bytes: int = 0) -> None:
        self._socket = socket.socket()
        if receive_bytes:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(10)
        self._socket.connect((host, port))
        lines = (
            f"GET /v1/stream{query} HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
        )
        self.write("\r\n".join((*lines, "", "")).encode())

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send(self, data: bytes, kind: int = BINARY) -> None:
        """Send a message; its mask is zero, which changes nothing."""
        head = bytes([0x80 | kind])
        if len(data) < 126:
            head += bytes([0x80 | len(data)])
        elif len(data) < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", len(data))
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", len(data))
        self.write(head + bytes(4) + data)

    def read(self, seconds: float) -> bytes:
        """Return what comes within a time; empty: nothing, or the end."""
        self._socket.settimeout(seconds)
        with suppress(OSError):
            return self._socket.recv(65536)
        return b""

    def vanish(self) -> None:
        """Cut the connection: no close, no FIN."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close it."""
        self._socket.close()


@contextmanager
def _connected(
    host: str, port: int, query: str = "", receive_bytes: int = 0
) -> Iterator[RawSocket]:
    raw = RawSocket(host, port, query, receive_bytes)
    try:
        yield raw
    finally:
        raw.close()


def never_reads(host: str, port: int, until_s: Until) -> None:
    """Send frames, and questions, and read nothing at all."""
    asked = json.dumps({"op": "ping", "t": 1.0}).encode()
    while time.monotonic() < until_s:
        with suppress(OSError), _connected(host, port, "?mode=lossless", 2048) as raw:
            for number in range(100_000):
                if number % 40 == 0 and number < 400:
                    raw.send(_frame(number // 40))
                raw.send(asked, TEXT)
                time.sleep(0.002)
                if time.monotonic() > until_s:
                    break
        time.sleep(PAUSE_S)


def floods(host: str, port: int, until_s: Until) -> None:
    """Send frames for which there is no credit."""
    image = os.urandom(40_000)
    while time.monotonic() < until_s:
        with suppress(OSError), _connected(host, port) as raw:
            for seq in range(10_000):
                raw.send(_frame(seq) if seq % 2 else _frame(seq, image, Codec.JPEG))
                time.sleep(0.001)
                if time.monotonic() > until_s:
                    break
        time.sleep(PAUSE_S)


def sends_garbage(host: str, port: int, until_s: Until) -> None:
    """Send what is no message, no websocket, no HTTP."""
    makers: tuple[Callable[[RawSocket], None], ...] = (
        lambda raw: raw.send(_RNG.randbytes(_RNG.randrange(1, 5000))),
        lambda raw: raw.send(_RNG.randbytes(200), TEXT),
        lambda raw: raw.send(b'{"op": "prompt", "objects": [[[[', TEXT),
        lambda raw: raw.send(b"[" * 100_000, TEXT),
        lambda raw: raw.write(_RNG.randbytes(3000)),
        lambda raw: raw.write(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"),  # 2**63 - 1 bytes
        lambda raw: raw.send(HEADER.pack(1, 0, 0, 0, 1 << 31, 1, 0, 0, 64, 48)),
    )
    while time.monotonic() < until_s:
        with suppress(OSError), _connected(host, port) as raw:
            raw.read(1.0)
            _RNG.choice(makers)(raw)
            raw.read(0.2)
        time.sleep(PAUSE_S)


def lies(host: str, port: int, until_s: Until) -> None:
    """Send frames that are well formed, and false."""
    while time.monotonic() < until_s:
        query = _RNG.choice(("?mode=lossless", "?mode=lossless&masks=prompted"))
        with suppress(OSError), _connected(host, port, query) as raw:
            for seq in range(50):
                raw.send(_RNG.choice(_LIES)(seq))
                raw.read(0.05)
        time.sleep(PAUSE_S)


def vanishes(host: str, port: int, until_s: Until) -> None:
    """Connect a thousand times, sometimes with a frame, and be gone without a word."""
    for number in range(VANISHING):
        with suppress(OSError):
            raw = RawSocket(host, port)
            if number % 4 == 0:
                raw.read(2.0)
                raw.send(_frame(0))
            raw.vanish()
        if number % 10 == 0:
            time.sleep(max(min(0.05, until_s - time.monotonic()), 0))


def nobody(host: str, port: int, until_s: Until) -> None:
    """Do nothing: what the others' figures move by then is the machine's."""
    time.sleep(max(until_s - time.monotonic(), 0))


def _frame(seq: int, image: bytes = b"", codec: int = Codec.NONE) -> bytes:
    mask = GivenObject(1, MaskRle((48, 64), "_" * 3), None)
    meta = encode_meta(FrameMeta((mask,)))
    return pack(Header(Op.FRAME, seq, 0, 0, 64, 48, codec), meta, image)


def _meta(*objects: GivenObject) -> bytes:
    return encode_meta(FrameMeta(tuple(objects)))


def _png(width: int, height: int) -> bytes:
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\2\0\0\0" * 9
    )


def _jpeg(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", height, width) + bytes(40)


def _false(
    codec: int, meta: bytes, payload: bytes, size: tuple[int, int]
) -> Callable[[int], bytes]:
    return lambda seq: pack(Header(Op.FRAME, seq, 0, 0, *size, codec), meta, payload)


_HUGE = MaskRle((65535, 65535), "0" * 40)
_LIES = (
    _false(Codec.NONE, _meta(GivenObject(1, _HUGE)), b"", (65535, 65535)),
    _false(Codec.NONE, _meta(GivenObject(1, _HUGE)), b"", (64, 48)),
    _false(Codec.NONE, _meta(GivenObject(1, _HUGE, (0, 0, 65535, 65535))), b"", (64, 48)),
    _false(
        Codec.NONE, _meta(*(GivenObject(n, box=(0, 0, 9, 9)) for n in range(2000))), b"", (64, 48)
    ),
    _false(Codec.NONE, _meta(GivenObject(1, polygon=((1e300,) * 50_000,))), b"", (64, 48)),
    _false(Codec.NONE, _meta(GivenObject(1, box=(float("nan"), 0, 1e30, -5))), b"", (64, 48)),
    _false(Codec.JPEG, b"", _jpeg(65535, 65535), (0, 0)),
    _false(Codec.JPEG, b"", _jpeg(4000, 2000), (64, 48)),
    _false(Codec.PNG, b"", _png(4000, 2000), (0, 0)),
    _false(Codec.PNG, b"", _png(1 << 31, 1 << 31), (0, 0)),
    _false(Codec.RGB8, b"", bytes(100), (4000, 2000)),
    _false(Codec.NONE, b"\xdd\xff\xff\xff\xff", b"", (64, 48)),  # an array of 2**32 - 1 values
)
KINDS: dict[str, Callable[[str, int, Until], None]] = {
    "nobody": nobody,
    "never_reads": never_reads,
    "floods": floods,
    "sends_garbage": sends_garbage,
    "lies": lies,
    "vanishes": vanishes,
}

if __name__ == "__main__":
    name, host, port, seconds = sys.argv[1:]
    os.nice(5)
    KINDS[name](host, int(port), time.monotonic() + float(seconds))
