"""The result files of a job, made by the writers of the command line from its finished chunks."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from amodal_service import job_transitions
from amodal_service.amodal_json import Segmented, write_amodal_json
from amodal_service.annotation import write_times
from amodal_service.database import Database
from amodal_service.foreign_formats import WRITERS, Export
from amodal_service.job_history import Artifact, Chunk
from amodal_service.jobs import Job
from amodal_service.journal import Checkpoint, Journal
from amodal_service.overlay import write_overlay
from amodal_service.palette_masks import check_labels
from amodal_service.progress import Advance, Reporter
from amodal_service.sources import Sources
from amodal_service.storage import Storage

OVERLAY = "overlay"
OUTPUTS = (OVERLAY, *WRITERS)
"""What a job may be asked for beyond ``amodal.json`` and ``frames.csv``, which it always gives."""

MEDIA_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
}
OTHER_MEDIA_TYPE = "application/octet-stream"
_BLOCK = 1 << 20


class StoppableReporter(Reporter):
    """Reports to nobody, and ends an execution that is to stop."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__()
        self._check = check

    def line(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def bar(self, label: str, total: int, *, done: int = 0) -> Iterator[Advance]:
        """Yield what checks at every frame."""
        yield lambda count: self._check()


def publish_results(  # noqa: PLR0913  (all that a job consists of)
    database: Database,
    storage: Storage,
    job: Job,
    sources: Sources,
    chunks: Sequence[Chunk],
    scratch: Path,
    check: Callable[[], None],
) -> None:
    """Write, store and name the result files of a job, which ends it.

    Raises:
        Superseded: the job is not this execution's any more.
    """
    journal = _gather(storage, chunks, scratch / "journal", check)
    folder = scratch / "finished"
    folder.mkdir()
    clip = Segmented(sources.clips[0], journal).with_found_tracks()
    _write(folder, clip, sources, job, StoppableReporter(check))
    artifacts = [_store(storage, job, path) for path in sorted(folder.iterdir())]
    check()
    with database.write() as connection:
        job_transitions.succeed(connection, job, artifacts)
    _clean_up(storage, job, {*(each.key for each in artifacts), *(each.key for each in chunks)})


def _gather(
    storage: Storage, chunks: Sequence[Chunk], folder: Path, check: Callable[[], None]
) -> Journal:
    """Return a journal of all finished frames."""
    folder.mkdir()
    with (folder / "frames.jsonl").open("wb") as out:
        for chunk in chunks:
            check()
            out.write(storage.get(chunk.key))
    frames = sum(chunk.frames for chunk in chunks)
    return Journal(folder, Checkpoint("", frames, is_finished=True), {})


def _write(folder: Path, clip: Segmented, sources: Sources, job: Job, reporter: Reporter) -> None:
    outputs = job.request.get("outputs", ())
    write_times(folder / "frames.csv", clip.journal)
    if OVERLAY in outputs:
        write_overlay(folder / "overlay.mp4", clip, reporter)
    export = Export([clip], list(sources.masks.categories))
    for name in outputs:
        if name in WRITERS:
            if name == "davis":
                check_labels(clip.source)
            target, write = WRITERS[name]
            write(folder / target, export)
            if (folder / target).is_dir():
                _zip_folder(folder / target, folder.parent / target)
    write_amodal_json(folder / "amodal.json", sources.masks, [clip], folder.parent / "tracks")


def _zip_folder(folder: Path, aside: Path) -> None:
    """Replace a folder by a zip file of it that says nothing of the time it was made."""
    folder.rename(aside)
    with zipfile.ZipFile(f"{folder}.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(path for path in aside.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(aside).as_posix())
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def _store(storage: Storage, job: Job, path: Path) -> Artifact:
    key = f"{job.prefix}/artifacts/{job.epoch}/{path.name}"
    storage.put(key, path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return Artifact(
        path.name,
        key,
        path.stat().st_size,
        digest.hexdigest(),
        MEDIA_TYPES.get(path.suffix, OTHER_MEDIA_TYPE),
    )


def _clean_up(storage: Storage, job: Job, kept: set[str]) -> None:
    """Remove what earlier executions of a finished job have left, and its states."""
    for found in list(storage.list(job.prefix)):
        if found.key not in kept and not found.key.startswith(f"{job.prefix}/input/"):
            storage.delete(found.key)
