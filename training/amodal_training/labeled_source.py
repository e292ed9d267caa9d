"""Sequences with their amodal truth: for the supervised bound, a measuring stick, and nothing else.

What is drawn, shown and pasted is what `DatasetSource` would give for the same draws; the answers
are the only difference. `amodal train` never comes here (an import contract holds it to that).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amodal_model.errors import DatasetError
from amodal_model.youtube_vis import Tracklet, read_mask_file
from amodal_training.sequences import DatasetSource, MaskSequence


class LabeledSource:
    """Tracklets of a dataset's ``visible.json`` with the whole silhouettes of its ``amodal.json``.

    A tracklet that ``amodal.json`` lacks comes without answers.

    Args:
        dataset: folder with both files.
        is_selection: give what is held out for selection, instead of what is learned from.

    Raises:
        DatasetError: a file is missing or broken, the two do not fit, or no tracklet is long and
            large enough to learn from.
    """

    def __init__(self, dataset: Path, *, is_selection: bool = False) -> None:
        self._visible = DatasetSource(dataset / "visible.json", is_selection=is_selection)
        shown, truth = (read_mask_file(dataset / f"{name}.json") for name in ("visible", "amodal"))
        self._truth: dict[tuple[int, int], Tracklet] = {}
        for video in truth.videos:
            given = shown.video_named(video.file_name)
            if (video.length, video.frame_size) != (given.length, given.frame_size):
                raise DatasetError(
                    f"{dataset}: {video.file_name} has {video.length} frames of "
                    f"{video.frame_size} in amodal.json, {given.length} of {given.frame_size} in "
                    "visible.json"
                )
            for track in truth.tracklets_of(video.video_id):
                self._truth[given.video_id, track.track_id] = track

    def __len__(self) -> int:
        return len(self._visible)

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        """Return the sequence that `DatasetSource` would give, with its answers."""
        sequence, drawn = self._visible.sample_drawn(rng, frames)
        track = self._truth.get((drawn.video_id, drawn.track_id))
        if track is None:
            return sequence
        return sequence._replace(answers=[track.mask(index) for index in drawn.frames])
