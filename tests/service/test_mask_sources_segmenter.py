"""A user's segmenter by ``--masks my.toml``: from a clip to its file, or to one line."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from command_line import Run
from onnx_segmenters import write_generic, write_sam2_decoder, write_sam2_encoder, write_yolo

from amodal_model.masks import box_mask, decode_rle, mask_iou

SIZE = (96, 128)
LENGTH = 8


def ball(index: int, *, is_red: bool) -> np.ndarray:
    x, y = (24 + 6 * index, 30) if is_red else (100 - 5 * index, 66)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= 12**2)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A red and a blue ball on black, 128x96."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for index in range(LENGTH):
        image = np.zeros((*SIZE, 3), np.uint8)
        image[ball(index, is_red=True)] = (250, 200, 200)
        image[ball(index, is_red=False)] = (200, 200, 250)
        cv2.imwrite(str(folder / f"{index:03d}.png"), image[:, :, ::-1])
    return folder


def write(folder: Path, text: str) -> Path:
    path = folder / "my.toml"
    path.write_text(text)
    return path


def tracks(output: Path) -> dict[int, dict[str, Any]]:
    content = json.loads((output / "amodal.json").read_text())
    return {entry["id"]: entry for entry in content["annotations"]}


def agreement(entry: dict[str, Any], *, is_red: bool) -> float:
    """Return the least IoU of a tracklet's visible masks with the ball."""
    masks = [decode_rle(rle) for rle in entry["visible_segmentations"]]
    return min(mask_iou(m, box_mask(ball(i, is_red=is_red))) for i, m in enumerate(masks))


def test_prompted_objects_of_a_sam2_pair_become_tracklets(
    amodal: Run, clip: Path, tmp_path: Path
) -> None:
    write_sam2_encoder(tmp_path / "e.onnx", side=128)
    write_sam2_decoder(tmp_path / "d.onnx", side=128)
    settings = write(tmp_path, 'kind = "sam2"\nencoder = "e.onnx"\ndecoder = "d.onnx"\n')
    objects = [
        {"track_id": 5, "frame_index": 0, "bbox_xyxy": [11, 17, 37, 43]},
        {"track_id": 2, "frame_index": 0, "points": [[100, 66, 1]]},
    ]
    (tmp_path / "p.json").write_text(json.dumps({"objects": objects}))
    out = tmp_path / "out"
    ran = amodal(
        "annotate", clip, "--output", out, "--masks", settings, "--prompts", tmp_path / "p.json"
    )
    assert ran.code == 0, ran.err
    found = tracks(out)
    assert list(found) == [2, 5]
    assert agreement(found[5], is_red=True) > 0.75
    assert agreement(found[2], is_red=False) > 0.75


def test_objects_that_a_detector_finds_become_tracklets(
    amodal: Run, clip: Path, tmp_path: Path
) -> None:
    sides = ((1, 3, *SIZE), (2, *SIZE))
    write_generic(tmp_path / "m.onnx", sides=sides)
    text = 'kind = "generic"\nmodel = "m.onnx"\n[thresholds]\nmask = 0.9\n'
    out = tmp_path / "out"
    ran = amodal("annotate", clip, "--output", out, "--masks", write(tmp_path, text))
    assert ran.code == 0, ran.err
    found = sorted(tracks(out).values(), key=lambda entry: agreement(entry, is_red=True))
    assert len(found) == 2
    assert agreement(found[0], is_red=False) > 0.95
    assert agreement(found[1], is_red=True) > 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('kind = "yolo"\nmodel = "none.onnx"', "model is 'none.onnx', no such file"),
        ('kind = "yolo"\nmodel = "bad.onnx"', "bad.onnx: not an ONNX file, or cut short"),
        ('kind = "yolo"\nmodel = "a.onnx"\nclass = 1', "unknown key class; known: classes"),
        ('kind = "generic"\nmodel = "a.onnx"', "no input 'image'; its inputs are: images"),
        (
            'kind = "yolo"\nmodel = "a.onnx"\nrequire_gpu = true\nprovider = "cpu"',
            "a GPU is required, but CPUExecutionProvider runs",
        ),
        ('kind = "yolo"\nmodel = "a.onnx"', "'output0' is float32 (1, 5, 7), need (1, 7 or more"),
    ],
)
def test_what_does_not_hold_is_one_line_and_nothing_is_written(
    amodal: Run, clip: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model" * 20)
    write_yolo(tmp_path / "a.onnx", np.zeros((1, 5, 7)), np.zeros((1, 2, 4, 4)))
    out = tmp_path / "out"
    ran = amodal("annotate", clip, "--output", out, "--masks", write(tmp_path, text))
    assert ran.code == 2
    assert ran.err.startswith("amodal: ")
    assert ran.err.count("\n") == 1
    assert message in ran.err
    assert not out.exists()


def test_prompts_for_a_detector_and_none_for_a_prompted_one_are_refused(
    amodal: Run, clip: Path, tmp_path: Path
) -> None:
    write_generic(tmp_path / "m.onnx")
    (tmp_path / "p.json").write_text("{}")
    settings = write(tmp_path, 'kind = "generic"\nmodel = "m.onnx"\n')
    start = ("annotate", clip, "--output", tmp_path / "out", "--masks", settings)
    ran = amodal(*start, "--prompts", tmp_path / "p.json")
    assert "my.toml finds objects by itself and takes no prompts" in ran.err
    write_sam2_encoder(tmp_path / "e.onnx", side=128)
    write_sam2_decoder(tmp_path / "d.onnx", side=128)
    write(tmp_path, 'kind = "sam2"\nencoder = "e.onnx"\ndecoder = "d.onnx"\n')
    assert "my.toml needs prompts; name their file with --prompts" in amodal(*start).err
