"""What is stored of a stream: its memory, and what its client has not been told for sure.

A crash must not lose the results of frames that the stored memory has seen already: their client
would not be asked to send them again.
"""

from __future__ import annotations

import zlib

import msgspec

from amodal_client.stream_messages import Dropped
from amodal_model.errors import InputError


class Leftovers(msgspec.Struct, frozen=True):
    """What goes with a memory.

    Attributes:
        results: (seq, RESULT) of frames up to the memory's that are not acknowledged.
        told: the latest drops of frames up to it.
        frames: accepted so far that have ended.
        answered: of these, those with a result.
        dropped: the others, by cause.
    """

    results: tuple[tuple[int, bytes], ...] = ()
    told: tuple[Dropped, ...] = ()
    frames: int = 0
    answered: int = 0
    dropped: dict[str, int] = {}


class _Stored(msgspec.Struct):
    memory: bytes
    leftovers: bytes


def pack_snapshot(memory: bytes, leftovers: Leftovers) -> bytes:
    """Return the content of a snapshot.

    Args:
        memory: from `memory.save_memory`; empty: nothing is remembered.
        leftovers: what goes with it.
    """
    packed = zlib.compress(msgspec.msgpack.encode(leftovers), 1)
    return msgspec.msgpack.encode(_Stored(memory, packed))


def unpack_snapshot(content: bytes) -> tuple[bytes, Leftovers]:
    """Return memory and leftovers of a snapshot.

    Raises:
        InputError: it is none.
    """
    try:
        stored = msgspec.msgpack.decode(content, type=_Stored)
        data = zlib.decompress(stored.leftovers)
        return stored.memory, msgspec.msgpack.decode(data, type=Leftovers)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"snapshot cannot be read: {error}") from None
