"""A server of live streams made for tests: the protocol, and visible masks echoed as whole.

`FakeStream` is one stream as a value machine: what a client sends goes to `take`, what `step` and
`take` return goes back. It breaks off with an assertion where the client breaks the protocol.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from amodal_client.stream_messages import (
    Ack,
    Bye,
    Checkpoint,
    Counters,
    Credit,
    DropCause,
    Dropped,
    End,
    FrameMeta,
    GivenObject,
    ModelName,
    PlacedMask,
    PromptAck,
    PromptMessage,
    Reset,
    ResultMeta,
    SessionKind,
    StreamLimits,
    StreamObject,
    Timings,
    Welcome,
    encode_message,
    read_client_message,
)
from amodal_client.stream_wire import (
    REPLAYED,
    Header,
    Op,
    Packet,
    encode_meta,
    pack,
    read_meta,
    unpack,
)

LIMITS = StreamLimits(1 << 20, 1 << 24, 16, 0.0, 0.0, 60.0, 3600.0, 64)
MODEL = ModelName("fake", "1")
Message = str | bytes


def whole_objects(meta: FrameMeta) -> tuple[StreamObject, ...]:
    """Return what the fake says of a frame: each visible mask is the whole silhouette."""
    return tuple(_object(each) for each in meta.objects or ())


def _object(each: GivenObject) -> StreamObject:
    assert each.track_id is not None
    assert each.bbox is not None
    assert each.rle is not None
    placed = PlacedMask(each.bbox, each.rle)
    return StreamObject(each.track_id, score=0.5, visible=placed, amodal=placed)


@dataclass
class FakeStream:
    """One stream, over all of its connections.

    Attributes:
        prompts: all that came, with the frame from which they were to hold.
        steps: seqs of all frames worked on, those worked on again too.
    """

    mode: str = "lossless"
    credits_at_start: int = 4
    is_delta: bool = False
    limits: StreamLimits = LIMITS
    prompts: list[PromptMessage] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    is_ended: bool = False
    epoch: int = 0
    acked_seq: int = -1
    most_waiting: int = 0
    _waiting: deque[Packet] = field(default_factory=deque)
    _kept: deque[tuple[int, bytes]] = field(default_factory=deque)
    _orders: list[PromptMessage] = field(default_factory=list)
    _last_seq: int = -1
    _done_seq: int = -1
    _stored_seq: int = -1
    _credits: int = 0
    _is_full: bool = True
    _is_ending: bool = False
    _told: dict[int, StreamObject] = field(default_factory=dict)
    _drops: list[Dropped] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    # The life of the connection ----------------------------------------------------------------

    def connect(self, kind: SessionKind, last_result: int) -> list[Message]:
        """Begin a connection; return what is said first."""
        self.epoch += 1
        self._is_ending = False
        received = self._last_seq
        if kind != "hot":
            received = self._stored_seq if kind == "warm" else -1
            self._forget(received)
        while self._kept and self._kept[0][0] <= last_result:
            self._kept.popleft()
        self._is_full = True
        self._credits = self.credits_at_start - len(self._waiting)
        welcome = Welcome(
            "s", self.epoch, kind, self._credits, self.limits, (), f"s.{self.epoch}", received,
            "fake", MODEL, 0,
        )  # fmt: skip
        drops = [each for each in self._drops if each.ranges[0][0] > last_result]
        replays = [_flagged(packet) for _, packet in self._kept]
        return [encode_message(welcome), *map(encode_message, drops), *replays]

    def _forget(self, received: int) -> None:
        self._last_seq = self._done_seq = self._stored_seq = received
        self._waiting.clear()
        self._kept.clear()
        self._orders.clear()
        self._drops.clear()
        self._told.clear()

    # What comes --------------------------------------------------------------------------------

    def take(self, message: Message) -> list[Message]:
        """Take a message of the client in; return the answers."""
        if isinstance(message, bytes):
            return self._take_frame(unpack(message))
        said = read_client_message(message)
        if isinstance(said, PromptMessage):
            self.prompts.append(said)
            self._orders.append(said)
        elif isinstance(said, Ack):
            self.acked_seq = max(self.acked_seq, said.seq)
            while self._kept and self._kept[0][0] <= said.seq:
                self._kept.popleft()
        elif isinstance(said, Reset):
            return self._reset(said)
        elif isinstance(said, End):
            assert not self._is_ending, "'end' came twice in a connection"
            self._is_ending = True
            return self._end_if_done()
        return []

    def _take_frame(self, packet: Packet) -> list[Message]:
        seq = packet.header.seq
        assert packet.header.op == Op.FRAME
        assert not self._is_ending, "a frame after 'end'"
        assert seq > self._last_seq, f"seq {seq} after {self._last_seq}"
        assert self._credits > 0, f"frame {seq} without credit"
        self._credits -= 1
        self._last_seq = seq
        answers: list[Message] = []
        if self.mode != "lossless" and self._waiting:
            answers += self._drop([each.header.seq for each in self._waiting], "superseded")
            answers += self._credit(len(self._waiting))
            self._waiting.clear()
        self._waiting.append(packet)
        self.most_waiting = max(self.most_waiting, len(self._waiting))
        return answers

    def _reset(self, said: Reset) -> list[Message]:
        seqs = [each.header.seq for each in self._waiting]
        self._waiting.clear()
        self._told.clear()
        self._orders.clear()
        answers = self._drop(seqs, "reset") if seqs else []
        ack = PromptAck(said.id, self._last_seq + 1)
        return [*answers, *self._credit(len(seqs)), encode_message(ack)]

    def _credit(self, count: int) -> list[Message]:
        self._credits += count
        return [encode_message(Credit(count))] if count else []

    def _drop(self, seqs: list[int], cause: DropCause) -> list[Message]:
        self._counts[cause] += len(seqs)
        drops = [Dropped(((seq, seq),), cause) for seq in seqs]
        self._drops += drops
        return [encode_message(each) for each in drops]

    # What is done ------------------------------------------------------------------------------

    def step(self) -> list[Message]:
        """Work on the next frame that waits; return what is said of it."""
        if not self._waiting or len(self._kept) >= self.limits.unacked_results:
            return []
        packet = self._waiting.popleft()
        header = packet.header
        self.steps.append(header.seq)
        self._done_seq = header.seq
        due = [each for each in self._orders if each.at == "next" or each.at <= header.seq]
        self._orders = [each for each in self._orders if each not in due]
        objects = whole_objects(read_meta(packet.meta, FrameMeta))
        told = {each.track_id: each for each in objects}
        sent = tuple(self._less(each) for each in objects)
        self._told, self._is_full = told, False
        meta = ResultMeta(sent, (), Timings(0.0, 0.0, 0.0, 0.0), 0, 1.0, MODEL)
        place = (header.capture_ns, 0, header.width, header.height)
        result = pack(Header(Op.RESULT, header.seq, *place), encode_meta(meta))
        self._kept.append((header.seq, result))
        self._counts["results"] += 1
        acks = [encode_message(PromptAck(each.id, header.seq)) for each in due]
        return [*self._credit(1), result, *acks, *self._end_if_done()]

    def _less(self, each: StreamObject) -> StreamObject:
        is_same = self.is_delta and not self._is_full and self._told.get(each.track_id) == each
        return StreamObject(each.track_id, unchanged=True) if is_same else each

    def _end_if_done(self) -> list[Message]:
        if not self._is_ending or self._waiting:
            return []
        self.is_ended = True
        counters = Counters(0, self._counts["results"], {})
        return [encode_message(Bye(counters, "end"))]

    def checkpoint(self, most: int) -> list[Message]:
        """Store the memory, of frames up to ``most`` at best."""
        if self._done_seq > most or self._done_seq <= self._stored_seq:
            return []
        self._stored_seq = self._done_seq
        return [encode_message(Checkpoint(self._stored_seq))]


def _flagged(packet: bytes) -> bytes:
    return packet[:1] + bytes([packet[1] | REPLAYED]) + packet[2:]
