"""A YOLO made of constants gives the masks that its boxes, coefficients and prototypes say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_segmenters import write_yolo

from amodal_model.errors import ModelError
from amodal_model.segmenter_settings import TENSOR_NAMES, SegmenterSettings, Thresholds
from amodal_model.segmenter_yolo import Candidates, YoloSegmenter, keep_apart

IMAGE = np.zeros((48, 96, 3), np.uint8)
"""In the 64x64 input: scaled by 2/3, 16 rows of padding above and below."""


def prototypes() -> np.ndarray:
    """Return the logits of the left and of the right half of the input, at a quarter size."""
    halves = np.full((1, 2, 16, 16), -8.0)
    halves[0, 0, :, :8] = 8
    halves[0, 1, :, 8:] = 8
    return halves


def anchors() -> np.ndarray:
    """Return (1, 4 + 2 + 2, 5): two objects, one of them twice, one weak, one not finite."""
    columns = np.array(
        [  # centre x, centre y, width, height, scores of two classes, coefficients
            [20, 32, 20, 16, 0.9, 0.1, 1, 0],
            [20.5, 32, 20, 16, 0.8, 0.1, 1, 0],
            [44, 32, 16, 24, 0.2, 0.7, 0, 1],
            [30, 30, 10, 10, 0.1, 0.1, 1, 1],
            [np.nan, 30, 10, 10, 0.99, 0.1, 1, 1],
        ]
    )
    return columns.T[None]


def finals() -> np.ndarray:
    """Return (1, 3, 6 + 2): the same two objects as final boxes, and a row of padding."""
    return np.array(
        [
            [
                [10, 24, 30, 40, 0.9, 0, 1, 0],
                [36, 20, 52, 44, 0.7, 1, 0, 1],
                [0, 0, 0, 0, 0, 0, 0, 0],
            ]
        ],
        float,
    )


# Of the first box, x 10 to 30 and y 24 to 40 of the input: the left half ends at 32, so all of it.
LEFT = (15, 12, 45, 36)
# Of the second, x 36 to 52 and y 20 to 44, all in the right half.
RIGHT = (54, 6, 78, 42)


def opened(path: Path, **changed: Any) -> YoloSegmenter:
    return YoloSegmenter(
        SegmenterSettings(
            "yolo",
            path,
            {"model": path},
            fit="letterbox",
            tensors=TENSOR_NAMES["yolo"],
            **changed,
        )
    )


def boxes(segmenter: YoloSegmenter) -> list[tuple[int, int, int, int]]:
    return [one.mask.bbox_xyxy for one in segmenter.find(IMAGE)]


@pytest.mark.parametrize("rows", [anchors(), finals()])
def test_known_masks_come_out_of_both_layouts(tmp_path: Path, rows: np.ndarray) -> None:
    found = opened(write_yolo(tmp_path / "a.onnx", rows, prototypes())).find(IMAGE)
    assert [one.mask.bbox_xyxy for one in found] == [LEFT, RIGHT]
    assert [one.mask.area for one in found] == [30 * 24, 24 * 36]
    assert [one.score for one in found] == pytest.approx([0.9, 0.7])


def test_mask_is_what_the_prototypes_say_inside_the_box(tmp_path: Path) -> None:
    rows = finals()
    rows[0, 0, :4] = [10, 24, 60, 40]
    found = opened(write_yolo(tmp_path / "a.onnx", rows, prototypes())).find(IMAGE)
    # the left half of the input ends in the middle of the frame
    assert found[0].mask.bbox_xyxy == (15, 12, 48, 36)


def test_box_beyond_the_frame_is_cut(tmp_path: Path) -> None:
    rows = finals()
    rows[0, 0, :4] = [-1e9, -50, 30, 1e12]
    assert boxes(opened(write_yolo(tmp_path / "a.onnx", rows, prototypes())))[0] == (0, 0, 45, 48)


def test_dynamic_axes_are_read_when_they_come_out(tmp_path: Path) -> None:
    path = write_yolo(
        tmp_path / "a.onnx",
        anchors(),
        prototypes(),
        sides=("batch", 3, "height", "width"),
        output_sides=(("batch", "c", "anchors"), ("batch", "k", "h", "w")),
    )
    assert boxes(opened(path, input_size=(64, 64))) == [LEFT, RIGHT]


def test_wanted_classes_and_scores_are_kept(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "a.onnx", anchors(), prototypes())
    assert boxes(opened(path, classes=(1,))) == [RIGHT]
    assert boxes(opened(path, thresholds=Thresholds(score=0.75))) == [LEFT]
    assert boxes(opened(path, max_objects=1)) == [LEFT]


def test_boxes_that_overlap_are_one_object_within_a_class_only() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [30, 0, 40, 10]], np.float32)
    scores, classes = np.array([4, 3, 2, 1], np.float32), np.array([0, 0, 1, 0])
    found = Candidates(boxes, scores, classes, np.zeros((4, 1), np.float32))
    assert keep_apart(found, 0.7) == [0, 2, 3]
    assert keep_apart(found, 0.9) == [0, 1, 2, 3]
    empty = found._replace(boxes=np.zeros((4, 4), np.float32))
    assert keep_apart(empty, 0.7) == []


def test_weights_of_another_number_of_prototypes_are_named(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "a.onnx", np.zeros((1, 5, 7)), prototypes())
    message = r"'output0' is float32 \(1, 5, 7\), need \(1, 7 or more"
    with pytest.raises(ModelError, match=message):
        opened(path)
    stated = ((1, "c", "a"), (1, 2, 16, 16))
    path = write_yolo(path, np.zeros((1, 5, 7)), prototypes(), output_sides=stated)
    with pytest.raises(ModelError, match=message):
        opened(path).find(IMAGE)


def test_detector_without_masks_is_refused_at_once(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "a.onnx", anchors(), np.zeros((1, 2, 16)))
    with pytest.raises(ModelError, match=r"'output1' is float32 \(1, 2, 16\), need .*1, K, h, w"):
        opened(path)


def test_image_of_another_shape_is_refused_at_once(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "a.onnx", anchors(), prototypes(), sides=(8, 3, 64, 64))
    with pytest.raises(ModelError, match=r"'images' is float32 \(8, 3, 64, 64\), need .*1, 3, H"):
        opened(path)
