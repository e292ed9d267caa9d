"""``amodal annotate``: clips in, whole silhouettes out.

The work goes into a hidden folder of the output: one journal a clip, then the result files. They
are moved to their names at the very end, so nothing half-written is ever seen, and a call that was
interrupted goes on from its journals when it is made again with the same inputs.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import amodal_model
from amodal_model.clip import Mode
from amodal_model.errors import InputError
from amodal_model.stream import AmodalSegmenter
from amodal_service.amodal_json import Segmented, write_amodal_json
from amodal_service.foreign_formats import WRITERS, Export
from amodal_service.journal import Journal, open_journal, was_made_from_something_else
from amodal_service.mask_sources import finders_for
from amodal_service.overlay import write_overlay
from amodal_service.palette_masks import check_labels
from amodal_service.progress import Reporter
from amodal_service.segmentation import results_fingerprint, segment
from amodal_service.sources import ClipSource, Sources, find_sources, open_clip

WORK_FOLDER = ".amodal-work"


@dataclass(frozen=True)
class AnnotateOptions:
    """What `annotate` is asked to do; formats.md describes each."""

    video: Path
    output: Path
    visible: Path | None = None
    prompts: Path | None = None
    masks: str | None = None
    mode: Mode = "causal"
    model: str = "shipped"
    overlay: bool = False
    formats: tuple[str, ...] = ()
    topic: str | None = None
    pictures: bool = False


def annotate(options: AnnotateOptions, reporter: Reporter) -> Path:
    """Annotate a clip or a dataset and return the path of its ``amodal.json``.

    Raises:
        InputError: anything wrong with the inputs; nothing is written then.
    """
    _check_formats(options.formats)
    if options.visible and (options.prompts or options.masks):
        raise InputError("visible masks come from --visible or from --prompts or --masks, not both")
    make_finders = finders_for(options.prompts, options.masks)
    sources = find_sources(
        options.video,
        options.visible,
        reporter.line,
        make_finders=make_finders,
        open_clip=partial(open_clip, topic=options.topic),
        pictures=options.pictures,
    )
    if options.output.resolve() == options.video.resolve():
        raise InputError(f"{options.output}: is the input; results would overwrite files of it")
    if "davis" in options.formats:
        for source in sources.clips:
            check_labels(source)
    segmenter = amodal_model.load(options.model)
    work = options.output / WORK_FOLDER
    try:
        _annotate(options, sources, segmenter, reporter)
    except BaseException:
        _discard_unstarted(work)
        raise
    shutil.rmtree(work)
    return options.output / "amodal.json"


def _annotate(
    options: AnnotateOptions, sources: Sources, segmenter: AmodalSegmenter, reporter: Reporter
) -> None:
    work = options.output / WORK_FOLDER
    clips = _open_journals(sources, options, segmenter, reporter)
    total = sum(clip.source.video.length for clip in clips)
    done = sum(clip.journal.checkpoint.frames for clip in clips)
    with reporter.bar("segmenting", total, done=done) as advance:
        for clip in clips:
            segment(clip.source, segmenter, clip.journal, options.mode, advance)
            _warn_of_overlaps(clip, reporter)
    clips = [clip.with_found_tracks() for clip in clips]
    _write_results(work / "finished", sources, clips, options, reporter)
    _publish(work / "finished", options.output)


def _discard_unstarted(work: Path) -> None:
    """Remove the working folder where no frame was finished, and the output made for it."""
    if any(work.rglob("checkpoint.npz")):
        return
    shutil.rmtree(work, ignore_errors=True)
    with suppress(OSError):  # not empty: it was there before
        work.parent.rmdir()


def _check_formats(formats: Sequence[str]) -> None:
    unknown = [name for name in formats if name not in WRITERS]
    if unknown:
        raise InputError(f"unknown format {unknown[0]!r}, there are {', '.join(WRITERS)}")


def _open_journals(
    sources: Sources, options: AnnotateOptions, segmenter: AmodalSegmenter, reporter: Reporter
) -> list[Segmented]:
    """Return every clip with its journal, and say where an earlier run cannot be gone on with."""
    work = options.output / WORK_FOLDER
    clips, stale = [], 0
    for number, source in enumerate(sources.clips):
        folder = work / f"{number:05d}"
        fingerprint = _fingerprint(source, options.mode, segmenter)
        stale += was_made_from_something_else(folder, fingerprint)
        causal = options.mode == "causal"
        journal = open_journal(folder, fingerprint, keep_unfinished=causal)
        clips.append(Segmented(source, journal))
    done = sum(clip.journal.checkpoint.frames for clip in clips)
    if stale or not done:
        shutil.rmtree(work / "finished", ignore_errors=True)
    if stale:
        reporter.line("the interrupted run had other inputs or options: starting afresh")
    elif done:
        reporter.line(f"resuming: {done} frames are done")
    return clips


def _fingerprint(source: ClipSource, mode: Mode, segmenter: AmodalSegmenter) -> str:
    """Return a digest of everything the results of a clip depend on."""
    path = source.clip.path
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return results_fingerprint(source, mode, segmenter, stats)


def _warn_of_overlaps(clip: Segmented, reporter: Reporter) -> None:
    checkpoint = clip.journal.checkpoint
    if checkpoint.overlap_frames:
        reporter.line(
            f"warning: {clip.source.video.file_name}: visible masks overlap in "
            f"{checkpoint.overlap_frames} of {checkpoint.frames} frames "
            f"({checkpoint.overlap_pixels} pixels in all)"
        )


def _write_results(
    finished: Path,
    sources: Sources,
    clips: list[Segmented],
    options: AnnotateOptions,
    reporter: Reporter,
) -> None:
    finished.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        folder = finished / clip.source.name if sources.is_dataset else finished
        folder.mkdir(exist_ok=True)
        write_times(folder / "frames.csv", clip.journal)
        if options.overlay and not (folder / "overlay.mp4").exists():
            write_overlay(folder / "overlay.mp4", clip, reporter)
    export = Export(clips, list(sources.masks.categories))
    for name in options.formats:
        target, write = WRITERS[name]
        shutil.rmtree(finished / target, ignore_errors=True)
        write(finished / target, export)
    write_amodal_json(finished / "amodal.json", sources.masks, clips, finished.parent / "tracks")


def write_times(path: Path, journal: Journal) -> None:
    """Write ``frames.csv``: the number and the time of every frame."""
    with path.open("w", newline="", encoding="ascii") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("frame_index", "pts_s"))
        rows.writerows((r["frame_index"], r["pts_s"]) for r in journal.records())


def _publish(finished: Path, output: Path) -> None:
    """Move the result files to their names; ``amodal.json``, the sign that all is there, last."""
    if (finished / "davis").exists():
        shutil.rmtree(output / "davis", ignore_errors=True)
        (finished / "davis").replace(output / "davis")
    files = [path for path in finished.rglob("*") if path.is_file()]
    for path in sorted(files, key=lambda path: path.name == "amodal.json"):
        target = output / path.relative_to(finished)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
