"""Where visible masks come from when no file gives them: ``--prompts`` and ``--masks``.

A source is named on the command line and made here; each clip gets it together with the prompts
that are meant for the clip. All is checked before any frame is worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from amodal_model.errors import InputError
from amodal_model.prompts import PromptEntry, prompts_of, read_prompt_file
from amodal_model.source_motion import MotionSource
from amodal_model.source_prompted import PromptedSource
from amodal_model.source_segmenter import open_segmenter
from amodal_model.visible_source import VisibleMaskSource
from amodal_model.youtube_vis import VideoEntry
from amodal_service.sources import Finder, MakeFinders


class Runtime(NamedTuple):
    """What the networks of our own sources run on.

    Attributes:
        provider: execution provider: ``auto``, ``cpu``, ``cuda``, ``tensorrt``.
        require_gpu: fail where a network ends up on the CPU.
    """

    provider: str = "auto"
    require_gpu: bool = False


ANY_RUNTIME = Runtime()


class MaskSource(NamedTuple):
    """A kind of source.

    Attributes:
        make: makes it; `ModelError` where its network does not run as it must.
        needs_prompts: whether it finds nothing in a clip without prompts.
        takes_prompts: whether it knows what to do with them.
    """

    make: Callable[[Runtime], VisibleMaskSource[Any]]
    needs_prompts: bool
    takes_prompts: bool = True


PROMPTED = "prompted"
SOURCES = {
    PROMPTED: MaskSource(
        lambda runtime: PromptedSource(provider=runtime.provider, require_gpu=runtime.require_gpu),
        needs_prompts=True,
    ),
    "motion": MaskSource(lambda runtime: MotionSource(), needs_prompts=False),
}
"""The sources by the name that ``--masks`` takes; ``--prompts`` alone means ``prompted``.

A name that ends in ``.toml`` is the settings of a segmenter that the user brings.
"""


def finders_for(
    prompts: Path | None, masks: str | None, runtime: Runtime = ANY_RUNTIME
) -> MakeFinders | None:
    """Return what gives each clip its finder; ``None`` where a file gives the visible masks.

    Args:
        prompts: the file of prompts.
        masks: name of the source, or the TOML file of a user's segmenter.
        runtime: of a source of ours; a user's has settings for it.

    Raises:
        InputError: an unknown source, settings that do not hold, or a file of prompts that cannot
            be read, is missing or not wanted.
        LimitError: a file of prompts that is too large.
        ModelError: a user's model that cannot be loaded, or a tensor of it that does not fit.
    """
    if prompts is None and masks is None:
        return None
    source = _source_named(masks or PROMPTED)
    if source.needs_prompts and prompts is None:
        raise InputError(f"--masks {masks} needs prompts; name their file with --prompts")
    if prompts is not None and not source.takes_prompts:
        raise InputError(f"--masks {masks} finds objects by itself and takes no prompts: {prompts}")
    entries = read_prompt_file(prompts) if prompts else ()
    name = masks or PROMPTED
    return partial(_make_finders, source, name, prompts, entries, runtime=runtime)


def _source_named(name: str) -> MaskSource:
    if name.endswith(".toml"):
        segmenter = open_segmenter(Path(name))
        needs = segmenter.needs_prompts
        return MaskSource(lambda runtime: segmenter, needs_prompts=needs, takes_prompts=needs)
    source = SOURCES.get(name)
    if source is None:
        raise InputError(f"--masks {name!r} is not one of {', '.join(SOURCES)}, or a .toml file")
    return source


def _make_finders(
    source: MaskSource,
    name: str,
    path: Path | None,
    entries: Sequence[PromptEntry],
    videos: Sequence[VideoEntry],
    *,
    runtime: Runtime,
) -> list[Finder | None]:
    """Return the finder of each video; ``None`` where it has no prompts but needs some."""
    entries = _with_video_ids(path, entries, videos)
    finds = source.make(runtime)
    finders: list[Finder | None] = []
    for video in videos:
        own = [entry for entry in entries if entry.video_id == video.video_id]
        try:
            prompts = prompts_of(own, video.frame_size, video.length)
        except InputError as error:
            raise type(error)(f"{path}: {video.file_name}: {error}") from None
        is_wanted = bool(prompts) or not source.needs_prompts
        settings = f"{name} {finds!r} {own!r}"
        finders.append(Finder(finds, prompts, settings) if is_wanted else None)
    return finders


def _with_video_ids(
    path: Path | None, entries: Sequence[PromptEntry], videos: Sequence[VideoEntry]
) -> list[PromptEntry]:
    """Return the prompts with the video of each; in a single clip they need not name it.

    Raises:
        InputError: a video that is not there, or none named where there are several.
    """
    known = {video.video_id for video in videos}
    named = {entry.video_id for entry in entries}
    if len(videos) == 1 and len(named) == 1:
        return [entry._replace(video_id=videos[0].video_id) for entry in entries]
    for entry in entries:
        if entry.video_id is None:
            raise InputError(f"{path}: {entry.name} needs a 'video_id', there are several videos")
        if entry.video_id not in known:
            raise InputError(
                f"{path}: {entry.name}: video_id {entry.video_id} is not among the "
                f"{len(videos)} videos"
            )
    return list(entries)
