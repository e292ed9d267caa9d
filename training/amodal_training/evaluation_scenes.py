"""Clips with pictures whose hidden parts are known without labels: scenes of `veil_scenes`.

What crosses a clip there has a mask, or none. A judge that sees pictures is chosen on such scenes
of videos that training leaves out, and what it says is believed as they tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amodal_training.evaluation_clip import EvaluationClip
from amodal_training.evaluation_drawn import drawn_clip
from amodal_training.follow_scenes import scene_files
from amodal_training.veil_scenes import VeilShares, pasted_of, read_veil_scene


@dataclass(frozen=True, eq=False)
class SceneSet:
    """Scenes as they are seen by who follows one of their things.

    Attributes:
        folder: of the scenes.
        files: the scenes.
        unseen_share: of all other things, those that have no mask.
        seed: of which thing is followed, and which others have no mask.
    """

    folder: Path
    files: Sequence[Path]
    unseen_share: float
    seed: int

    @property
    def name(self) -> str:
        """The name of the folder, and that things cross its clips."""
        return f"{self.folder.resolve().name}, crossed"

    def __len__(self) -> int:
        return len(self.files)

    def clips(self) -> Iterator[EvaluationClip]:
        """Yield the clips; a scene without a target is left out.

        Raises:
            DatasetError: a file that is no scene.
        """
        shares = VeilShares(self.unseen_share, self.unseen_share, noise=0)
        for number, path in enumerate(self.files):
            scene = read_veil_scene(path)
            pasted = pasted_of(scene, np.random.default_rng([self.seed, number]), shares)
            if pasted is not None:
                yield drawn_clip(scene.labels.shape[1:], pasted, (path.stem, path.stem))


def open_scene_set(folder: Path, unseen_share: float, seed: int) -> SceneSet:
    """Open a folder that `amodal follow-scenes --veils` wrote.

    Raises:
        DatasetError: there is no scene in it.
    """
    return SceneSet(folder, scene_files(folder), unseen_share, seed)
