"""The overlay video of an annotated clip."""

from __future__ import annotations

from pathlib import Path

from amodal_model.video_writer import VideoWriter
from amodal_service.amodal_json import Segmented
from amodal_service.progress import Reporter
from amodal_service.records import frame_result
from amodal_service.rendering import draw_overlay


def write_overlay(path: Path, clip: Segmented, reporter: Reporter) -> None:
    """Draw the finished frames of a clip over its pictures, at their true times."""
    clip_source = clip.source
    size, length = clip_source.video.frame_size, clip_source.video.length
    with (
        reporter.bar("drawing", length) as advance,
        VideoWriter(path, fps=clip_source.clip.fps) as writer,
    ):
        frames = zip(clip_source.clip.frames(), clip.journal.records(), strict=True)
        for frame, record in frames:
            writer.write(draw_overlay(frame.image, frame_result(record, size)), frame.pts_s)
            advance(1)
