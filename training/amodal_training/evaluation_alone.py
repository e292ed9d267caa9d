"""Objects followed one at a time: whoever names one object has no mask of what hides it.

What is measured stays as it was. Each object becomes a clip of its own, in which nothing else has
a mask; only the image tells what passes in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from amodal_training.evaluation_clip import ClipSet, EvaluationClip


@dataclass(frozen=True, eq=False)
class AloneSet:
    """The clips of a set, once for each evaluated object, with the masks of that object alone."""

    of: ClipSet

    @property
    def name(self) -> str:
        """The name of the set, and that objects are followed alone."""
        return f"{self.of.name}, each object alone"

    def __len__(self) -> int:
        return len(self.of)

    def clips(self) -> Iterator[EvaluationClip]:
        """Yield the clips."""
        for clip in self.of.clips():
            for track_id, amodal in clip.amodal.items():
                own = tuple(
                    {track_id: masks[track_id]} if track_id in masks else {}
                    for masks in clip.visible_frames
                )
                yield replace(
                    clip, visible_frames=own, amodal={track_id: amodal}, is_looked_at=True
                )
