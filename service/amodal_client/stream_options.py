"""What is asked of a live stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import msgspec

from amodal_client.errors import UsageError
from amodal_client.stream_messages import Masks, StreamMode

BUFFER_BYTES = 64 << 20


class ResumePoint(NamedTuple):
    """From where a stream that was left can be gone on with; the token is a secret.

    Attributes:
        resume_token: of the stream.
        last_result: highest seq whose result has arrived; -1: none.
        next_seq: number of the next frame.
    """

    resume_token: str
    last_result: int
    next_seq: int


class StreamOptions(TypedDict, total=False):
    """What `stream` takes; all may be left out.

    Attributes:
        mode: ``realtime``: the latest frame wins; ``lossless``: nothing is dropped, `send` waits;
            ``paced``: `fps` frames a second are taken.
        fps: frame rate of the camera; of what is taken where paced.
        max_objects: followed at the same time (16).
        masks: where visible masks come from: ``given`` with each frame, ``prompted``, ``motion``.
        pictures: look at the images beside masks given with ids, too, for what hides an object
            without having a mask itself.
        deadline_ms: after arrival, within which a frame's result is wanted; 0: none.
        delta: leave out on the wire what is as in the result before; results here are whole.
        remembered: also tell what earlier frames showed of hidden parts.
        max_message_bytes: of one message (4 MiB); costs the server memory.
        frame_size: height and width, for frames with neither image nor mask.
        servers: further addresses to go on at when the client's own is away.
        retry_s: how long a lost stream is tried to be resumed; the client's own, if left out.
        buffer_bytes: of frames kept for a resume, and of results that wait to be read (64 MiB).
        resume: go on with a stream that was left with `close`.
    """

    mode: StreamMode
    fps: float | None
    max_objects: int
    masks: Masks
    pictures: bool
    deadline_ms: int
    delta: bool
    remembered: bool
    max_message_bytes: int
    frame_size: tuple[int, int] | None
    servers: Sequence[str]
    retry_s: float
    buffer_bytes: int
    resume: ResumePoint | None


class StreamRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server is asked for: the body of ``POST /v1/streams``."""

    mode: StreamMode = "realtime"
    fps: float | None = None
    max_objects: int = 16
    masks: Masks = "given"
    pictures: bool = False
    deadline_ms: int = 0
    delta: bool = False
    remembered: bool = False
    max_message_bytes: int = 4 << 20


class StreamSetup(NamedTuple):
    """All that a stream is opened with."""

    request: StreamRequest
    frame_size: tuple[int, int] | None
    servers: tuple[str, ...]
    retry_s: float | None
    buffer_bytes: int
    resume: ResumePoint | None


def stream_setup(options: StreamOptions) -> StreamSetup:
    """Return what a stream is opened with.

    Raises:
        UsageError: an option that is not known, or a value that cannot be.
    """
    given: dict[str, Any] = dict(options)
    own = {name: given.pop(name) for name in StreamRequest.__struct_fields__ if name in given}
    unknown = given.keys() - StreamOptions.__annotations__.keys()
    if unknown:
        raise UsageError(f"stream() has no option {min(unknown)!r}")
    try:
        request = msgspec.convert(own, StreamRequest)
    except msgspec.ValidationError as error:
        raise UsageError(f"stream(): {error}") from None
    if request.mode == "paced" and not request.fps:
        raise UsageError("mode 'paced' needs fps")
    buffer_bytes = given.get("buffer_bytes", BUFFER_BYTES)
    if buffer_bytes < request.max_message_bytes:
        raise UsageError(
            f"buffer_bytes is {buffer_bytes}, must hold a message of {request.max_message_bytes}"
        )
    return StreamSetup(
        request,
        given.get("frame_size"),
        tuple(given.get("servers") or ()),
        given.get("retry_s"),
        buffer_bytes,
        given.get("resume"),
    )
