"""What the service answers, as typed values; keys of a later service are passed over."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from jaxtyping import Bool

from amodal_client.errors import AnswerError

Mode = Literal["causal", "offline"]
Masks = Literal["given", "prompted", "motion"]
"""Where visible masks come from: a file, prompts, or where things move."""
State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Mask: TypeAlias = Bool[np.ndarray, "H W"]

MAX_SIDE = 16384
_MAX_DIGITS = 7


class Rle(msgspec.Struct, frozen=True):
    """A mask as compressed COCO run-length encoding; ``size`` is height, width in pixels."""

    size: tuple[int, int]
    counts: str

    def decode(self) -> Mask:
        """Return the mask.

        Raises:
            AnswerError: the runs do not fill the stated size.
        """
        height, width = self.size
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
            raise AnswerError(f"mask is {width}x{height}, limit {MAX_SIDE}x{MAX_SIDE}")
        runs = _runs(self.counts)
        if min(runs, default=-1) < 0 or sum(runs) != height * width:
            raise AnswerError(f"runs of a mask do not fill its {width}x{height} pixels")
        inside = np.arange(len(runs)) % 2 == 1
        return np.repeat(inside, runs).reshape(width, height).T


def _runs(counts: str) -> list[int]:
    """Return the lengths of the runs, outside first.

    Source: pycocotools ``rleFrString``; its own decoder is not called, because it returns memory
    that was never written where the runs are too short.
    """
    runs: list[int] = []
    value = digits = 0
    for code in counts.encode():
        digit = code - 48
        if not 0 <= digit < 64 or digits >= _MAX_DIGITS:
            raise AnswerError(f"not the runs of a mask: {counts[:24]!r}")
        value |= (digit & 31) << 5 * digits
        digits += 1
        if not digit & 32:
            if digit & 16:
                value -= 1 << 5 * digits
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = digits = 0
    return runs if not digits else []


class ObjectResult(msgspec.Struct, frozen=True):
    """One object in one frame; its masks are decoded each time they are asked for.

    Attributes:
        occlusion_rate: 1 - |visible| / |amodal|, 0 to 1.
        occluded_by: track ids of those in front of it.
        bbox: of the amodal mask: x, y, width, height in pixels.
        area: of the amodal mask, pixels.
    """

    track_id: int
    state: str
    occlusion_rate: float
    score: float
    confidence_visible: float
    confidence_occluded: float
    occluded_by: tuple[int, ...] = ()
    bbox: tuple[int, int, int, int] | None = None
    area: int | None = None
    segmentation: Rle | None = None
    visible_segmentation: Rle | None = None
    inferred_segmentation: Rle | None = None
    remembered_segmentation: Rle | None = None

    @property
    def amodal_mask(self) -> Mask | None:
        """The full silhouette, bool (H, W); None where it has no pixel."""
        return _decoded(self.segmentation)

    @property
    def visible_mask(self) -> Mask | None:
        """What shows of it, bool (H, W); None where nothing does."""
        return _decoded(self.visible_segmentation)

    @property
    def occluded_mask(self) -> Mask | None:
        """The inferred part, amodal & ~visible, bool (H, W); None where there is none."""
        return _decoded(self.inferred_segmentation)

    @property
    def remembered_mask(self) -> Mask | None:
        """What of it was seen in earlier frames, bool (H, W); None where nothing was."""
        return _decoded(self.remembered_segmentation)


def _decoded(rle: Rle | None) -> Mask | None:
    return None if rle is None else rle.decode()


class FrameResult(msgspec.Struct, frozen=True):
    """The objects of one frame, and which stands before which, as (front, back) track ids."""

    frame_index: int
    pts_s: float
    objects: tuple[ObjectResult, ...]
    order: tuple[tuple[int, int], ...] = ()


class Model(msgspec.Struct, frozen=True):
    """A model of the server, and the execution provider that really runs it."""

    name: str
    version: str
    sha256: str
    precision: str
    provider_actual: str
    provider_requested: tuple[str, ...] = ()
    input_sizes: dict[str, tuple[int | None, ...]] = {}


class Video(msgspec.Struct, frozen=True):
    """A clip that was segmented."""

    file_name: str
    width: int
    height: int
    length: int
    fps: float


class SegmentedClip(msgspec.Struct, frozen=True):
    """A short clip, segmented."""

    model: Model
    video: Video
    frames: tuple[FrameResult, ...]


class Artifact(msgspec.Struct, frozen=True):
    """A result file of a job."""

    name: str
    size_bytes: int
    sha256: str
    media_type: str


class JobProblem(msgspec.Struct, frozen=True):
    """Why a job failed."""

    type: str
    title: str
    detail: str


class Job(msgspec.Struct, frozen=True):
    """A job and how far it is; times in seconds since the epoch.

    Attributes:
        masks: where its visible masks come from.
        pictures: whether the images beside given masks are looked at, too.
        frames_total: None until the clip has been opened.
        fps: frames per second of the last chunk.
        eta_s: seconds to its end at this rate.
        runs: 1, and 1 more for each retry.
        attempts: starts of the present run; above 1 after a takeover.
    """

    id: str
    state: State
    mode: Mode
    video_name: str
    frames_done: int
    masks: Masks = "given"
    pictures: bool = False
    frames_total: int | None = None
    fps: float | None = None
    eta_s: float | None = None
    runs: int = 1
    attempts: int = 0
    priority: int = 5
    outputs: tuple[str, ...] = ()
    error: JobProblem | None = None
    created_s: float = 0.0
    started_s: float | None = None
    finished_s: float | None = None
    artifacts: tuple[Artifact, ...] = ()

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running")


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a job: ``queued``, ``started``, ``progress``, or an end."""

    id: int
    kind: str
    data: dict[str, Any]

    @property
    def is_end(self) -> bool:
        """Whether it says that the job ended."""
        return self.kind in ("succeeded", "failed", "cancelled")


class JobPage(msgspec.Struct, frozen=True):
    """A page of a list of jobs."""

    jobs: tuple[Job, ...]
    next_before: str | None = None


class ModelPage(msgspec.Struct, frozen=True):
    """The models of a server."""

    models: tuple[Model, ...]
