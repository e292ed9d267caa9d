"""Random walks over the protocol: whatever clients, clocks and crashes do, its invariants hold.

Two server processes' hubs on one database, work and upkeep done step by step, by a clock that the
walk moves. A failure names its seed and the step.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from live_streams import Client, Clock, DrivenHub, box, frame_packet, given, move_clock

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    Ack,
    Bye,
    Credit,
    Dropped,
    GivenObject,
    PromptAck,
    PromptMessage,
    PromptObject,
    Remove,
    Reset,
)
from amodal_client.stream_wire import REPLAYED, Codec, Packet
from amodal_model.errors import AmodalError, MissingItemError, UnavailableError
from amodal_service.database import Database, open_database
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams import store
from amodal_service.streams.admission import stream_bytes
from amodal_service.streams.intake import CREDITS
from amodal_service.streams.options import StreamOptions
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.session import Session

STEPS = 2000
SEEDS = range(5)
OPTIONS: dict[str, Any] = {"max_objects": 3, "max_message_bytes": 4096}
ROOM = 4
FINAL = {1000, 4404}


class Life:
    """What a client knows of its stream in one process: frames that were taken, how they ended.

    ``older`` frames ended in a process before, and may be told of again.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.carried = session.leftovers()
        told = {first for each in self.carried.told for first, _ in each.ranges}
        self.older = told | {seq for seq, _ in self.carried.results}
        self.accepted: set[int] = set()
        self.results: list[int] = []
        self.drops: dict[int, str] = {}

    def check(self, *, is_over: bool) -> None:
        counters = self.session.counters()
        ended = counters.results + sum(counters.dropped.values())
        assert counters.frames == ended + counters.waiting
        assert counters.frames == self.carried.frames + len(self.accepted)
        assert self.results == sorted(set(self.results))
        assert not set(self.results) & set(self.drops)
        assert {*self.results, *self.drops} - self.older <= self.accepted
        if is_over:
            assert {*self.results, *self.drops} - self.older == self.accepted
            own = Counter(cause for seq, cause in self.drops.items() if seq not in self.older)
            assert own == Counter(counters.dropped) - Counter(self.carried.dropped)


class Walker:
    """A client of one stream, and what it may expect."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.token = ""
        self.client: Client | None = None
        self.life: Life | None = None
        self.epoch = 0
        self.seq = -1
        self.last_result = -1
        self.credits = 0
        self.seen_replays = False
        self.orders = 0
        self.is_over = False

    def meet(self, client: Client) -> None:
        """Be connected."""
        connected = client.connected
        assert client.session.epoch > self.epoch
        self.epoch = client.session.epoch
        self.token = connected.token
        self.client = client
        if self.life is None or self.life.session is not client.session:
            assert connected.kind != "hot"
            self.life = Life(client.session)
        else:
            assert connected.kind == "hot"
        assert connected.received_seq <= self.seq
        self.seq = max(self.seq, connected.received_seq)
        self.credits = client.session.credits

    async def read(self) -> None:
        """Take in what the server says."""
        assert self.client is not None
        assert self.life is not None
        lane = self.client.lane
        await lane.read()
        for result in lane.results:
            seq = result.header.seq
            if seq not in self.life.results:
                self.life.results.append(seq)
            else:
                assert result.header.flags & REPLAYED
            self.last_result = max(self.last_result, seq)
        for said in lane.said:
            self._hear(said, self.life)
        lane.results.clear()
        lane.said.clear()
        if lane.closed is None:
            assert self.credits == self.client.session.credits
        self.life.check(is_over=False)

    def _hear(self, said: object, life: Life) -> None:
        if isinstance(said, Credit):
            self.credits += said.n
        elif isinstance(said, Dropped):
            for first, last in said.ranges:
                for seq in range(first, last + 1):
                    assert life.drops.setdefault(seq, said.cause) == said.cause
        elif isinstance(said, PromptAck):
            self.orders -= 1
        elif isinstance(said, Bye):
            counters = said.counters
            ended = counters.results + sum(counters.dropped.values()) + counters.waiting
            assert counters.frames == ended


class Walk:
    """Two hubs, a few clients, and dice."""

    def __init__(self, database: Database, clock: Clock, seed: int) -> None:
        self.database = database
        self.clock = clock
        self.dice = random.Random(seed)  # noqa: S311  no secret
        needed = stream_bytes(StreamOptions(**OPTIONS))
        self.settings = StreamSettings(memory_bytes=max(ROOM * needed, 1 << 20), drain_s=0.05)
        self.hubs: list[DrivenHub] = []
        self.zombies: list[DrivenHub] = []
        self.walkers: list[Walker] = []
        self.counts: Counter[str] = Counter()

    async def begin(self) -> None:
        self.hubs = [await self._new_hub(index) for index in range(2)]

    async def _new_hub(self, index: int) -> DrivenHub:
        return await DrivenHub(self.database, self.settings, f"http://{index}").begin()

    @property
    def connected(self) -> list[Walker]:
        return [each for each in self.walkers if each.client is not None]

    async def step(self) -> None:
        rules: list[tuple[float, Callable[[], Awaitable[None]]]] = [
            (40, self.send), (20, self.work), (14, self.read), (6, self.order), (1, self.reset),
            (5, self.pass_time), (4, self.keep_up), (2, self.disconnect), (6, self.reconnect),
            (0.5, self.supersede), (0.4, self.sleep_long), (0.3, self.crash), (0.3, self.end),
            (2, self.open), (0.2, self.kill), (0.1, self.drain), (0.5, self.wake_zombie),
        ]  # fmt: skip
        weights = [weight for weight, _ in rules]
        (rule,) = self.dice.choices([rule for _, rule in rules], weights)
        self.counts[rule.__name__] += 1
        await rule()
        self.check()

    def check(self) -> None:
        for hub in self.hubs:
            assert hub.reserved == sum(each.terms.memory_bytes for each in hub.held.values())
            assert hub.reserved <= self.settings.memory_bytes
        for walker in self.connected:
            assert walker.client is not None
            session = walker.client.session
            allowed = CREDITS[session.terms.options.mode]
            assert 0 <= session.credits <= allowed
            assert session.waiting <= allowed + 1

    # Rules -------------------------------------------------------------------------------------

    async def open(self) -> None:
        if len(self.walkers) >= ROOM:
            return
        mode = self.dice.choice(["realtime", "lossless", "paced"])
        options: dict[str, Any] = {
            **OPTIONS,
            "mode": mode,
            "fps": 20.0 if mode == "paced" else None,
        }
        options["delta"] = self.dice.random() < 0.5
        options["deadline_ms"] = self.dice.choice([0, 200])
        walker = Walker(mode)
        hub = self.dice.choice(self.hubs)
        try:
            placed = await hub.placement.open("o", StreamOptions(**options))
            target = next(
                each
                for each in self.hubs
                if each.placement.url == (placed.url or hub.placement.url)
            )
            walker.meet(Client(target, await target.connect(placed.ticket)))
        except (AmodalError, CloseStream):
            self.counts["no slot"] += 1
            return
        self.walkers.append(walker)

    def _frame(self, walker: Walker) -> Packet:
        """Return a frame, mostly a good one."""
        walker.seq += self.dice.choice([1, 1, 1, 2, 5])
        seq, kind = walker.seq, self.dice.random()
        header = {"capture_ns": self.dice.choice([0, (seq + 1) * 33_000_000])}
        if kind < 0.05:
            return frame_packet(seq, [GivenObject(1)], **header)
        if kind < 0.08:
            return frame_packet(seq, width=10, **header)
        if kind < 0.11:
            codec = self.dice.choice([Codec.JPEG, Codec.PNG, Codec.RGB8])
            return frame_packet(seq, (), self.dice.randbytes(40), codec=int(codec), **header)
        count = self.dice.randrange(4)
        shown = [given(self.dice.randrange(6), box(4 + 14 * n, 8, 9, 9)) for n in range(count)]
        if kind < 0.3:
            header["deadline_ms"] = self.dice.choice([1, 50])
        unique = {each.track_id: each for each in shown}
        return frame_packet(seq, list(unique.values()), **header)

    async def send(self) -> None:
        if not self.connected:
            return
        walker = self.dice.choice(self.connected)
        if walker.credits <= 0 and self.dice.random() < 0.9:
            await self.read(walker)
            if walker.client is None or walker.credits <= 0:
                return
        assert walker.client is not None
        assert walker.life is not None
        if self.dice.random() < 0.01:
            await self._break(walker)
            return
        packet = self._frame(walker)
        has_credit = walker.client.session.credits > 0
        try:
            walker.life.accepted.add(packet.header.seq)
            walker.client.session.accept(packet)
        except CloseStream as ending:
            assert ending.code == (4400 if walker.client.session.is_ending else 4429)  # noqa: PT017
            await self._hang_up(walker)
            return
        walker.credits -= has_credit
        self.counts["frame"] += 1

    async def _break(self, walker: Walker) -> None:
        """Break the protocol, and lose the connection for it."""
        assert walker.client is not None
        packet = frame_packet(walker.seq + 1)
        if self.dice.random() < 0.5:
            wrong = packet._replace(meta=memoryview(self.dice.randbytes(5) + b"\xc1"))
        else:
            wrong = packet._replace(header=packet.header._replace(seq=max(walker.seq, 0)))
            if walker.client.session.last_seq < wrong.header.seq:
                return
        with pytest.raises((CloseStream, AnswerError)):
            walker.client.session.accept(wrong)
        await self._hang_up(walker)

    async def work(self) -> None:
        await self.dice.choice(self.hubs).work(self.dice.choice([1, 2, 5]))

    async def read(self, walker: Walker | None = None) -> None:
        if not self.connected:
            return
        walker = walker or self.dice.choice(self.connected)
        assert walker.client is not None
        await walker.read()
        if walker.client.lane.closed is not None:
            code = walker.client.lane.closed.code
            self.counts[f"closed {code}"] += 1
            await self._hang_up(walker)
            if code in FINAL:
                assert walker.life is not None
                if code == 1000:
                    walker.life.check(is_over=True)
                self.walkers.remove(walker)
        elif self.dice.random() < 0.7:
            walker.client.session.acknowledge(Ack(walker.last_result))

    async def _hang_up(self, walker: Walker) -> None:
        assert walker.client is not None
        client, walker.client = walker.client, None
        if client.hub in self.hubs:
            await client.leave()

    async def order(self) -> None:
        if not self.connected:
            return
        walker = self.dice.choice(self.connected)
        assert walker.client is not None
        session = walker.client.session
        ids = tuple(self.dice.randrange(6) for _ in range(self.dice.choice([1, 2, 4])))
        at: Literal["next"] | int = "next" if self.dice.random() < 0.5 else walker.seq + 3
        said: Remove | PromptMessage = Remove(ids, "r")
        if self.dice.random() < 0.5:
            said = PromptMessage((PromptObject(1, box=(0, 0, 9, 9)),), at, "p")
        try:
            session.order(said)
        except CloseStream as ending:
            assert "prompts wait" in ending.reason  # noqa: PT017
            await self._hang_up(walker)

    async def reset(self) -> None:
        if self.connected:
            walker = self.dice.choice(self.connected)
            assert walker.client is not None
            walker.client.session.reset(Reset("z"))

    async def pass_time(self) -> None:
        self.clock.go_on(self.dice.choice([0.01, 0.06, 0.3, 2.5]))

    async def sleep_long(self) -> None:
        self.clock.go_on(self.dice.choice([31, 61, 200]))
        for hub in self.hubs:
            await hub.beat()

    async def keep_up(self) -> None:
        for hub in self.hubs:
            await (hub.tick() if self.dice.random() < 0.7 else hub.beat())

    async def disconnect(self) -> None:
        if self.connected:
            await self._hang_up(self.dice.choice(self.connected))

    async def reconnect(self) -> None:
        away = [each for each in self.walkers if each.client is None]
        if away:
            await self._resume(self.dice.choice(away))

    async def supersede(self) -> None:
        if not self.connected:
            return
        walker = self.dice.choice(self.connected)
        assert walker.client is not None
        old = walker.client
        await self._resume(walker)
        if walker.client is not old and old.hub in self.hubs:
            await old.hub.beat()  # where the stream is at another now, it finds out
            await old.lane.read()
            assert old.lane.closed is not None
            await old.leave()

    async def _resume(self, walker: Walker) -> None:
        asked = self.dice.choice(self.hubs)
        try:
            placed = await asked.placement.reopen("o", walker.token, walker.last_result)
            urls = [hub.placement.url for hub in self.hubs]
            hub = self.hubs[urls.index(placed.url or asked.placement.url)]
            client = Client(hub, await hub.connect(placed.ticket))
        except (CloseStream, UnavailableError):
            self.counts["no slot"] += 1
            return
        except MissingItemError:
            self.counts["gone"] += 1
            if walker.client is not None:
                await self._hang_up(walker)
            self.walkers.remove(walker)
            return
        self.counts[client.connected.kind] += 1
        walker.meet(client)

    async def crash(self) -> None:
        """One process is gone, or frozen: others take its streams over once it is missed."""
        index = self.dice.randrange(2)
        gone = self.hubs[index]
        self.zombies = [gone]
        self.clock.go_on(self.settings.dead_after_s + 1)
        self.hubs[index] = await self._new_hub(index)
        for hub in self.hubs:
            await hub.beat()
        for walker in self.connected:
            if walker.client is not None and walker.client.hub is gone:
                walker.client = None

    async def wake_zombie(self) -> None:
        """A process that was frozen goes on: of streams that others have it writes nothing."""
        for zombie in self.zombies:
            rows = self._rows()
            held = {key: each.epoch for key, each in zombie.held.items()}
            for session in list(zombie.held.values()):
                session.detach()
            self.clock.go_on(self.settings.snapshot_s + 0.1)
            await zombie.work()
            await zombie.tick()
            await zombie.beat()  # finds out what it has lost
            store.forget_replica(self.database, zombie.placement.replica_id)
            for key, row in self._rows().items():
                if key in held and rows[key].epoch != held[key]:
                    assert row == rows[key]
                    assert key not in zombie.held
        self.zombies.clear()

    def _rows(self) -> dict[str, store.StreamRow]:
        with self.database.read() as connection:
            return {each.id: each for each in store.list_streams(connection, None, 500)}

    async def end(self) -> None:
        if self.connected:
            walker = self.dice.choice(self.connected)
            assert walker.client is not None
            await walker.read()
            if walker.client.lane.closed is None:
                walker.client.session.end()
                await walker.client.hub.work()
            await self.read(walker)

    async def kill(self) -> None:
        if self.connected:
            walker = self.dice.choice(self.connected)
            assert walker.client is not None
            await self.dice.choice(self.hubs).kill(walker.client.session.terms.stream_id)
            await walker.client.hub.beat()
            await self.read(walker)

    async def drain(self) -> None:
        index = self.dice.randrange(2)
        hub = self.hubs[index]
        draining = asyncio.ensure_future(hub.drain())
        while not draining.done():
            await hub.work()
            for walker in self.connected:
                if walker.client is not None and walker.client.hub is hub:
                    await self.read(walker)
            await asyncio.sleep(0.002)
        await draining
        assert hub.reserved == 0
        await hub.ledger.attempt(store.forget_replica, hub.placement.replica_id)
        self.hubs[index] = await self._new_hub(index)

    async def finish(self) -> None:
        """Let everything end, and see that everything did."""
        for walker in list(self.walkers):
            if walker.client is None:
                await self._resume(walker)
            if walker.client is None or walker not in self.walkers:
                continue
            for _ in range(3):
                await self.read(walker)
                if walker.client is None:
                    break
                await walker.client.hub.work()
        for hub in self.hubs:
            await hub.work()
            assert hub.gate.wait(0), "the gate stays closed"
            assert hub.scheduler.depth == 0
        for walker in self.connected:
            await walker.read()
            assert walker.life is not None
            walker.life.check(is_over=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_invariants_hold_on_every_path(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(f"sqlite:///{tmp_path}/db.sqlite3")

    async def walk() -> Counter[str]:
        walk = Walk(database, move_clock(monkeypatch), seed)
        await walk.begin()
        for number in range(STEPS):
            try:
                await walk.step()
            except BaseException as error:
                error.add_note(f"seed {seed}, step {number}, so far {dict(walk.counts)}")
                raise
        await walk.finish()
        return walk.counts

    counts = asyncio.run(walk())
    database.close()
    assert counts["frame"] > STEPS / 8
    assert counts["hot"]
    assert counts["warm"]
