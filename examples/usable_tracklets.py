"""Usable share of mined tracklet frames, against outlines drawn by hand.

    python examples/usable_tracklets.py docs/annotations/mined-tracklets.json
    python examples/usable_tracklets.py --draw DATASET --seed 7     # frames to outline next

A frame is usable where its tracklet covers one object, and their IoU is 0.5 or more.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from amodal_model.masks import box_mask, decode_rle, mask_iou
from amodal_model.youtube_vis import read_mask_file

USABLE_IOU = 0.5
FRAMES_A_VIDEO = 15


def overlap(entry: dict[str, Any]) -> float:
    """Return the IoU of a mined mask with its outline, 0 where it covers no one object."""
    if entry["outline"] is None:
        return 0.0
    mined = decode_rle(entry["mined"])
    drawn = np.zeros(mined.frame_size, np.uint8)
    corners = np.round(np.array(entry["outline"]) * 16).astype(np.int32)
    cv2.fillPoly(drawn, [corners], (1,), shift=4)
    return mask_iou(mined, box_mask(drawn > 0))


def report(path: Path) -> str:
    """Return the usable share of an annotation file, whole and by video."""
    frames = json.loads(path.read_text(encoding="utf-8"))["frames"]
    usable = {video: [] for video in sorted({frame["video"] for frame in frames})}
    for frame in frames:
        usable[frame["video"]].append(overlap(frame) >= USABLE_IOU)
    lines = [f"{video}: {sum(own)} of {len(own)}" for video, own in usable.items()]
    total = sum(sum(own) for own in usable.values())
    return "\n".join([*lines, f"usable: {total} of {len(frames)} = {total / len(frames):.2f}"])


def draw(dataset: Path, seed: int) -> list[dict[str, Any]]:
    """Return tracklet frames of a mined dataset, the same number of each video."""
    masks = read_mask_file(dataset / "visible.json")
    drawn = []
    for number, video in enumerate(sorted(masks.videos, key=lambda video: video.file_name)):
        pool = [
            (track, index)
            for track in masks.tracklets_of(video.video_id)
            for index, rle in enumerate(track.segmentations)
            if rle is not None
        ]
        rng = np.random.default_rng([seed, number])
        count = min(FRAMES_A_VIDEO, len(pool))
        for pick in sorted(rng.choice(len(pool), count, replace=False).tolist()):
            track, index = pool[pick]
            place = {"video": video.file_name, "track_id": track.track_id, "frame_index": index}
            drawn.append({**place, "outline": None, "mined": track.segmentations[index]})
    return drawn


def main() -> None:
    """Print the usable share, or the frames drawn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path, help="the annotations, or with --draw the dataset")
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.draw:
        print(json.dumps(draw(given.path, given.seed)))
    else:
        print(report(given.path))


if __name__ == "__main__":
    main()
