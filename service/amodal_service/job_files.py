"""The files a job is made from: where they are stored, and under which name they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from amodal_model.errors import AmodalError
from amodal_service.jobs import Job
from amodal_service.mask_choice import MaskChoice, mask_file
from amodal_service.storage import Storage

DEFAULT_NAME = "clip.mp4"
MAX_NAME = 128


class InputFiles(NamedTuple):
    """The local files of a job: the clip under its own name, and one or none of the other two."""

    video: Path
    visible: Path | None
    prompts: Path | None


def video_key(job_id: str) -> str:
    """Return where a job's clip is stored."""
    return f"jobs/{job_id}/input/video"


def visible_key(job_id: str) -> str:
    """Return where a job's visible masks are stored."""
    return f"jobs/{job_id}/input/visible.json"


def clean_name(given: str | None) -> str:
    """Return a file name fit for a folder: the last part of what a client gave, no odd letters.

    The name says which entry of the mask file belongs to the clip; it never says where it is
    stored.
    """
    last = PurePosixPath((given or "").replace("\\", "/")).name[-MAX_NAME:]
    name = re.sub(r"[^\w .()+-]", "_", last).strip()
    return name if name.strip(".") else DEFAULT_NAME


def prompts_key(job_id: str) -> str:
    """Return where a job's prompts are stored."""
    return f"jobs/{job_id}/input/prompts.json"


def masks_of(job: Job) -> MaskChoice:
    """Return where a job's visible masks come from."""
    masks: MaskChoice = job.request.get("masks", "given")
    return masks


@contextmanager
def stage_inputs(storage: Storage, job: Job, scratch: Path) -> Iterator[InputFiles]:
    """Yield local files with a job's clip, and with its masks or prompts where it has such.

    Args:
        storage: where they are stored.
        job: its request names the clip, and where its masks come from.
        scratch: a folder to link them in.

    Raises:
        MissingItemError: a file is not there.
    """
    with ExitStack() as stack:
        name = clean_name(job.request.get("video_name"))
        suffix = Path(name).suffix
        stored = stack.enter_context(storage.local_file(video_key(job.id), suffix=suffix))
        folder = scratch / "input"
        folder.mkdir()
        (folder / name).symlink_to(stored)  # so that no message names the storage
        linked: dict[str, Path] = {}
        for part, key in (("visible", visible_key(job.id)), ("prompts", prompts_key(job.id))):
            if part == mask_file(masks_of(job)):
                linked[part] = scratch / f"{part}.json"
                linked[part].symlink_to(stack.enter_context(storage.local_file(key)))
        yield InputFiles(folder / name, linked.get("visible"), linked.get("prompts"))


@contextmanager
def hiding_folder(folder: Path) -> Iterator[None]:
    """Take the paths of a scratch folder out of the errors of the block."""
    try:
        yield
    except AmodalError as error:
        message = str(error).replace(f"{folder}/input/", "").replace(f"{folder}/", "")
        raise type(error)(message) from error
