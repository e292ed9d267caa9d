"""What a call annotates: clips, each with the entry and the visible masks that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import BoxedMask, Rle
from amodal_model.video import (
    DEFAULT_FPS,
    Clip,
    Frame,
    FrameCheck,
    image_files,
    no_check,
)
from amodal_model.video import open_clip as open_video
from amodal_model.visible_source import Prompt, VisibleMaskSource
from amodal_model.youtube_vis import MaskFile, Tracklet, VideoEntry, read_mask_file
from amodal_service.mcap_recording import SUFFIX, open_recording

Notify = Callable[[str], None]


class OpenClip(Protocol):
    """Opens a clip: `open_clip`, or one that decodes elsewhere."""

    def __call__(self, path: Path, *, folder_fps: float = DEFAULT_FPS) -> Clip:
        """Return the clip of a video file or a folder of frames."""


@dataclass(frozen=True)
class CheckedClip:
    """A clip that calls a check before it gives out a frame, and while its frames are counted.

    Attributes:
        clip: gives the frames.
        check: is told how many frames there are so far; what it raises ends the reading.
    """

    clip: Clip
    check: FrameCheck

    @property
    def path(self) -> Path:
        """The file or folder."""
        return self.clip.path

    @property
    def frame_size(self) -> tuple[int, int]:
        """``(height, width)`` of every frame, pixels."""
        return self.clip.frame_size

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return self.clip.fps

    def frames(self, first: int = 0) -> Iterator[Frame]:
        """Yield the frames from number ``first`` on, each after its check."""
        for frame in self.clip.frames(first):
            self.check(frame.index + 1)
            yield frame

    def count(self, check: FrameCheck = no_check) -> int:
        """Return the number of frames."""

        def check_both(count: int) -> None:
            self.check(count)
            check(count)

        return self.clip.count(check_both)


def open_clip(path: Path, *, folder_fps: float = DEFAULT_FPS, topic: str | None = None) -> Clip:
    """Return the clip of a video file, a folder of frames or an MCAP recording.

    Args:
        path: what to open.
        folder_fps: frames per second of a folder, which has no clock of its own.
        topic: of the images of a recording that has several.

    Raises:
        InputError: missing, unreadable, or too large.
    """
    if path.suffix.lower() == SUFFIX and path.is_file():
        return open_recording(path, topic)
    if topic is not None:
        raise InputError(f"{path}: is no MCAP recording, and has no topic {topic!r}")
    return open_video(path, folder_fps=folder_fps)


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds the visible masks of one clip that comes without a file of them.

    Attributes:
        source: does the finding; clips may share it, its state is the clip's own.
        prompts: what the client says about this clip, by frame.
        settings: all that its masks depend on besides the frames, as text.
    """

    source: VisibleMaskSource[Any]
    prompts: Mapping[int, Sequence[Prompt]]
    settings: str

    @cached_property
    def track_ids(self) -> tuple[int, ...]:
        """The track ids that the client named, ascending."""
        named = {prompt.track_id for prompts in self.prompts.values() for prompt in prompts}
        return tuple(sorted(track_id for track_id in named if track_id is not None))


MakeFinders = Callable[[Sequence[VideoEntry]], Sequence[Finder | None]]
"""Gives each video its finder; ``None`` for one that is to be left out."""


@dataclass(frozen=True, eq=False)
class ClipSource:
    """A clip and its visible masks.

    Attributes:
        name: the clip's folder name in the output of a dataset.
        clip: the frames.
        video: the clip's entry in the mask file.
        tracklets: its objects, by ascending track id; of a clip with a finder those known so
            far, without masks.
        finder: finds the visible masks where no file gives them.
        pictures: whether given masks are completed with the images, too, see `is_looked_at`.
    """

    name: str
    clip: Clip
    video: VideoEntry
    tracklets: tuple[Tracklet, ...]
    finder: Finder | None = None
    pictures: bool = False

    @property
    def is_looked_at(self) -> bool:
        """Whether the images tell what hides objects: by a finder, or where it is asked for."""
        return self.finder is not None or self.pictures

    def given(self, frame_index: int) -> dict[int, Rle]:
        """Return the visible masks of a frame as they were given, by track id."""
        self.check_length(frame_index + 1, at_least=True)
        found = {t.track_id: t.segmentations[frame_index] for t in self.tracklets}
        return {track_id: rle for track_id, rle in found.items() if rle is not None}

    def masks(self, frame_index: int) -> dict[int, BoxedMask]:
        """Return the visible masks of a frame by track id; objects without a pixel are left out.

        Raises:
            DatasetError: broken RLE (names track and frame), or a frame beyond the masks.
        """
        self.check_length(frame_index + 1, at_least=True)
        found = {t.track_id: t.mask(frame_index) for t in self.tracklets}
        return {track_id: mask for track_id, mask in found.items() if mask is not None}

    def check_length(self, count: int, *, at_least: bool = False) -> None:
        """Raise DatasetError where the clip has another number of frames than its masks."""
        if count > self.video.length or (not at_least and count < self.video.length):
            known = f"{count} frames" + (" or more" if at_least else "")
            raise DatasetError(
                f"{self.clip.path}: {known}, its visible masks have {self.video.length}"
            )

    def with_tracks(self, track_ids: Iterable[int]) -> ClipSource:
        """Return the clip with these objects besides those known, for a clip with a finder."""
        known = {track.track_id for track in self.tracklets}
        nothing = (None,) * self.video.length
        tracks = [
            Tracklet(track_id, self.video.video_id, nothing)
            for track_id in sorted(known.union(track_ids))
        ]
        return replace(self, tracklets=tuple(tracks))

    @cached_property
    def category_ids(self) -> dict[int, int]:
        """The category of every object, by track id."""
        return {track.track_id: track.category_id for track in self.tracklets}

    @cached_property
    def frame_names(self) -> tuple[str, ...]:
        """A file name for every frame: its own in a folder of frames, a number in a video."""
        if self.clip.path.is_dir():
            return tuple(path.name for path in image_files(self.clip.path))
        return tuple(f"{index:05d}.jpg" for index in range(self.video.length))


@dataclass(frozen=True, eq=False)
class Sources:
    """All clips of one call, the mask file they come with, and whether VIDEO was a dataset.

    Where a finder gives the masks, the mask file names the videos and holds nothing else.
    """

    clips: tuple[ClipSource, ...]
    masks: MaskFile
    is_dataset: bool


def find_sources(
    video: Path,
    visible: Path | None,
    notify: Notify,
    *,
    make_finders: MakeFinders | None = None,
    open_clip: OpenClip = open_clip,
    pictures: bool = False,
) -> Sources:
    """Return the clips of VIDEO (a file, a folder of frames, a dataset) with their masks.

    Args:
        video: what to annotate.
        visible: the file of visible masks; a dataset has its own.
        notify: told, in one line, what is left out or assumed.
        make_finders: gives each clip what finds its visible masks, in place of a file.
        open_clip: what decodes.
        pictures: whether given masks are completed with the images, too.

    Raises:
        InputError: missing, unreadable, or masks that do not belong to the clip.
    """
    is_dataset = (video / "videos").is_dir()
    if not video.exists():
        raise DatasetError(f"{video}: no such file or folder")
    if make_finders is not None:
        return _with_finders(
            _raw_clips(video, is_dataset, open_clip), make_finders, is_dataset, notify
        )
    visible = visible or (video / "visible.json" if is_dataset else None)
    if visible is None:
        raise InputError(
            f"{video}: no visible masks given; name their file with --visible, or use --prompts"
        )
    masks = read_mask_file(visible)
    if is_dataset:
        clips = _dataset_clips(video, masks, notify, open_clip)
    else:
        entry = _entry_of(video, masks, notify)
        clips = (_source(video.stem, video, entry, masks, open_clip),)
    if not clips:
        raise DatasetError(f"{visible}: its 'videos' list is empty")
    clips = tuple(replace(clip, pictures=pictures) for clip in clips)
    return Sources(clips, masks, is_dataset)


def _with_finders(
    clips: Sequence[ClipSource], make_finders: MakeFinders, is_dataset: bool, notify: Notify
) -> Sources:
    finders = make_finders([clip.video for clip in clips])
    found = [
        replace(clip, finder=finder).with_tracks(finder.track_ids)
        for clip, finder in zip(clips, finders, strict=True)
        if finder is not None
    ]
    left_out = [c.clip.path.name for c, f in zip(clips, finders, strict=True) if f is None]
    if left_out:
        notify(f"{len(left_out)} videos without prompts left out, first {left_out[0]!r}")
    return Sources(tuple(found), MaskFile(tuple(clip.video for clip in found), ()), is_dataset)


def _raw_clips(video: Path, is_dataset: bool, open_clip: OpenClip) -> list[ClipSource]:
    """Return the clips without masks; a dataset's have the ids of its visible.json, if any."""
    if not is_dataset:
        return [_raw_clip(video.stem, video, 1, open_clip)]
    folder = video / "videos"
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    ids = {name: number for number, name in enumerate(names, start=1)}
    if (video / "visible.json").exists():
        ids = {v.file_name: v.video_id for v in read_mask_file(video / "visible.json").videos}
    if not ids:
        raise DatasetError(f"{folder}: no videos")
    return [
        _raw_clip(name, folder / file_name, ids[file_name], open_clip)
        for name, file_name in zip(_folder_names(list(ids)), ids, strict=True)
    ]


def _raw_clip(name: str, path: Path, video_id: int, open_clip: OpenClip) -> ClipSource:
    clip = open_clip(path)
    height, width = clip.frame_size
    entry = VideoEntry(video_id, path.name, width, height, clip.count(), clip.fps)
    return ClipSource(name, clip, entry, ())


def _dataset_clips(
    dataset: Path, masks: MaskFile, notify: Notify, open_clip: OpenClip
) -> tuple[ClipSource, ...]:
    folder = dataset / "videos"
    known = {entry.file_name for entry in masks.videos}
    missing = sorted(name for name in known if not (folder / name).exists())
    if missing:
        raise DatasetError(f"{folder}: {len(missing)} videos are missing, first {missing[0]!r}")
    extra = sorted(p.name for p in folder.iterdir() if p.name[0] != "." and p.name not in known)
    if extra:
        notify(f"{folder}: {len(extra)} videos without visible masks left out, first {extra[0]!r}")
    names = _folder_names([entry.file_name for entry in masks.videos])
    return tuple(
        _source(name, folder / entry.file_name, entry, masks, open_clip)
        for name, entry in zip(names, masks.videos, strict=True)
    )


def _folder_names(file_names: list[str]) -> list[str]:
    """Return the names without their ending, whole where two would be the same."""
    stems = [Path(name).stem for name in file_names]
    return [
        stem if stems.count(stem) == 1 else name
        for stem, name in zip(stems, file_names, strict=True)
    ]


def _entry_of(video: Path, masks: MaskFile, notify: Notify) -> VideoEntry:
    """Return the entry of a clip by its file name, else by its stem, else the only entry."""
    names = {entry.file_name: entry for entry in masks.videos}
    stems = {Path(entry.file_name).stem: entry for entry in masks.videos}
    entry = names.get(video.name) or stems.get(video.stem)
    if entry is None and len(masks.videos) == 1:
        entry = masks.videos[0]
        notify(f"masks of {entry.file_name!r}, the only video of the mask file, used for {video}")
    return entry or masks.video_named(video.name)


def _source(
    name: str, path: Path, entry: VideoEntry, masks: MaskFile, open_clip: OpenClip
) -> ClipSource:
    clip = open_clip(path, folder_fps=entry.fps or DEFAULT_FPS)
    if clip.frame_size != entry.frame_size:
        height, width = clip.frame_size
        raise DatasetError(
            f"{path}: frames are {width}x{height}, its visible masks {entry.width}x{entry.height}"
        )
    return ClipSource(name, clip, entry, tuple(masks.tracklets_of(entry.video_id)))
