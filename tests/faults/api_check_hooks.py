"""What schemathesis is told of this service; it loads this file in an environment of its own.

The media types that it does not know, and bytes that are a clip or its masks, so that not every
generated file is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import schemathesis
from hypothesis import strategies

_CLIP = Path(os.environ["AMODAL_CHECK_CLIP"])
_MASKS = Path(os.environ["AMODAL_CHECK_MASKS"])


def _encode(_: Any, value: Any) -> bytes:
    try:
        return value if isinstance(value, bytes) else msgspec.msgpack.encode(value)
    except OverflowError:  # a number that JSON has and MessagePack has not: as wrong as any
        return b"\xc1"


def _as_bytes(_: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _decode(_: Any, response: Any) -> Any:
    return msgspec.msgpack.decode(response.content)


schemathesis.serializer("application/msgpack")(_encode)
schemathesis.serializer("application/offset+octet-stream")(_as_bytes)
schemathesis.deserializer("application/msgpack")(_decode)
schemathesis.openapi.format(
    "binary",
    strategies.sampled_from([_CLIP.read_bytes(), _MASKS.read_bytes()])
    | strategies.binary(max_size=300),
)
