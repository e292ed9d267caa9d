"""Binary messages of ``amodal.stream.v1``: a fixed header, meta (MessagePack), payload.

    0   op       u8     1 FRAME, 2 RESULT
    1   flags    u8     1: sent again after a resume
    2   codec    u8     of the payload: 0 none, 1 JPEG, 2 PNG, 3 RGB8
    3   reserved u8     0
    4   meta     u32    bytes of the meta that follows
    8   seq      u64    number of the frame in its stream; rises, gaps are frames never sent
    16  capture  u64    when the frame was taken, ns of any steady clock; 0: not known
    24  deadline u32    FRAME: ms after arrival within which its result is wanted; 0: none
    28  width    u16    of the frame, pixels
    30  height   u16

Little-endian. Server and client both build and read them here.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple, TypeVar

import msgspec

from amodal_client.errors import AnswerError

SUBPROTOCOL = "amodal.stream.v1"
HEADER = struct.Struct("<BBBBIQQIHH")
MAX_SEQ = 2**63 - 1
REPLAYED = 1
"""Flag of a message that is sent again after a resume."""

T = TypeVar("T")


class Op(IntEnum):
    """What a binary message is."""

    FRAME = 1
    RESULT = 2


class Codec(IntEnum):
    """How the payload of a FRAME is coded; ``NONE``: masks only."""

    NONE = 0
    JPEG = 1
    PNG = 2
    RGB8 = 3


class Header(NamedTuple):
    """The header of a binary message; see the module."""

    op: int
    seq: int
    capture_ns: int = 0
    deadline_ms: int = 0
    width: int = 0
    height: int = 0
    codec: int = Codec.NONE
    flags: int = 0


class Packet(NamedTuple):
    """A binary message in its parts; ``meta`` is MessagePack, not yet read."""

    header: Header
    meta: memoryview
    payload: memoryview


def pack(header: Header, meta: bytes, payload: bytes | memoryview = b"") -> bytes:
    """Return a binary message.

    Raises:
        AnswerError: a number does not fit its field.
    """
    try:
        head = HEADER.pack(
            header.op,
            header.flags,
            header.codec,
            0,
            len(meta),
            header.seq,
            header.capture_ns,
            header.deadline_ms,
            header.width,
            header.height,
        )
    except struct.error as error:
        raise AnswerError(f"{header} does not fit the header: {error}") from None
    return b"".join((head, meta, payload))


def unpack(message: bytes) -> Packet:
    """Return the parts of a binary message; its op and codec are known ones.

    Raises:
        AnswerError: shorter than it says, an unknown op or codec, or a seq above 2**63 - 1.
    """
    if len(message) < HEADER.size:
        raise AnswerError(f"binary message is {len(message)} bytes, its header {HEADER.size}")
    op, flags, codec, _, meta_bytes, seq, capture_ns, deadline_ms, width, height = (
        HEADER.unpack_from(message)
    )
    if op not in Op.__members__.values():
        raise AnswerError(f"binary message has op {op}, known: 1 FRAME, 2 RESULT")
    if codec not in Codec.__members__.values():
        raise AnswerError(f"codec {codec} is not known: 0 none, 1 JPEG, 2 PNG, 3 RGB8")
    if seq > MAX_SEQ:
        raise AnswerError(f"seq {seq}, limit {MAX_SEQ}")
    rest = memoryview(message)[HEADER.size :]
    if meta_bytes > len(rest):
        raise AnswerError(f"header tells of {meta_bytes} bytes of meta, {len(rest)} follow")
    header = Header(op, seq, capture_ns, deadline_ms, width, height, codec, flags)
    return Packet(header, rest[:meta_bytes], rest[meta_bytes:])


def read_meta(meta: memoryview | bytes, kind: type[T]) -> T:
    """Return the meta of a message as a typed value; unknown keys are passed over.

    Raises:
        AnswerError: not MessagePack, or not of that kind; names the field.
    """
    try:
        return msgspec.msgpack.decode(meta, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise AnswerError(f"meta: {error}") from None


encode_meta = msgspec.msgpack.Encoder().encode
"""Returns a value as MessagePack."""
