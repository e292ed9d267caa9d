"""``amodal annotate --prompts`` on a bundled clip: two boxes in, two objects followed."""

import json
from pathlib import Path

import numpy as np
from command_line import Run

from amodal_model.masks import decode_rle, empty_mask, mask_iou
from amodal_model.youtube_vis import read_mask_file

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop"
TRACKS = (6, 7)


def test_boxes_in_the_first_frame_of_the_demo_follow_their_objects(
    tmp_path: Path, amodal: Run
) -> None:
    masks = read_mask_file(DEMO / "visible.json")
    video = masks.videos[0]
    true = {t.track_id: t for t in masks.tracklets_of(video.video_id) if t.track_id in TRACKS}
    boxes = {track_id: t.mask(0) or empty_mask(video.frame_size) for track_id, t in true.items()}
    prompts = [
        {"track_id": track_id, "frame_index": 0, "bbox_xyxy": list(mask.bbox_xyxy)}
        for track_id, mask in boxes.items()
    ]
    (tmp_path / "p.json").write_text(json.dumps({"objects": prompts}))
    clip = DEMO / "videos" / video.file_name
    ran = amodal("annotate", clip, "--prompts", tmp_path / "p.json", "-o", tmp_path / "out")
    assert ran == (0, f"{tmp_path / 'out' / 'amodal.json'}\n", "")
    content = json.loads((tmp_path / "out" / "amodal.json").read_text())
    assert [each["id"] for each in content["annotations"]] == list(TRACKS)
    for each in content["annotations"]:
        found = [
            decode_rle(rle) if rle else empty_mask(video.frame_size)
            for rle in each["visible_segmentations"]
        ]
        tracklet = true[each["id"]]
        ious = [
            mask_iou(mask, tracklet.mask(index) or empty_mask(video.frame_size))
            for index, mask in enumerate(found)
        ]
        assert len(ious) == video.length
        assert np.mean(ious) > 0.6
