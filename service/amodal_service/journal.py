"""Finished frames on disk, so that a run can stop at any moment and go on later.

A journal is a folder: ``frames.jsonl`` grows by one record a frame, ``checkpoint.npz`` says how
much of it counts and holds the segmenter's state after it. Both are written once a chunk, the
checkpoint last and in one rename: whatever a crash leaves beyond it is cut off on resuming.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from amodal_service.records import Record, compact_json

CHUNK_FRAMES = 64

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """How far a clip is.

    Attributes:
        fingerprint: of everything the results depend on.
        frames: finished frames.
        size_bytes: their length in ``frames.jsonl``.
        is_finished: whether that is the whole clip.
        overlap_frames: frames so far in which visible masks overlap.
        overlap_pixels: pixels in more than one visible mask, over all frames so far.
    """

    fingerprint: str
    frames: int = 0
    size_bytes: int = 0
    is_finished: bool = False
    overlap_frames: int = 0
    overlap_pixels: int = 0


class Journal:
    """The finished frames of one clip; `open_journal` makes it.

    Attributes:
        checkpoint: how far the clip is.
        arrays: the segmenter's state after the saved frames; empty before the first.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint, arrays: Arrays) -> None:
        self._folder = folder
        self._pending: list[str] = []
        self.checkpoint = checkpoint
        self.arrays = arrays

    def append(self, record: Record, *, overlap_pixels: int = 0) -> None:
        """Add a frame; it counts from the next `save` on."""
        self._pending.append(compact_json(record) + "\n")
        now = self.checkpoint
        self.checkpoint = replace(
            now,
            frames=now.frames + 1,
            overlap_frames=now.overlap_frames + (overlap_pixels > 0),
            overlap_pixels=now.overlap_pixels + overlap_pixels,
        )

    @property
    def is_full(self) -> bool:
        """Whether a chunk is waiting to be saved."""
        return len(self._pending) >= CHUNK_FRAMES

    def save(self, arrays: Arrays, *, is_finished: bool = False) -> None:
        """Write the waiting frames and the state after them."""
        with (self._folder / "frames.jsonl").open("a", encoding="ascii") as out:
            out.writelines(self._pending)
            out.flush()
            os.fsync(out.fileno())
            size_bytes = out.tell()
        self._pending.clear()
        self.arrays = arrays
        self.checkpoint = replace(self.checkpoint, size_bytes=size_bytes, is_finished=is_finished)
        _write_checkpoint(self._folder / "checkpoint.npz", self.checkpoint, arrays)

    def records(self) -> Iterator[Record]:
        """Yield the records of the saved frames, in order."""
        with (self._folder / "frames.jsonl").open(encoding="ascii") as lines:
            for line in lines:
                yield json.loads(line)


def open_journal(folder: Path, fingerprint: str, *, keep_unfinished: bool = True) -> Journal:
    """Return the journal of a folder, empty where what is there was made from something else.

    Args:
        folder: where it lives; made when missing, wiped when it cannot be gone on with.
        fingerprint: of everything the results depend on.
        keep_unfinished: whether a clip can be gone on with from the middle.
    """
    found = _read_checkpoint(folder / "checkpoint.npz")
    if found is not None:
        checkpoint, arrays = found
        usable = checkpoint.is_finished or keep_unfinished
        if checkpoint.fingerprint == fingerprint and usable and _cut(folder, checkpoint.size_bytes):
            return Journal(folder, checkpoint, arrays)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "frames.jsonl").touch()
    return Journal(folder, Checkpoint(fingerprint), {})


def was_made_from_something_else(folder: Path, fingerprint: str) -> bool:
    """Return whether a journal is there whose fingerprint is another."""
    found = _read_checkpoint(folder / "checkpoint.npz")
    return found is not None and found[0].fingerprint != fingerprint


def _cut(folder: Path, size_bytes: int) -> bool:
    """Cut off what was written after the checkpoint; false where less than that is there."""
    path = folder / "frames.jsonl"
    if not path.is_file() or path.stat().st_size < size_bytes:
        return False
    os.truncate(path, size_bytes)
    return True


def _write_checkpoint(path: Path, checkpoint: Checkpoint, arrays: Arrays) -> None:
    partial = path.with_name("checkpoint.partial.npz")
    with partial.open("wb") as out:
        write_checkpoint(out, checkpoint, arrays)
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def _read_checkpoint(path: Path) -> tuple[Checkpoint, Arrays] | None:
    try:
        with path.open("rb") as file:
            return read_checkpoint(file)
    except OSError:
        return None  # none yet: the clip starts afresh


def write_checkpoint(out: BinaryIO, checkpoint: Checkpoint, arrays: Arrays) -> None:
    """Write a checkpoint and the segmenter's state after it."""
    content: dict[str, Any] = {f"state/{name}": array for name, array in arrays.items()}
    content["checkpoint"] = np.array(json.dumps(asdict(checkpoint)))
    np.savez(out, **content)


def read_checkpoint(file: BinaryIO) -> tuple[Checkpoint, Arrays] | None:
    """Return what `write_checkpoint` wrote; ``None`` where another version wrote it."""
    try:
        with np.load(file, allow_pickle=False) as content:
            checkpoint = Checkpoint(**json.loads(str(content["checkpoint"])))
            names = [name for name in content.files if name.startswith("state/")]
            return checkpoint, {name.removeprefix("state/"): content[name] for name in names}
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
