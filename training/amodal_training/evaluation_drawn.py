"""Clips whose hidden parts are known without labels: occlusions drawn over visible masks.

What a dataset shows is taken for the truth, and occluders are drawn over it, as `amodal train`
does. Thresholds are decided on such clips and on nothing else; who has no amodal labels learns
from them what a model is worth on his own video. They are easier than reality: an object is asked
for as it showed, so that what real occluders hid of it is not. Where it is moved while nothing
shows, it is asked for only once it shows again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amodal_model.errors import DatasetError, InputError
from amodal_model.masks import box_mask, subtract
from amodal_model.youtube_vis import VideoEntry
from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.occluders import PasteConfig, PastedSequence, paste_occluders
from amodal_training.sequences import DatasetSource

TARGET, OTHERS = 1, 2
"""Track ids: of the target, and of everything else that shows, as one mask."""
MAX_SEQUENCES = 10_000
FRAMES = range(2, 1001)


class DrawnConfig(NamedTuple):
    """What is drawn.

    Attributes:
        sequences: how many, 1 to 10000.
        frames: length of each, 2 to 1000.
        seed: 0 or more; the same seed gives the same masks.
        full_share: share of the occluders in front that hide the target entirely for some frames.
        carried_share: share of the targets hidden entirely that come out elsewhere, turned or of
            another size.
    """

    sequences: int = 72
    frames: int = 36
    seed: int = 0
    full_share: float = PasteConfig().full_share
    carried_share: float = PasteConfig().carried_share
    unseen_share: float = 0.0


@dataclass(frozen=True, eq=False)
class DrawnSet:
    """Sequences of a dataset's tracklets with occlusions drawn over them.

    Attributes:
        folder: the dataset.
        source: its tracklets.
        config: what is drawn.
    """

    folder: Path
    source: DatasetSource
    config: DrawnConfig

    @property
    def name(self) -> str:
        """The name of the folder, and that its occlusions are drawn."""
        return f"{self.folder.resolve().name}, drawn occlusions"

    def __len__(self) -> int:
        return self.config.sequences

    def clips(self) -> Iterator[EvaluationClip]:
        """Yield the clips; they have masks, and no frames."""
        config = self.config
        paste = PasteConfig(
            full_share=config.full_share,
            carried_share=config.carried_share,
            unseen_share=config.unseen_share,
            noise_share=0,
        )
        for index in range(self.config.sequences):
            rng = np.random.default_rng([self.config.seed, index])
            sequence, drawn = self.source.sample_drawn(rng, self.config.frames)
            pasted = paste_occluders(rng, sequence, self.source, paste)
            yield drawn_clip(
                sequence.frame_size, pasted, (f"drawn-{index}", f"video-{drawn.video_id}")
            )


def open_drawn_set(folder: Path, config: DrawnConfig) -> DrawnSet:
    """Open a dataset folder to draw occlusions over what it shows.

    Args:
        folder: holds ``visible.json``; nothing else is read.
        config: what to draw.

    Raises:
        DatasetError: no such file, or no tracklet in it is long and large enough.
        InputError: a number out of range.
    """
    if not 1 <= config.sequences <= MAX_SEQUENCES or config.frames not in FRAMES:
        raise InputError(
            f"{config.sequences} sequences, limit 1 to {MAX_SEQUENCES}; {config.frames} frames, "
            f"limit {FRAMES.start} to {FRAMES.stop - 1}"
        )
    shares = config.full_share, config.carried_share, config.unseen_share
    if config.seed < 0 or not all(0 <= share <= 1 for share in shares):
        raise InputError(
            f"seed {config.seed}, limit 0 or more; full share {shares[0]}, carried share "
            f"{shares[1]}, unseen share {shares[2]}, limit 0 to 1"
        )
    visible = folder / "visible.json"
    if not visible.is_file():
        raise DatasetError(f"{folder}: no visible.json to draw occlusions over")
    return DrawnSet(folder, DatasetSource(visible, is_selection=None), config)


def drawn_clip(
    frame_size: tuple[int, int], pasted: PastedSequence, names: tuple[str, str]
) -> EvaluationClip:
    """Return a pasted sequence as a clip: the target, and all that covers it as one other object.

    Args:
        frame_size: ``(height, width)``, pixels.
        pasted: the sequence.
        names: of the clip and of its source.
    """
    (height, width), length = frame_size, len(pasted.own)
    (name, source) = names
    unknown = tuple(box_mask(mask.astype(bool)) for mask in pasted.unknown)
    frames = []
    for own, coverage in zip(pasted.own, pasted.coverage, strict=True):
        others = subtract(box_mask(coverage > 0), own)
        frames.append({key: mask for key, mask in ((TARGET, own), (OTHERS, others)) if mask.area})
    answers = [subtract(mask, hole) for mask, hole in zip(pasted.answer, unknown, strict=True)]
    is_carried = pasted.is_carried or [False] * length
    asked = [
        None if carried or not mask.area else mask
        for mask, carried in zip(answers, is_carried, strict=True)
    ]
    return EvaluationClip(
        VideoEntry(0, name, width, height, length, 12.0, {"source": source}),
        Path(name),
        tuple(frames),
        {TARGET: tuple(asked)},
        unknown,
        len(pasted.images) > 0,
        pasted.images or None,
    )
