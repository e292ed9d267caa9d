"""What a stream costs in memory, what it may ask for, and what it may send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amodal_client.stream_messages import StreamLimits
from amodal_model.errors import LimitError
from amodal_model.known_colours import BINS
from amodal_model.stream_state import state_bytes
from amodal_model.visible_source import VisibleMaskSource
from amodal_service.stream_settings import StreamSettings
from amodal_service.streams.intake import CREDITS
from amodal_service.streams.memory import MAX_KEYFRAMES
from amodal_service.streams.options import StreamOptions

UNACKED_RESULTS = 64
_BASE_BYTES = 128 << 10
_MASK_BYTES = 4 << 10
"""Of one object's visible mask: a keyframe, or a coded result."""
_STEPS = 2
"""States that exist at the same time: the old and the new one."""
_COLOUR_BYTES = 4 * BINS
"""Of the colours of one object whose masks come without ids."""
_SEARCH_BYTES = 8 << 20
"""Of a source that looks for the masks itself: images, flow, motion."""
_FOLLOWED_BYTES = 144 << 10
"""Of what such a source remembers of one object."""


@dataclass(frozen=True)
class Terms:
    """What was agreed when the stream was admitted."""

    stream_id: str
    owner: str
    options: StreamOptions
    limits: StreamLimits
    memory_bytes: int
    max_age_s: float
    finder: VisibleMaskSource[Any]


def stream_bytes(options: StreamOptions) -> int:
    """Return the memory to reserve for a stream; what it uses stays below, whatever it sends."""
    objects = options.max_objects
    kept = (MAX_KEYFRAMES + UNACKED_RESULTS) * objects * _MASK_BYTES
    waiting = CREDITS[options.mode] * options.max_message_bytes
    is_given = options.masks == "given"
    search = 0 if is_given else _SEARCH_BYTES
    remembered = _COLOUR_BYTES if is_given else _FOLLOWED_BYTES
    state = _STEPS * (state_bytes(objects) + objects * remembered)
    return _BASE_BYTES + state + kept + waiting + search


def check_options(options: StreamOptions, settings: StreamSettings) -> None:
    """Refuse options beyond what a stream may ask for.

    Raises:
        LimitError: one is; names it.
    """
    limits = {"max_objects": settings.objects, "max_message_bytes": settings.message_bytes}
    for name, limit in limits.items():
        value = getattr(options, name)
        if value > limit:
            variable = f"AMODAL_STREAM_{name.removeprefix('max_').upper()}"
            raise LimitError(f"{name} is {value}, limit {limit} ({variable})")


def stream_limits(options: StreamOptions, settings: StreamSettings) -> StreamLimits:
    """Return what a stream may send."""
    return StreamLimits(
        options.max_message_bytes,
        settings.pixels,
        options.max_objects,
        settings.fps,
        settings.seconds,
        settings.idle_s,
        settings.resume_s,
        UNACKED_RESULTS,
    )
