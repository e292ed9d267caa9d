"""Real or rendered things cut out along their visible masks, to be laid into other scenes.

Wherever such a cut-out is laid, its mask is exact there, however rough it was where it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from amodal_model.masks import BoxedMask
from amodal_model.video import open_clip
from amodal_model.youtube_vis import MaskFile, VideoEntry, read_mask_file
from amodal_training.scene_footage import recoloured
from amodal_training.scene_layers import Layer, premultiplied
from amodal_training.silhouette_motion import PoseTrack

CUTOUT_SIDE = 144
"""Longest side of a cut-out, pixels; larger ones are shrunk."""
_LEAST_SIDE = 24
_LONGEST = 48


class Cutout(NamedTuple):
    """A tracklet laid along another path.

    Attributes:
        frames: what is seen of it.
        pose: where it is; the tracklet's own motion is not kept.
        mirrored: left for right.
    """

    frames: tuple[Layer, ...]
    pose: PoseTrack
    mirrored: bool

    def draw(self, index: int, frame_size: tuple[int, int]) -> Layer:
        """Return the frame's premultiplied RGB and opacity."""
        turn = index % max(2 * len(self.frames) - 2, 1)
        piece = self.frames[min(turn, 2 * len(self.frames) - 2 - turn)]
        height, width = piece.shape[:2]
        scale = float(self.pose.size[index]) / max(f.shape[0] for f in self.frames)
        angle = float(np.degrees(0.3 * np.tanh(self.pose.roll[index])))
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
        if self.mirrored:
            matrix = np.vstack([matrix, [0, 0, 1]]) @ [[-1, 0, width], [0, 1, 0], [0, 0, 1]]
            matrix = matrix[:2]
        place = (self.pose.centre_x[index], self.pose.centre_y[index])
        matrix[:, 2] += np.array(place) - (width / 2, height / 2)
        return np.asarray(cv2.warpAffine(piece, matrix, frame_size[::-1]), np.uint8)


def sample_cutout(
    cutouts: Sequence[tuple[Layer, ...]], rng: np.random.Generator, pose: PoseTrack
) -> Cutout:
    """Return one of some cut-outs, in other colours now and then."""
    frames = cutouts[int(rng.integers(len(cutouts)))]
    if rng.random() < 0.5:
        seed = int(rng.integers(2**31))
        frames = tuple(_recoloured(frame, np.random.default_rng(seed)) for frame in frames)
    return Cutout(frames, pose, bool(rng.random() < 0.5))


def _recoloured(frame: Layer, rng: np.random.Generator) -> Layer:
    """Return a cut-out in other colours, the same for every frame of one seed."""
    return premultiplied(recoloured(np.ascontiguousarray(frame[..., :3]), rng), frame[..., 3])


def read_cutouts(dataset: Path, *, held_out: bool = False) -> tuple[tuple[Layer, ...], ...]:
    """Return the cut-outs of the tracklets of a dataset with visible masks.

    Args:
        dataset: its folder.
        held_out: of every tenth clip, which are otherwise left out.
    """
    masks = read_mask_file(dataset / "visible.json")
    videos = chosen_videos(masks, held_out=held_out)
    return tuple(each for video in videos for each in _of_video(dataset, masks, video))


def chosen_videos(masks: MaskFile, *, held_out: bool) -> list[VideoEntry]:
    """Return every tenth clip of a dataset, or those that training may see."""
    return [v for i, v in enumerate(masks.videos) if (i % 10 == 9) == held_out]


def _of_video(dataset: Path, masks: MaskFile, video: VideoEntry) -> list[tuple[Layer, ...]]:
    tracks = masks.tracklets_of(video.video_id)
    pieces: dict[int, list[Layer]] = {each.track_id: [] for each in tracks}
    for frame in open_clip(dataset / "videos" / video.file_name).frames():
        for each in tracks:
            mask = each.mask(frame.index)
            if mask is not None and len(pieces[each.track_id]) < _LONGEST:
                piece = _cut(frame.image, mask)
                if piece is not None:
                    pieces[each.track_id].append(piece)
    return [tuple(each) for each in pieces.values() if len(each) >= 8]


def _cut(image: np.ndarray, mask: BoxedMask) -> Layer | None:
    x0, y0, x1, y1 = mask.bbox_xyxy
    height, width = mask.frame_size
    if min(x1 - x0, y1 - y0) < _LEAST_SIDE or x0 <= 0 or y0 <= 0 or x1 >= width or y1 >= height:
        return None
    alpha = cv2.erode(mask.pixels.astype(np.uint8) * 255, np.ones((3, 3), np.uint8))
    piece = premultiplied(np.ascontiguousarray(image[y0:y1, x0:x1]), alpha)
    shrink = CUTOUT_SIDE / max(piece.shape[:2])
    if shrink >= 1:
        return piece
    return np.asarray(cv2.resize(piece, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA))
