"""Load for live streams: frames coded beforehand, a cheap client, and what became of each frame.

The client shares the machine with the server that is measured, so it does no more than it must:
the frame's number goes into the header, results are kept as they came. `amodal_client` has the
client for everything else.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import httpx2
import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from amodal_client.stream_messages import (
    Ack,
    Bye,
    Checkpoint,
    Credit,
    Dropped,
    End,
    ErrorMessage,
    FrameMeta,
    GivenObject,
    MaskRle,
    ResultMeta,
    Welcome,
    encode_message,
    read_server_message,
)
from amodal_client.stream_wire import (
    HEADER,
    REPLAYED,
    SUBPROTOCOL,
    Codec,
    Header,
    Op,
    encode_meta,
    pack,
    unpack,
)
from amodal_model.masks import BoxedMask, box_mask, encode_crop_rle
from amodal_model.video import open_clip
from amodal_model.youtube_vis import read_mask_file

DEMO = Path(__file__).parents[2] / "examples" / "demo"
JPEG_QUALITY = 90
ACK_EVERY = 8
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Loopback needs none; a context with the usual certificates takes 30 ms to make."""


class LoadClip(NamedTuple):
    """A clip that is played to and fro without end; all frames coded.

    Attributes:
        size: ``(height, width)``, pixels.
        visible: visible mask of each object that shows, a frame.
        metas: the same as metas of FRAMEs.
        images: JPEG of each frame.
    """

    size: tuple[int, int]
    visible: tuple[Mapping[int, BoxedMask], ...]
    metas: tuple[bytes, ...]
    images: tuple[bytes, ...]

    @property
    def lap(self) -> int:
        """Frames until it begins anew."""
        return 2 * len(self.metas) - 2

    def at(self, seq: int) -> int:
        """Return which frame is the one of a number."""
        number = seq % self.lap
        return min(number, self.lap - number)


def load_clip(
    name: str, size: tuple[int, int], objects: int, *, first: int = 0, frames: int = 0
) -> LoadClip:
    """Return a bundled clip in another size, with the objects that show in most of its frames.

    Args:
        name: folder under ``examples/demo``.
        size: ``(height, width)``, pixels.
        objects: how many.
        first: frame to begin with.
        frames: how many; 0: to its end.
    """
    masks = read_mask_file(DEMO / name / "visible.json")
    video = masks.videos[0]
    tracks = sorted(
        masks.tracklets_of(video.video_id),
        key=lambda track: -sum(each is not None for each in track.segmentations),
    )[:objects]
    clip = open_clip(DEMO / name / "videos" / video.file_name)
    images: list[bytes] = []
    visible: list[dict[int, BoxedMask]] = []
    for frame in clip.frames(first):
        if frames and len(images) == frames:
            break
        images.append(_jpeg(frame.image, size))
        found = {track.track_id: track.mask(frame.index) for track in sorted(tracks, key=_id)}
        visible.append({key: _resized(mask, size) for key, mask in found.items() if mask})
    metas = tuple(encode_meta(_frame_meta(each)) for each in visible)
    return LoadClip(size, tuple(visible), metas, tuple(images))


def _id(track: Any) -> int:
    return int(track.track_id)


def _jpeg(image: np.ndarray, size: tuple[int, int]) -> bytes:
    scaled = cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC)
    bgr = cv2.cvtColor(scaled, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])


def _resized(mask: BoxedMask, size: tuple[int, int]) -> BoxedMask:
    full = mask.full().astype(np.uint8)
    scaled = cv2.resize(full, size[::-1], interpolation=cv2.INTER_NEAREST)
    return box_mask(scaled.astype(bool))


def _frame_meta(visible: Mapping[int, BoxedMask]) -> FrameMeta:
    objects = []
    for track_id, mask in visible.items():
        if mask.area:
            bbox, rle = encode_crop_rle(mask)
            size = (rle["size"][0], rle["size"][1])
            objects.append(GivenObject(track_id, MaskRle(size, rle["counts"]), bbox))
    return FrameMeta(tuple(objects))


class _Times(msgspec.Struct):
    queue: float
    decode: float
    infer: float
    encode: float


class _Timed(msgspec.Struct):
    timings: _Times


_read_times = msgspec.msgpack.Decoder(_Timed).decode
_read_result = msgspec.msgpack.Decoder(ResultMeta).decode


def server_age_ms(packet: bytes) -> float:
    """Return from arrival to the end of the work, by the server's clock."""
    times = _read_times(unpack(packet).meta).timings
    return times.queue + times.decode + times.infer + times.encode


def server_wait_ms(packet: bytes) -> float:
    """Return from arrival to the start of the work, by the server's clock."""
    return _read_times(unpack(packet).meta).timings.queue


def result_of(packet: bytes) -> ResultMeta:
    """Return what a RESULT says."""
    return _read_result(unpack(packet).meta)


@dataclass
class LoadStream:
    """One stream of frames.

    Attributes:
        urls: servers that may be asked for it; the first that answers is.
        clip: what is played.
        options: of the stream.
        with_images: whether the JPEG goes with the masks.
        clock: whether frames carry a capture time.
        shift: by how many frames its clip is ahead.
        keep: whether results are kept, and not only their times.
        next_seq: of the next frame.
        sent_s: when each frame was sent.
        latency_s: from sending a frame to its result.
        packets: results.
        dropped: cause of each frame that has none.
        skipped: frames that the client left out itself, for want of credit.
        doubled: frames with a second outcome.
        kinds: how much of its memory was left, at each connection.
        errors: what the server complained of.
    """

    urls: Sequence[str]
    clip: LoadClip
    options: Mapping[str, Any]
    with_images: bool = True
    clock: bool = True
    shift: int = 0
    keep: bool = False
    next_seq: int = 0
    sent_s: dict[int, float] = field(default_factory=dict)
    latency_s: dict[int, float] = field(default_factory=dict)
    packets: dict[int, bytes] = field(default_factory=dict)
    dropped: dict[int, str] = field(default_factory=dict)
    skipped: int = 0
    doubled: list[int] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    bye: Bye | None = None
    welcome: Welcome | None = None
    checkpoint: int = -1
    last_result: int = -1
    _socket: ClientConnection | None = None
    _ear: asyncio.Task[None] | None = None
    _credits: int = 0
    _outstanding: set[int] = field(default_factory=set)
    _resent_from: int = 0
    _unacked: int = 0
    _change: asyncio.Event = field(default_factory=asyncio.Event)

    # Connecting --------------------------------------------------------------------------------

    async def open(self) -> Welcome:
        """Connect, for the first time or again."""
        body: dict[str, Any] = dict(self.options)
        if self.welcome is not None:
            body = {"resume_token": self.welcome.resume_token, "last_result": self.last_result}
        placed = await self._place(body)
        protocols = [Subprotocol(SUBPROTOCOL), Subprotocol(f"amodal.ticket.{placed['ticket']}")]
        self._socket = await connect(
            placed["ws_url"],
            subprotocols=protocols,
            compression=None,
            proxy=None,
            ping_interval=None,
            close_timeout=2,
            open_timeout=60,
        )
        first = read_server_message(str(await self._socket.recv()))
        if not isinstance(first, Welcome):
            raise ConnectionError(f"no welcome but {first}")
        self.welcome = first
        self._credits = first.credits
        self.kinds.append(first.session)
        self._ear = asyncio.create_task(self._listen(self._socket))
        return first

    async def _place(self, body: Mapping[str, Any]) -> Any:
        answer = None
        for url in self.urls:
            try:
                async with httpx2.AsyncClient(
                    timeout=60, trust_env=False, verify=_NO_TLS
                ) as client:
                    answer = await client.post(f"{url}/v1/streams", json=body)
            except httpx2.TransportError:
                continue
            if answer.status_code == 201:
                return answer.json()
        reason = "no server" if answer is None else f"{answer.status_code}: {answer.text}"
        raise ConnectionError(reason)

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands."""
        return self._ear is not None and not self._ear.done()

    async def end(self) -> None:
        """End the stream for good."""
        if self._socket is not None and self._ear is not None:
            with suppress(ConnectionClosed):
                await self._socket.send(encode_message(End()))
            await asyncio.wait({self._ear}, timeout=60)
            await self._socket.close()

    def cut(self) -> None:
        """Break the connection without a word."""
        if self._socket is not None:
            self._socket.transport.abort()

    # Hearing -----------------------------------------------------------------------------------

    async def _listen(self, socket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in socket:
                if isinstance(message, bytes):
                    await self._take(message, socket)
                else:
                    self._hear(message)
                self._change.set()
        self._change.set()

    async def _take(self, packet: bytes, socket: ClientConnection) -> None:
        seq = HEADER.unpack_from(packet)[5]
        self.last_result = max(self.last_result, seq)
        is_again = seq in self.latency_s
        is_remade = seq < self._resent_from or packet[1] & REPLAYED
        if seq in self.dropped or (is_again and not is_remade):
            self.doubled.append(seq)
        if not is_again:
            self.latency_s[seq] = time.perf_counter() - self.sent_s[seq]
            if self.keep:
                self.packets[seq] = packet
        self._outstanding.discard(seq)
        self._unacked += 1
        if self._unacked >= ACK_EVERY:
            self._unacked = 0
            with suppress(ConnectionClosed):
                await socket.send(encode_message(Ack(self.last_result)))

    def _hear(self, text: str) -> None:
        said = read_server_message(text)
        if isinstance(said, Credit):
            self._credits += said.n
        elif isinstance(said, Dropped):
            for first, last in said.ranges:
                for seq in range(first, last + 1):
                    self._drop(seq, said.cause)
        elif isinstance(said, Checkpoint):
            self.checkpoint = said.seq
        elif isinstance(said, Bye):
            self.bye = said
        elif isinstance(said, ErrorMessage):
            self.errors.append(said.detail)

    def _drop(self, seq: int, cause: str) -> None:
        if seq in self.latency_s:
            self.doubled.append(seq)
        self.dropped[seq] = cause
        self._outstanding.discard(seq)

    # Sending -----------------------------------------------------------------------------------

    async def send(self, capture_ns: int = 0, deadline_ms: int = 0) -> bool:
        """Send the next frame; return whether there was credit for it."""
        assert self._socket is not None
        if self._credits <= 0:
            return False
        self._credits -= 1
        seq = self.next_seq
        self.next_seq += 1
        at = self.clip.at(seq + self.shift)
        height, width = self.clip.size
        image = self.clip.images[at] if self.with_images else b""
        codec = Codec.JPEG if self.with_images else Codec.NONE
        flags = REPLAYED if seq in self.sent_s else 0
        head = Header(Op.FRAME, seq, capture_ns, deadline_ms, width, height, codec, flags)
        self._outstanding.add(seq)
        self.sent_s.setdefault(seq, time.perf_counter())
        await self._socket.send(pack(head, self.clip.metas[at], image))
        return True

    async def say(self, text: str) -> None:
        """Send a control message."""
        assert self._socket is not None
        await self._socket.send(text)

    def skip(self) -> None:
        """Leave the next frame out."""
        self.next_seq += 1
        self.skipped += 1

    def rewind(self) -> None:
        """After a resume: go on with what the server does not have."""
        assert self.welcome is not None
        self._resent_from = self.next_seq
        self.next_seq = self.welcome.received_seq + 1
        for seq in [seq for seq in self.dropped if seq >= self.next_seq]:
            del self.dropped[seq]  # drained when the server stopped: sent again

    async def repeat(self) -> None:
        """After a resume: show what the server has seen and does not remember, one by one.

        Raises:
            ConnectionError: the connection has ended.
        """
        assert self.welcome is not None
        live, self._resent_from = self.next_seq, self.next_seq
        for seq in sorted(each for each in self.latency_s if each > self.welcome.received_seq):
            self.next_seq = seq
            try:
                while not await self.send(round((seq + 1) * 1e9 / self.options["fps"])):
                    await self.changed()
            finally:
                self.next_seq = live
            while seq in self._outstanding:
                await self.changed()

    def forget_outstanding(self) -> int:
        """Give up the frames that have no outcome yet; return how many."""
        count = len(self._outstanding)
        self._outstanding.clear()
        return count

    async def changed(self, timeout_s: float = 60.0) -> None:
        """Wait for anything from the server.

        Raises:
            ConnectionError: the connection has ended.
        """
        if not self.is_connected:
            raise ConnectionError(f"closed: {self.errors[-1:]}")
        self._change.clear()
        async with asyncio.timeout(timeout_s):
            await self._change.wait()

    async def send_flat_out(self, count: int) -> None:
        """Send as fast as there is credit, and wait for what becomes of the frames."""
        for _ in range(count):
            capture_ns = (self.next_seq + 1) * 100_000_000 if self.clock else 0
            while not await self.send(capture_ns):
                await self.changed()
        await self.settle()

    async def send_at(self, fps: float, seconds: float, deadline_ms: int = 0) -> None:
        """Send as a camera does: a frame for which there is no credit in time is left out."""
        begun_s = time.perf_counter()
        first = self.next_seq
        while (number := self.next_seq - first) < fps * seconds:
            await asyncio.sleep(max(begun_s + number / fps - time.perf_counter(), 0))
            capture_ns = round((self.next_seq + 1) * 1e9 / fps) if self.clock else 0
            if not await self.send(capture_ns, deadline_ms):
                self.skip()

    async def settle(self) -> None:
        """Wait until every frame has come to an end."""
        while self._outstanding:
            await self.changed()

    # Accounts ----------------------------------------------------------------------------------

    def causes(self) -> Counter[str]:
        """Return how many frames were dropped for which cause."""
        return Counter(self.dropped.values())

    def amiss(self) -> list[str]:
        """Return what is wrong with the outcomes of an ended stream, one line each."""
        wrong = []
        if self._outstanding:
            wrong.append(f"frames without an outcome: {sorted(self._outstanding)[:8]}")
        if self.doubled:
            wrong.append(f"frames with two outcomes: {self.doubled[:8]}")
        if self.bye is None:
            wrong.append("no bye")
        elif len(self.kinds) == 1:
            counters = self.bye.counters
            told = (counters.frames, counters.results, sum(counters.dropped.values()))
            own = (len(self.sent_s), len(self.latency_s), len(self.dropped))
            if told != own or counters.frames != told[1] + told[2] + counters.waiting:
                wrong.append(f"counters of the server {counters}, of the client {own}")
        wrong += self.errors
        return wrong


async def open_all(streams: Sequence[LoadStream], together: int = 8) -> None:
    """Open streams, some at the same time."""
    waiting = list(reversed(streams))

    async def work() -> None:
        while waiting:
            await waiting.pop().open()

    await asyncio.gather(*(work() for _ in range(together)))


def percentile_ms(latency_s: Sequence[float], percent: float) -> float:
    """Return a percentile in milliseconds."""
    return 1000 * float(np.percentile(np.asarray(latency_s), percent))
