"""What goes over the wire, as pydantic models with examples: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    HttpUrl,
    StrictBool,
    Tag,
    model_validator,
)

from amodal_model.clip import Mode
from amodal_model.frame_size import MAX_SIDE
from amodal_model.prompts import MAX_POINTS, prompts_from_json
from amodal_model.stream import MAX_OBJECTS
from amodal_service.job_queue import HIGHEST_PRIORITY
from amodal_service.jobs import JobState
from amodal_service.mask_choice import MaskChoice, check_mask_files

Output = Literal["overlay", "coco-rle", "cocoa", "kins", "tao-amodal", "davis"]
Name = Annotated[str, Field(min_length=1, max_length=255, examples=["street.mp4"])]
VideoName = Annotated[
    Name | None,
    Field(description="Which entry of the mask file is the clip's; by default its file name."),
]
_BINARY = {"format": "binary"}
VideoPart = Annotated[bytes, Field(description="The clip.", json_schema_extra=_BINARY)]
VisiblePart = Annotated[
    bytes,
    Field(description="Its visible masks, YouTube-VIS: for `given`.", json_schema_extra=_BINARY),
]
PromptsPart = Annotated[
    bytes,
    Field(
        description="Where its objects are, as JSON like `Prompts`: for `prompted`.",
        json_schema_extra=_BINARY,
    ),
]
Masks = Annotated[
    MaskChoice,
    Field(
        description="Where the visible masks come from: `given` in the file `visible`, `prompted` "
        "(found from `prompts`), or `motion` (found where things move; neither file).",
    ),
]
Pictures = Annotated[
    StrictBool,
    Field(
        description="Look at the images beside masks that are given with ids, too, for what hides "
        "an object without having a mask itself (a hand, a pole)."
    ),
]
JobId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
EXAMPLE_ID = "01a20e15b293518997f68aaf1690a86c"


def _plain_number(value: Any) -> Any:
    """Refuse what pydantic would turn into a number and JSON Schema does not call one."""
    if isinstance(value, bool | str | bytes):
        raise ValueError("must be a number")
    return value


def _plain_true(value: Any) -> Any:
    """Refuse a number where the word is wanted."""
    if value is not None and not isinstance(value, bool):
        raise ValueError("must be true")
    return value


StrictTrue = Annotated[Literal[True], BeforeValidator(_plain_true)]
Whole = Annotated[int, BeforeValidator(_plain_number)]
Real = Annotated[float, BeforeValidator(_plain_number)]


class Wire(BaseModel):
    """A value on the wire; unknown keys are an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:amodal:problem:limit"])
    title: str = Field(examples=["Larger than a limit"])
    status: int = Field(examples=[413])
    detail: str = Field(
        examples=["clip is 31.0 s, limit 20.0 s (AMODAL_LIMIT_SEGMENT_SECONDS)"],
    )
    instance: str = Field(default="", examples=["/v1/segment"])
    request_id: str = Field(default="", examples=["5b1f0f2f8a6d4bb0a3f6f8d3f6d1f1aa"])


class Health(Wire):
    """Whether the process lives."""

    status: Literal["ok"]


class Model(Wire):
    """A model and what it runs on."""

    name: str = Field(examples=["base"])
    version: str = Field(examples=["3"])
    sha256: str = Field(examples=["9f2c" * 16])
    precision: Literal["fp32", "fp16", "int8"]
    input_sizes: dict[str, list[int | None]] = Field(
        description="Shape of each input of the graph; null where it follows the objects.",
        examples=[{"crop": [None, 3, 96, 96]}],
    )
    provider_requested: list[str] = Field(
        description="Execution providers asked for, best first.",
        examples=[["CUDAExecutionProvider", "CPUExecutionProvider"]],
    )
    provider_actual: str = Field(
        description="The execution provider that really runs.", examples=["CPUExecutionProvider"]
    )


class ModelList(Wire):
    """The models of this server."""

    models: list[Model]


class Ready(Wire):
    """That the service can work, shown by a step of the model."""

    status: Literal["ready"]
    model: Model
    step_ms: float = Field(ge=0, examples=[3.1])


class Rle(Wire):
    """A mask as COCO run-length encoding."""

    size: tuple[
        Annotated[Whole, Field(ge=1, le=MAX_SIDE)], Annotated[Whole, Field(ge=1, le=MAX_SIDE)]
    ] = Field(description="Height and width, pixels.", examples=[[480, 640]])
    counts: str = Field(max_length=64 << 20, examples=["PPYo1"])


class VisibleObject(Wire):
    """The visible mask of one object in one frame."""

    track_id: Whole = Field(ge=-(2**53), le=2**53, examples=[1])
    rle: Rle


class VisibleFrame(Wire):
    """The objects that show in one frame."""

    objects: list[VisibleObject] = Field(max_length=MAX_OBJECTS)


class SegmentFrames(Wire):
    """A short clip as visible masks alone, completed without pictures.

    To have the masks found, or pictures looked at, send the clip itself, as multipart.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "height": 4,
                    "width": 6,
                    "fps": 25,
                    "mode": "causal",
                    "frames": [
                        {"objects": [{"track_id": 1, "rle": {"size": [4, 6], "counts": "52202o0"}}]}
                    ],
                }
            ]
        },
    )

    height: Whole = Field(ge=1, le=MAX_SIDE)
    width: Whole = Field(ge=1, le=MAX_SIDE)
    fps: Real = Field(default=25.0, ge=0.001, le=1000)
    mode: Mode = "causal"
    frames: list[VisibleFrame] = Field(min_length=1, max_length=100_000)


class SegmentOptions(Wire):
    """How a short clip is segmented; the part ``request`` of a multipart request."""

    mode: Mode = "causal"
    masks: Masks = "given"
    pictures: Pictures = False
    video_name: VideoName = None


class SegmentFiles(Wire):
    """A short clip and the file of its visible masks or prompts, as multipart."""

    request: SegmentOptions | None = None
    video: VideoPart
    visible: VisiblePart | None = None
    prompts: PromptsPart | None = None


class SegmentedVideo(Wire):
    """The clip that was segmented."""

    file_name: str
    width: int
    height: int
    length: int
    fps: float


class SegmentedObject(Wire):
    """One object in one frame, as in the ``coco-rle`` format of the command line."""

    track_id: int
    state: Literal["visible", "partial", "hidden", "lost"]
    occlusion_rate: float = Field(ge=0, le=1)
    score: float
    confidence_visible: float
    confidence_occluded: float
    occluded_by: list[int]
    bbox: list[int] | None = Field(description="Of the amodal mask: x, y, width, height.")
    area: int | None
    segmentation: Rle | None = Field(description="The amodal mask.")
    visible_segmentation: Rle | None
    inferred_segmentation: Rle | None = Field(description="Amodal minus visible.")
    remembered_segmentation: Rle | None


class SegmentedFrame(Wire):
    """The objects of one frame, and which stands before which."""

    video_id: int
    file_name: str
    frame_index: int
    pts_s: float
    objects: list[SegmentedObject]
    order: list[tuple[int, int]] = Field(description="(front, back) pairs of track ids.")


class Segmented(Wire):
    """A segmented clip."""

    model: Model
    video: SegmentedVideo
    frames: list[SegmentedFrame]


class Webhook(Wire):
    """Where to tell that a job has ended."""

    url: HttpUrl = Field(examples=["https://robot.example/hooks/amodal"])
    secret: str = Field(
        min_length=38,
        max_length=96,
        pattern=r"^whsec_[A-Za-z0-9+/]+={0,2}$",
        description="whsec_ and 24 to 64 random bytes in base64: messages are signed with it.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )


class FileSource(Wire):
    """Where a file comes from: exactly one of the three."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "https://videos.example/street.mp4"}],
            "oneOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("url", "upload_id", "key")
            ],
        },
    )

    url: HttpUrl | None = Field(default=None, examples=["https://videos.example/street.mp4"])
    upload_id: str | None = Field(default=None, max_length=64, description="Of a finished upload.")
    key: str | None = Field(
        default=None,
        max_length=512,
        pattern=r"^\w[\w.-]*(/\w[\w.-]*)*$",
        description="Of a file that an operator has put below imports/ in the storage.",
    )

    @model_validator(mode="after")
    def _is_one(self) -> FileSource:
        if sum(value is not None for value in (self.url, self.upload_id, self.key)) != 1:
            raise ValueError("exactly one of url, upload_id and key must be given")
        return self


class PromptedObject(Wire):
    """What is said about one object in one frame: exactly one of the last four."""

    track_id: Whole = Field(ge=-(2**53), le=2**53, examples=[1])
    frame_index: Whole = Field(ge=0, le=2**53, examples=[0])
    video_id: Whole | None = Field(default=None, description="Not needed: a job has one clip.")
    bbox_xyxy: list[Real] | None = Field(
        default=None, min_length=4, max_length=4, description="Around what shows of it, pixels."
    )
    points: list[tuple[Real, Real, Annotated[Whole, Field(ge=0, le=1)]]] | None = Field(
        default=None, min_length=1, max_length=MAX_POINTS, description="x, y, and 1 on it or 0 off."
    )
    rle: Rle | None = Field(default=None, description="Its visible mask.")
    remove: StrictTrue | None = Field(default=None, description="Forget it from here on.")


class Prompts(Wire):
    """Where the objects of a clip are: the content of a file of prompts."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "objects": [
                        {"track_id": 1, "frame_index": 0, "bbox_xyxy": [40, 30, 120, 200]},
                        {"track_id": 2, "frame_index": 9, "points": [[310, 95, 1], [300, 180, 0]]},
                    ]
                }
            ]
        },
    )

    objects: list[PromptedObject] = Field(min_length=1, max_length=100_000)

    @model_validator(mode="after")
    def _are_prompts(self) -> Prompts:
        prompts_from_json(self.as_json())
        return self

    def as_json(self) -> dict[str, Any]:
        """Return the content of the file that says the same."""
        return self.model_dump(mode="json", exclude_none=True)


def _kind_of_prompts(value: Any) -> str:
    is_content = isinstance(value, Prompts) or (isinstance(value, dict) and "objects" in value)
    return "content" if is_content else "source"


PromptsGiven = Annotated[
    Annotated[FileSource, Tag("source")] | Annotated[Prompts, Tag("content")],
    Discriminator(_kind_of_prompts),
]
"""Where a file of prompts is, or its content; an error speaks of the one that was meant."""


class JobOptions(Wire):
    """What a job does with its clip; the part ``request`` of a multipart request."""

    mode: Mode = "causal"
    masks: Masks = "given"
    pictures: Pictures = False
    outputs: list[Output] = Field(
        default_factory=list,
        max_length=8,
        description="Beyond amodal.json and frames.csv, which are always made.",
        examples=[["overlay"]],
    )
    priority: Whole = Field(
        default=5,
        ge=0,
        le=HIGHEST_PRIORITY,
        description="Among the caller's own jobs; higher runs first.",
    )
    video_name: VideoName = None
    webhook: Webhook | None = None


class JobFiles(Wire):
    """A job with its files, as multipart."""

    request: JobOptions | None = None
    video: VideoPart
    visible: VisiblePart | None = None
    prompts: PromptsPart | None = None


class JobRequest(JobOptions):
    """A job whose files are elsewhere already; prompts may be in the request itself."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "video": {"url": "https://videos.example/street.mp4"},
                    "visible": {"url": "https://videos.example/visible.json"},
                },
                {
                    "video": {"upload_id": "0123456789abcdef0123456789abcdef"},
                    "masks": "prompted",
                    "prompts": {
                        "objects": [
                            {"track_id": 1, "frame_index": 0, "bbox_xyxy": [40, 30, 120, 200]}
                        ]
                    },
                },
                {"video": {"key": "street.mp4"}, "masks": "motion", "outputs": ["overlay"]},
            ]
        },
    )

    video: FileSource
    visible: FileSource | None = None
    prompts: PromptsGiven | None = None

    @model_validator(mode="after")
    def _has_its_mask_file(self) -> JobRequest:
        brought = {"visible": self.visible, "prompts": self.prompts}
        check_mask_files(self.masks, {name for name, file in brought.items() if file is not None})
        return self


class JobError(Problem):
    """Why a job failed."""


class Job(Wire):
    """A job and how far it is."""

    id: JobId = Field(examples=[EXAMPLE_ID])
    state: JobState
    mode: Mode
    masks: MaskChoice
    pictures: bool
    outputs: list[Output]
    priority: int
    video_name: str
    frames_done: int = Field(ge=0, examples=[128])
    frames_total: int | None = Field(description="null until the clip has been opened.")
    fps: float | None = Field(description="Frames per second of the last chunk.")
    eta_s: float | None = Field(description="Seconds to its end at this rate.")
    runs: int = Field(ge=1, description="1, and 1 more for each retry.")
    attempts: int = Field(ge=0, description="Starts of the present run; above 1 after a takeover.")
    error: JobError | None
    created_s: float = Field(description="Seconds since the epoch.")
    started_s: float | None
    finished_s: float | None
    artifacts: list[Artifact] = Field(description="Result files, once the job has succeeded.")
    results: str = Field(
        description="Records of the finished frames.", examples=[f"/v1/jobs/{EXAMPLE_ID}/results"]
    )


class Artifact(Wire):
    """A result file."""

    name: str = Field(examples=["amodal.json"])
    size_bytes: int
    sha256: str
    media_type: str
    url: str = Field(examples=[f"/v1/jobs/{EXAMPLE_ID}/artifacts/amodal.json"])


class JobList(Wire):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next_before: JobId | None = Field(
        description="Give it as `before` for the next page; null on the last."
    )


class UploadState(Wire):
    """A resumable upload and how far it is."""

    id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    name: str = Field(description="`filename` of its metadata.", examples=["street.mp4"])
    size_bytes: int = Field(ge=0)
    offset: int = Field(ge=0, description="Bytes that are here.")
    expires_s: float = Field(description="Seconds since the epoch.")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a route's errors.

    Who is asked for a key (401) is counted (429), and so is what they send, to any route (413).
    """
    told = sorted({*statuses, *([413, 429] if 401 in statuses else [])})
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "A problem.", "content": content} for status in told}
