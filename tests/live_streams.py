"""Parts of live streams for tests: a plain engine, frames of boxes, sessions, hubs run by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from amodal_client.stream_messages import (
    Dropped,
    FrameMeta,
    GivenObject,
    MaskRle,
    ResultMeta,
    ServerMessage,
    read_server_message,
)
from amodal_client.stream_wire import Header, Op, Packet, encode_meta, pack, read_meta, unpack
from amodal_model.engine import EngineInfo
from amodal_model.masks import BoxedMask, decode_crop_rle, empty_mask, encode_crop_rle
from amodal_model.memory import MemoryState, StepInputs, StepOutputs
from amodal_model.onnx_session import CPU
from amodal_model.source_given import GivenSource
from amodal_model.stream import AmodalSegmenter
from amodal_service.database import Database
from amodal_service.gate import Gate
from amodal_service.mask_sources import ANY_RUNTIME, Runtime
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.admission import Terms, stream_bytes, stream_limits
from amodal_service.streams.frame_work import Incoming, Order, Task, work_on
from amodal_service.streams.hub import Connected, StreamHub
from amodal_service.streams.memory import StreamMemory
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream, Outbox
from amodal_service.streams.session import Session

SIZE = (48, 64)


class PlainEngine:
    """An engine without a network: remembers the last visible mask, and completes with it.

    Args:
        sha256: of its model; another one is another model to snapshots.
        failing: numbers of objects in a step at which it breaks.
    """

    def __init__(self, sha256: str = "plain", failing: Sequence[int] = ()) -> None:
        self._info = EngineInfo("plain", "1", sha256, (CPU,), CPU)
        self.failing = set(failing)
        self.steps: list[int] = []

    @property
    def info(self) -> EngineInfo:
        return self._info

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        own = inputs.crop[:, 0]
        self.steps.append(len(own))
        if len(own) in self.failing:
            raise RuntimeError(f"a step of {len(own)} objects breaks")
        maps = memory.maps.copy()
        is_seen = own.any(axis=(1, 2))
        maps[is_seen, 0], maps[is_seen, 1] = own[is_seen], 1.0
        logits = (maps[:, 0] - 0.5).astype(np.float32)
        small = np.ascontiguousarray(maps[:, :2, ::2, ::2])
        confidence = np.full((len(own), 2), 0.5, np.float32)
        return StepOutputs(logits, confidence, small), MemoryState(maps, memory.scalars)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        return memory


def plain_segmenter(**kwargs: Any) -> AmodalSegmenter:
    """Return a segmenter on a plain engine."""
    return AmodalSegmenter(PlainEngine(**kwargs))


# Frames -----------------------------------------------------------------------------------------


def box(x: int, y: int, width: int, height: int, size: tuple[int, int] = SIZE) -> BoxedMask:
    """Return a full box as a mask."""
    return BoxedMask((x, y, x + width, y + height), np.ones((height, width), bool), size)


def given(track_id: int | None, mask: BoxedMask) -> GivenObject:
    """Return a visible mask as a client sends it."""
    bbox, rle = encode_crop_rle(mask)
    height, width = rle["size"]
    return GivenObject(track_id, rle=MaskRle((height, width), rle["counts"]), bbox=bbox)


def given_all(visible: Mapping[int, BoxedMask]) -> tuple[GivenObject, ...]:
    """Return the visible masks of a frame as a client sends them."""
    return tuple(given(track_id, mask) for track_id, mask in visible.items())


def moving_object(seq: int) -> tuple[GivenObject, ...]:
    """Return one object that moves with the seq."""
    return (given(1, box(5 + seq % 30, 10, 12, 16)),)


def frame(
    seq: int, objects: Sequence[GivenObject] | None = None, payload: bytes = b"", **header: Any
) -> bytes:
    """Return a FRAME; by default of masks only, with one object that moves."""
    objects = moving_object(seq) if objects is None else tuple(objects)
    fields = {"width": SIZE[1], "height": SIZE[0]} | header
    return pack(Header(Op.FRAME, seq, **fields), encode_meta(FrameMeta(tuple(objects))), payload)


def frame_packet(seq: int, *args: Any, **kwargs: Any) -> Packet:
    """Return `frame`, unpacked."""
    return unpack(frame(seq, *args, **kwargs))


def incoming(
    seq: int, *args: Any, arrived_s: float = 0.0, due_s: float = 1e9, **kwargs: Any
) -> Incoming:
    """Return `frame` as one that was accepted."""
    packet = frame_packet(seq, *args, **kwargs)
    meta = read_meta(packet.meta, FrameMeta)
    return Incoming(packet.header, meta, packet.payload, arrived_s, due_s)


def task(
    taken: Incoming,
    memory: StreamMemory | None = None,
    orders: Sequence[Order] = (),
    finder: Any = None,
    is_full: bool = True,
    **options: Any,
) -> Task:
    """Return the work on a frame."""
    wanted = StreamOptions(**options)
    return Task(
        taken,
        memory or StreamMemory(),
        wanted,
        finder or GivenSource(),
        tuple(orders),
        0,
        1 << 22,
        is_full,
    )


class Result(NamedTuple):
    """A RESULT, read."""

    header: Header
    meta: ResultMeta


def read_result(message: bytes) -> Result:
    """Return a RESULT in its parts."""
    packet = unpack(message)
    assert packet.header.op == Op.RESULT
    return Result(packet.header, read_meta(packet.meta, ResultMeta))


def masks_of(result: Result, name: str = "amodal") -> dict[int, BoxedMask]:
    """Return the masks of a result by track id, empty where there is none."""
    size = (result.header.height, result.header.width)
    masks = {}
    for each in result.meta.objects:
        placed = getattr(each, name)
        if placed is None:
            masks[each.track_id] = empty_mask(size)
        else:
            rle = {"size": list(placed.rle.size), "counts": placed.rle.counts}
            masks[each.track_id] = decode_crop_rle(placed.bbox, rle, size)
    return masks


# Sessions ---------------------------------------------------------------------------------------


def terms(limit_fps: float = 0.0, **options: Any) -> Terms:
    """Return what is agreed of a stream; ``options`` are the client's."""
    settings = StreamSettings()
    wanted = StreamOptions(**options)
    limits = msgspec.structs.replace(stream_limits(wanted, settings), fps=limit_fps)
    needed = stream_bytes(wanted)
    return Terms("s", "o", wanted, limits, needed, settings.max_age_s, GivenSource())


class Lane:
    """A connection as a client sees it: all that an outbox has to say to it."""

    def __init__(self, outbox: Outbox, generation: int) -> None:
        self._outbox = outbox
        self._generation = generation
        self.results: list[Result] = []
        self.said: list[ServerMessage] = []
        self.closed: CloseStream | None = None

    async def read(self, most: int = 10_000) -> None:
        """Take what waits, at most so many messages."""
        while most and self.closed is None:
            most -= 1
            asked = asyncio.ensure_future(self._outbox.next(self._generation))
            await asyncio.sleep(0)
            if not asked.done():
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
                return
            try:
                self._take(asked.result())
            except CloseStream as ending:
                self.closed = ending

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.results.append(read_result(message))
            return
        said = read_server_message(message)
        assert said is not None
        self.said.append(said)

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the control messages of a kind."""
        return [each for each in self.said if isinstance(each, kind)]

    def drops(self) -> dict[int, str]:
        """Return the cause of each drop that was told, by seq."""
        return {
            seq: each.cause
            for each in self.said
            if isinstance(each, Dropped)
            for first, last in each.ranges
            for seq in range(first, last + 1)
        }


class Clock:
    """A clock that tests move: stands in for the ``time`` module."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def perf_counter(self) -> float:
        return time.perf_counter()

    def time(self) -> float:
        return time.time() + self.ahead_s

    def go_on(self, seconds: float) -> None:
        self.ahead_s += seconds


class Bench:
    """One session without a hub: offered work is done when `work` is called."""

    def __init__(self, memory: StreamMemory | None = None, **options: Any) -> None:
        self.segmenter = plain_segmenter()
        self.offered = 0
        self._woken: list[Session] = []
        self.session = Session(
            terms(**options), memory or StreamMemory(), 1, self._offer, self._woken.append
        )
        self.lane = self.attach()

    def _offer(self, _: Session) -> None:
        self.offered += 1

    def attach(self, last_result: int = -1) -> Lane:
        """Connect."""
        return Lane(self.session.outbox, self.session.attach(last_result))

    def send(self, seq: int, *args: Any, **kwargs: Any) -> None:
        """Send a frame."""
        self.session.accept(frame_packet(seq, *args, **kwargs))

    def begin(self, now_s: float | None = None, step_s: float = 0.0) -> Task | None:
        """Take a frame out, as the scheduler does."""
        begun = self.session.take(time.monotonic() if now_s is None else now_s, step_s)
        while self._woken:
            self._woken.pop().settle()
        return begun

    def finish(self, begun: Task) -> None:
        """Work on it and give back what came of it."""
        self.session.deliver(work_on([begun], self.segmenter)[0])

    def work(self) -> bool:
        """Do one frame; return whether there was one."""
        begun = self.begin()
        if begun is not None:
            self.finish(begun)
        return begun is not None


class DrivenHub(StreamHub):
    """A hub whose upkeep and work are done when a test asks for it, by a clock that tests move."""

    def __init__(
        self,
        database: Database,
        settings: StreamSettings,
        url: str = "http://a",
        runtime: Runtime = ANY_RUNTIME,
    ) -> None:
        self.gate = Gate()
        super().__init__(database, plain_segmenter(), self.gate, settings, url, runtime)

    async def begin(self) -> DrivenHub:
        """Be known to others, without upkeep or threads."""
        self._loop = asyncio.get_running_loop()
        await self.beat()
        return self

    async def beat(self) -> None:
        """Show life, and find out what is lost."""
        await self.upkeep.beat()

    async def tick(self) -> None:
        """Store, close and let go of what is due."""
        await self.upkeep.tick()

    async def sweep(self) -> None:
        """Remove what can no longer be resumed."""
        await self.upkeep.sweep()

    async def work(self, batches: int = 1_000_000) -> None:
        """Work on frames that wait, in at most so many batches."""
        while batches and self.scheduler._waiting:
            batches -= 1
            batch, taken = self.scheduler._take()
            if batch:
                self.scheduler._work(batch)
            for _ in range(taken):
                self.gate.leave()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    @property
    def reserved(self) -> int:
        """Bytes that are promised to streams."""
        return self.roster.reserved_bytes

    @property
    def held(self) -> dict[str, Session]:
        """The streams in memory."""
        return {each.terms.stream_id: each for each in self.roster.all()}

    def crash(self) -> None:
        """Be gone without a word: nothing is written any more."""
        self.roster._sessions.clear()


class Client:
    """A connection to a stream of a hub."""

    def __init__(self, hub: DrivenHub, connected: Connected) -> None:
        self.hub = hub
        self.connected = connected
        self.session = connected.session
        self.lane = Lane(connected.session.outbox, connected.generation)

    def send(self, seq: int, *args: Any, **kwargs: Any) -> None:
        """Send a frame."""
        self.session.accept(frame_packet(seq, *args, **kwargs))

    async def leave(self) -> None:
        """End the connection."""
        await self.hub.leave(self.connected)


async def open_client(hub: DrivenHub, owner: str = "o", **options: Any) -> Client:
    """Open a stream and connect to it."""
    placed = await hub.placement.open(owner, StreamOptions(**options))
    return Client(hub, await hub.connect(placed.ticket))


async def reopen_client(hub: DrivenHub, token: str, last_result: int = -1) -> Client:
    """Resume a stream."""
    placed = await hub.placement.reopen(None, token, last_result)
    return Client(hub, await hub.connect(placed.ticket))


def move_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Put a clock that tests move in place of the time of live streams; the database's too."""
    clock = Clock()
    for name in ("session", "hub", "upkeep", "archive", "placement", "scheduler", "frame_work"):
        monkeypatch.setattr(f"amodal_service.streams.{name}.time", clock)
    monkeypatch.setattr("amodal_service.database.time", clock)
    return clock


SMALL: dict[str, Any] = {"max_objects": 1, "max_message_bytes": 4096}
"""Options of a stream that takes little room."""
Case = Callable[..., Coroutine[Any, Any, None]]


def on_a_loop(case: Case) -> Callable[..., None]:
    """Run a test on an event loop of its own."""

    @wraps(case)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(case(*args, **kwargs))

    return run


async def new_hub(database: Database, url: str = "http://a", **wanted: Any) -> DrivenHub:
    return await DrivenHub(database, StreamSettings(**wanted), url).begin()


def state_of(database: Database, client: Client) -> str:
    with database.read() as connection:
        return store.find_stream(connection, client.session.terms.stream_id).state
