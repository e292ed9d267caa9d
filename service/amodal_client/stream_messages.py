"""Messages of ``amodal.stream.v1``: metas of frames and results, and JSON control.

Control messages are JSON objects told apart by ``op``; unknown ops and keys are passed over. Boxes
are ``[x, y, width, height]``, masks COCO RLE of the box (``bbox`` given) or of the frame.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from amodal_client.errors import AnswerError

StreamMode = Literal["realtime", "lossless", "paced"]
Masks = Literal["given", "prompted", "motion"]
SessionKind = Literal["new", "hot", "warm", "cold"]
DropCause = Literal["superseded", "deadline", "overload", "decode_error", "drained", "reset"]
StreamObjectState = Literal["visible", "partial", "hidden", "lost"]
MAX_OBJECTS = 1024
"""In one message; a stream's own limit is in ``welcome``."""
OrderId = Annotated[str, msgspec.Meta(max_length=256)]
Ring = Annotated[tuple[float, ...], msgspec.Meta(max_length=20_000)]
Rings = Annotated[tuple[Ring, ...], msgspec.Meta(max_length=256)]
Points = Annotated[tuple[tuple[float, float, int], ...], msgspec.Meta(max_length=256)]
TrackIds = Annotated[tuple[int, ...], msgspec.Meta(max_length=MAX_OBJECTS)]
Bbox = tuple[float, float, float, float]
BoxPx = tuple[int, int, int, int]


class MaskRle(msgspec.Struct, frozen=True):
    """A mask as compressed COCO run-length encoding; ``size`` is height, width in pixels."""

    size: tuple[int, int]
    counts: str


# Frames -----------------------------------------------------------------------------------------


class GivenObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object that the client's segmenter sees: exactly one of mask, polygon and box.

    Attributes:
        track_id: its id; without one the service follows it.
        rle: its visible mask, of the frame, or of ``bbox`` where that is given.
        bbox: the box that ``rle`` covers; whole pixels inside the frame.
        polygon: rings of ``x, y, x, y, ...``; their union is the mask.
        box: the box alone is taken for the mask.
    """

    track_id: int | None = None
    rle: MaskRle | None = None
    bbox: BoxPx | None = None
    polygon: Rings | None = None
    box: Bbox | None = None


class FrameMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What comes with a frame; ``objects`` of a stream with given masks, empty: none shows."""

    objects: Annotated[tuple[GivenObject, ...], msgspec.Meta(max_length=MAX_OBJECTS)] | None = None


class PlacedMask(msgspec.Struct, frozen=True):
    """A mask on its bounding box; ``rle`` is of the box alone."""

    bbox: BoxPx
    rle: MaskRle


class StreamObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object in one frame.

    Attributes:
        track_id: its id.
        state: ``visible``, ``partial``, ``hidden`` or ``lost``.
        score: expected IoU of the amodal mask, 0 to 1.
        visible: what shows of it; none while it is hidden.
        amodal: the whole silhouette; none where it has no pixel.
        remembered: what of the hidden part an earlier frame showed; where asked for.
        occlusion_rate: 1 - visible / amodal pixels, 0 to 1.
        occluded_by: track ids of those in front, largest overlap first.
        last_seen_ns: capture time of the last frame that showed it; 0: not known.
        confidence_visible: in the visible mask, 0 to 1.
        confidence_occluded: expected IoU of the hidden part, 0 to 1.
        unchanged: with ``delta``: masks, state and occluders are as in the result before, and left
            out like all else but ``track_id``.
    """

    track_id: int
    state: StreamObjectState = "visible"
    score: float = 0.0
    visible: PlacedMask | None = None
    amodal: PlacedMask | None = None
    remembered: PlacedMask | None = None
    occlusion_rate: float = 0.0
    occluded_by: tuple[int, ...] = ()
    last_seen_ns: int = 0
    confidence_visible: float = 0.0
    confidence_occluded: float = 0.0
    unchanged: bool = False


class Timings(msgspec.Struct, frozen=True):
    """Where the time of one frame went, milliseconds; ``infer`` is of the batch it was in."""

    queue: float
    decode: float
    infer: float
    encode: float


class ModelName(msgspec.Struct, frozen=True):
    """Which model a result is of."""

    name: str
    version: str


class ResultMeta(msgspec.Struct, frozen=True):
    """What a RESULT says of its frame.

    Attributes:
        objects: every object that was seen so far, by ascending id; lost ones too.
        order: (front, back) pairs of track ids.
        timings: where its time went.
        dropped: frames of the stream dropped between the result before and this one.
        frame_gap: frames of time since the one before, as the model was told.
        model: name and version.
    """

    objects: tuple[StreamObject, ...]
    order: tuple[tuple[int, int], ...]
    timings: Timings
    dropped: int
    frame_gap: float
    model: ModelName


# From the client --------------------------------------------------------------------------------


class Hello(msgspec.Struct, tag_field="op", tag="hello", frozen=True, omit_defaults=True):
    """Who the client is; optional, for the log."""

    client: str = ""
    version: str = ""


class PromptObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is said of one object: exactly one of box, points, mask and removal.

    Attributes:
        track_id: its id.
        box: around what shows of it.
        points: ``(x, y, label)``; 1 on the object, 0 beside it.
        rle: its visible mask, of the frame, or of ``bbox``.
        bbox: the box that ``rle`` covers.
        remove: forget it.
    """

    track_id: int
    box: Bbox | None = None
    points: Points = ()
    rle: MaskRle | None = None
    bbox: BoxPx | None = None
    remove: bool = False


class PromptMessage(msgspec.Struct, tag_field="op", tag="prompt", frozen=True, omit_defaults=True):
    """Prompts bound to a frame: the next one, or the first from a seq on."""

    objects: Annotated[tuple[PromptObject, ...], msgspec.Meta(max_length=MAX_OBJECTS)]
    at: Literal["next"] | int = "next"
    id: OrderId = ""


class Remove(msgspec.Struct, tag_field="op", tag="remove", frozen=True, omit_defaults=True):
    """Forget objects, from the next frame on."""

    track_ids: TrackIds
    id: OrderId = ""


class Reset(msgspec.Struct, tag_field="op", tag="reset", frozen=True, omit_defaults=True):
    """Forget everything; frames that wait are dropped."""

    id: OrderId = ""


class Ack(msgspec.Struct, tag_field="op", tag="ack", frozen=True):
    """Results up to ``seq`` have arrived and need not be kept for a resume."""

    seq: int


class Ping(msgspec.Struct, tag_field="op", tag="ping", frozen=True, omit_defaults=True):
    """Asks for a pong with the same ``t``."""

    t: float = 0.0


class End(msgspec.Struct, tag_field="op", tag="end", frozen=True):
    """No more frames: those that wait are finished, then the stream is over for good."""


# From the server --------------------------------------------------------------------------------


class StreamLimits(msgspec.Struct, frozen=True):
    """What a stream may send; an error names the number that was exceeded.

    Attributes:
        message_bytes: of one message.
        pixels: of one frame.
        objects: followed at the same time.
        fps: frames a second, on average; 0: no limit.
        seconds: life of one connection; 0: no limit.
        idle_s: silence after which the stream is closed, and stays resumable.
        resume_s: how long it stays resumable.
        unacked_results: results kept for a resume.
    """

    message_bytes: int
    pixels: int
    objects: int
    fps: float
    seconds: float
    idle_s: float
    resume_s: float
    unacked_results: int


class Welcome(msgspec.Struct, tag_field="op", tag="welcome", frozen=True):
    """The first message of the server.

    Attributes:
        stream_id: of the stream.
        epoch: rises with every connection; an older owner can no longer write.
        session: whether its memory is new, the one in the process (hot), from a snapshot (warm),
            or gone (cold).
        credits: frames that may be sent before credit comes back.
        limits: see there.
        capabilities: what this server can: codecs, masks, modes, ``delta``.
        resume_token: for a later connection; a secret.
        received_seq: highest seq that needs no sending again; -1: none.
        provider: execution provider that runs.
        model: name and version.
        memory_bytes: reserved for this stream.
    """

    stream_id: str
    epoch: int
    session: SessionKind
    credits: int
    limits: StreamLimits
    capabilities: tuple[str, ...]
    resume_token: str
    received_seq: int
    provider: str
    model: ModelName
    memory_bytes: int


class Credit(msgspec.Struct, tag_field="op", tag="credit", frozen=True):
    """``n`` more frames may be sent."""

    n: int


class Dropped(msgspec.Struct, tag_field="op", tag="dropped", frozen=True):
    """Frames that get no result: ``(first, last)`` seq ranges, both ends included."""

    ranges: tuple[tuple[int, int], ...]
    cause: DropCause
    detail: str = ""


class PromptAck(msgspec.Struct, tag_field="op", tag="prompt_ack", frozen=True):
    """The frame from which a prompt, a removal or a reset took effect."""

    id: str
    effective_seq: int
    error: str = ""


class Checkpoint(msgspec.Struct, tag_field="op", tag="checkpoint", frozen=True):
    """The memory up to ``seq`` is stored: a restart goes on from there."""

    seq: int


class GoAway(msgspec.Struct, tag_field="op", tag="goaway", frozen=True):
    """The server will close in ``deadline_ms``; the stream can be resumed, here or elsewhere."""

    reason: str
    deadline_ms: int


class Status(msgspec.Struct, tag_field="op", tag="status", frozen=True):
    """Something worth knowing, such as a frame without credit."""

    level: Literal["info", "warning"]
    message: str


class Pong(msgspec.Struct, tag_field="op", tag="pong", frozen=True):
    """The answer to a ping."""

    t: float


class ErrorMessage(msgspec.Struct, tag_field="op", tag="error", frozen=True):
    """RFC 9457 problem details; the stream closes where ``is_fatal``."""

    type: str
    title: str
    status: int
    detail: str
    is_fatal: bool = True
    seq: int | None = None


class Counters(msgspec.Struct, frozen=True):
    """All accepted frames: ``frames`` = ``results`` + the sum of ``dropped`` + ``waiting``."""

    frames: int
    results: int
    dropped: dict[str, int]
    waiting: int = 0


class Bye(msgspec.Struct, tag_field="op", tag="bye", frozen=True):
    """The last message: how all accepted frames ended."""

    counters: Counters
    reason: str = ""


ClientMessage: TypeAlias = Hello | PromptMessage | Remove | Reset | Ack | Ping | End
ServerMessage: TypeAlias = (
    Welcome
    | Credit
    | Dropped
    | PromptAck
    | Checkpoint
    | GoAway
    | Status
    | Pong
    | ErrorMessage
    | Bye
)
CLIENT_OPS = frozenset({"hello", "prompt", "remove", "reset", "ack", "ping", "end"})
SERVER_OPS = frozenset(
    {
        "welcome", "credit", "dropped", "prompt_ack", "checkpoint", "goaway", "status", "pong",
        "error", "bye",
    }
)  # fmt: skip


class CloseCode:
    """Close codes of the websocket."""

    NORMAL = 1000
    GOING_AWAY = 1001
    TOO_LARGE_MESSAGE = 1009
    INTERNAL = 1011
    BAD_MESSAGE = 4400
    AUTH = 4401
    FORBIDDEN = 4403
    UNKNOWN_STREAM = 4404
    IDLE_OR_SLOW = 4408
    SUPERSEDED = 4409
    RESUME_EXPIRED = 4410
    TOO_LARGE = 4413
    CODEC = 4415
    CREDIT_OR_QUOTA = 4429
    DRAINING = 4503
    NO_SLOT = 4507


RESUMABLE_CODES = frozenset({CloseCode.GOING_AWAY, 1006, 1011, 1012, CloseCode.IDLE_OR_SLOW, 4503})
"""Closes after which a client may come back and resume; 1006: the connection broke."""

_encode = msgspec.json.Encoder().encode
_read_client = msgspec.json.Decoder(ClientMessage)
_read_server = msgspec.json.Decoder(ServerMessage)


class _Any(msgspec.Struct, frozen=True):
    op: Any = None


_read_op = msgspec.json.Decoder(_Any)


def encode_message(message: ClientMessage | ServerMessage) -> str:
    """Return a control message as JSON text."""
    return _encode(message).decode()


def read_client_message(text: str) -> ClientMessage | None:
    """Return what a client says; ``None`` for an op that is not known.

    Raises:
        AnswerError: not a JSON object with an ``op``, or a field that does not fit.
    """
    message: ClientMessage | None = _read(text, _read_client, CLIENT_OPS)
    return message


def read_server_message(text: str) -> ServerMessage | None:
    """Return what a server says; ``None`` for an op that is not known.

    Raises:
        AnswerError: not a JSON object with an ``op``, or a field that does not fit.
    """
    message: ServerMessage | None = _read(text, _read_server, SERVER_OPS)
    return message


def _read(text: str, decoder: Any, ops: frozenset[str]) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        op = _op_of(text)
        if isinstance(op, str) and op not in ops:
            return None
        name = op if isinstance(op, str) else "control message"
        raise AnswerError(f"{name}: {error}") from None


def _op_of(text: str) -> Any:
    try:
        return _read_op.decode(text).op
    except (msgspec.DecodeError, RecursionError):
        return None
