"""What a live stream tells its user: results with masks, and what else happened."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import numpy as np

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    DropCause,
    ModelName,
    PlacedMask,
    StreamObject,
    StreamObjectState,
    Timings,
)
from amodal_client.values import MAX_SIDE, Mask, Rle

SeqRange: TypeAlias = tuple[int, int]
"""First and last seq, both included."""


class StreamedObject(msgspec.Struct, frozen=True):
    """One object in one frame; its masks are decoded each time they are asked for.

    Attributes:
        frame_size: height and width of the frame, pixels.
        said: all that the server says of the object, masks on their boxes.
    """

    frame_size: tuple[int, int]
    said: StreamObject

    @property
    def track_id(self) -> int:
        """Its id."""
        return self.said.track_id

    @property
    def state(self) -> StreamObjectState:
        """``visible``, ``partial``, ``hidden`` or ``lost``."""
        return self.said.state

    @property
    def score(self) -> float:
        """Expected IoU of the amodal mask, 0 to 1."""
        return self.said.score

    @property
    def occlusion_rate(self) -> float:
        """1 - |visible| / |amodal|, 0 to 1."""
        return self.said.occlusion_rate

    @property
    def occluded_by(self) -> tuple[int, ...]:
        """Track ids of those in front, largest overlap first."""
        return self.said.occluded_by

    @property
    def amodal_mask(self) -> Mask | None:
        """The full silhouette, bool (H, W); None where it has no pixel."""
        return self._full(self.said.amodal)

    @property
    def visible_mask(self) -> Mask | None:
        """What shows of it, bool (H, W); None where nothing does."""
        return self._full(self.said.visible)

    @property
    def remembered_mask(self) -> Mask | None:
        """What earlier frames showed of its hidden part, bool (H, W), where asked for."""
        return self._full(self.said.remembered)

    @property
    def occluded_mask(self) -> Mask | None:
        """The inferred part, amodal & ~visible, bool (H, W); None where there is none."""
        amodal, visible = self.amodal_mask, self.visible_mask
        if amodal is None or visible is None:
            return amodal
        hidden = amodal & ~visible
        return hidden if hidden.any() else None

    def _full(self, placed: PlacedMask | None) -> Mask | None:
        return None if placed is None else full_mask(placed, self.frame_size)


def full_mask(placed: PlacedMask, frame_size: tuple[int, int]) -> Mask:
    """Return a mask on its box as one of the frame, bool (H, W).

    Raises:
        AnswerError: the box is not inside the frame, or not of the size of its runs.
    """
    (x, y, width, height), (rows, columns) = placed.bbox, frame_size
    if not (
        0 <= x <= x + width <= columns <= MAX_SIDE and 0 <= y <= y + height <= rows <= MAX_SIDE
    ):
        raise AnswerError(f"box {placed.bbox} is not inside the frame, {columns}x{rows}")
    if placed.rle.size != (height, width):
        raise AnswerError(f"mask is {placed.rle.size}, its box {(height, width)}")
    mask = np.zeros(frame_size, bool)
    mask[y : y + height, x : x + width] = Rle(placed.rle.size, placed.rle.counts).decode()
    return mask


class StreamResult(msgspec.Struct, frozen=True):
    """What a frame shows.

    Attributes:
        seq: number of the frame, as `send` returned it.
        capture_ns: when it was taken, as given to `send`; 0: not known.
        frame_size: height and width, pixels.
        objects: every object seen so far, by ascending id; lost ones too.
        order: (front, back) pairs of track ids.
        timings: where the server's time went.
        dropped: frames that the server dropped between the result before and this one.
        frame_gap: frames of time since the one before, as the model was told.
        model: name and version.
        latency_ms: from `send` to the arrival of the result.
    """

    seq: int
    capture_ns: int
    frame_size: tuple[int, int]
    objects: tuple[StreamedObject, ...]
    order: tuple[tuple[int, int], ...]
    timings: Timings
    dropped: int
    frame_gap: float
    model: ModelName
    latency_ms: float


class FramesDropped(msgspec.Struct, frozen=True):
    """Frames that get no result.

    Attributes:
        ranges: first and last seq of each run.
        cause: the server's, or ``source``: a newer frame came before this one could be sent.
        detail: more on it; may be empty.
    """

    ranges: tuple[SeqRange, ...]
    cause: DropCause | Literal["source"]
    detail: str = ""


class Resumed(msgspec.Struct, frozen=True):
    """The connection was lost and is there again.

    Attributes:
        kind: what is left of the memory: all (hot), that of a snapshot (warm), none (cold).
        epoch: of the stream.
        lost: frames whose result will not come any more.
        skipped: frames with results that the server's memory lacks now: too old to send again.
    """

    kind: Literal["hot", "warm", "cold"]
    epoch: int
    lost: tuple[SeqRange, ...] = ()
    skipped: int = 0


class PromptTaken(msgspec.Struct, frozen=True):
    """A prompt, removal or reset took effect, or did not.

    Attributes:
        id: what `prompt`, `remove` or `reset` returned.
        effective_seq: first frame that it holds for; -1: none yet.
        error: why nothing changed; empty where it did.
    """

    id: str
    effective_seq: int
    error: str = ""


class LeavingServer(msgspec.Struct, frozen=True):
    """The server will close; the stream goes on at another, or at this one restarted."""

    reason: str
    deadline_ms: int


class Totals(msgspec.Struct, frozen=True):
    """How all captured frames ended; counted here, over all connections.

    Attributes:
        captured: frames given to `send`.
        results: results that arrived.
        dropped: by cause; ``source`` ones were never sent.
        lost: without an outcome, by a break of the connection.
        waiting: still without an outcome.
        resumes: by kind.
    """

    captured: int
    results: int
    dropped: dict[str, int]
    lost: int
    waiting: int
    resumes: dict[str, int]


class Ended(msgspec.Struct, frozen=True):
    """The stream is over: every frame has its outcome."""

    totals: Totals
    reason: str = "end"


class Latency(msgspec.Struct, frozen=True):
    """Time from `send` to the result over the latest results, milliseconds; NaN: none yet."""

    count: int
    p50_ms: float
    p95_ms: float
    p99_ms: float


StreamEvent: TypeAlias = (
    StreamResult | FramesDropped | Resumed | PromptTaken | LeavingServer | Ended
)


def runs_of(seqs: list[int]) -> tuple[SeqRange, ...]:
    """Return ascending numbers as runs of consecutive ones."""
    runs: list[SeqRange] = []
    for seq in seqs:
        if runs and runs[-1][1] + 1 == seq:
            runs[-1] = (runs[-1][0], seq)
        else:
            runs.append((seq, seq))
    return tuple(runs)
