"""A generic segmenter finds the red and the blue object of an image, whatever its tensors are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_segmenters import BOOL, FLOAT, FLOAT16, INT64, UINT8, GraphBuilder, write_generic

from amodal_model.errors import ModelError
from amodal_model.segmenter_generic import MAX_MASKS, GenericSegmenter
from amodal_model.segmenter_settings import TENSOR_NAMES, SegmenterSettings, Thresholds


def scene() -> np.ndarray:
    image = np.zeros((48, 64, 3), np.uint8)
    image[10:30, 5:25, 0] = 255
    image[20:40, 35:60, 2] = 255
    return image


def opened(path: Path, **changed: Any) -> GenericSegmenter:
    tensors = TENSOR_NAMES["generic"]
    return GenericSegmenter(
        SegmenterSettings("generic", path, {"model": path}, tensors=tensors, **changed)
    )


def boxes(segmenter: GenericSegmenter) -> list[tuple[int, int, int, int]]:
    return [one.mask.bbox_xyxy for one in segmenter.find(scene())]


RED, BLUE = (5, 10, 25, 30), (35, 20, 60, 40)


@pytest.mark.parametrize("out", ["float", "bool", "uint8"])
@pytest.mark.parametrize("kind", [FLOAT, FLOAT16, UINT8])
def test_masks_of_every_type_are_read(tmp_path: Path, kind: int, out: str) -> None:
    assert boxes(opened(write_generic(tmp_path / "a.onnx", kind=kind, out=out))) == [RED, BLUE]


def test_channels_may_come_last_and_axes_be_open(tmp_path: Path) -> None:
    sides = ((1, "h", "w", 3), ("n", "h", "w"))
    path = write_generic(tmp_path / "a.onnx", channels_last=True, sides=sides)
    assert boxes(opened(path, fit="native")) == [RED, BLUE]
    # the model sees 24x32 here; edges are as coarse
    for box, true in zip(boxes(opened(path, input_size=(24, 32))), [RED, BLUE], strict=True):
        np.testing.assert_allclose(box, true, atol=1)


def test_best_score_comes_first_and_the_worst_are_left_out(tmp_path: Path) -> None:
    path = write_generic(tmp_path / "a.onnx", scores=(0.3, 0.8))
    assert boxes(opened(path)) == [BLUE, RED]
    assert boxes(opened(path, max_objects=1)) == [BLUE]
    assert boxes(opened(path, thresholds=Thresholds(score=0.5))) == [BLUE]


def test_scores_that_are_no_numbers_are_none(tmp_path: Path) -> None:
    path = write_generic(tmp_path / "a.onnx", scores=(float("nan"), 0.8))
    assert boxes(opened(path)) == [BLUE]


def test_track_ids_are_the_models(tmp_path: Path) -> None:
    segmenter = opened(write_generic(tmp_path / "a.onnx", track_ids=(7, -3)))
    assert segmenter.has_track_ids
    assert [one.track_id for one in segmenter.find(scene())] == [7, -3]
    without = opened(write_generic(tmp_path / "b.onnx", scores=None))
    assert not without.has_track_ids
    assert [(one.track_id, one.score) for one in without.find(scene())] == [(None, 1.0)] * 2


def test_one_object_twice_is_one(tmp_path: Path) -> None:
    builder = GraphBuilder()
    builder.input("image", FLOAT, (1, 3, 48, 64))
    masks = np.zeros((3, 48, 64), np.float32)
    masks[0, 10:30, 10:30] = 1
    masks[1, 10:30, 10:31] = 1
    builder.output("masks", FLOAT, (3, 48, 64), builder.weight(masks))
    # the third is empty
    assert boxes(opened(builder.save(tmp_path / "a.onnx"))) == [(10, 10, 30, 30)]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"track_ids": (7, 7)}, "track id 7 in 'track_ids', need each once in a frame"),
        ({"track_ids": (2**60, 1)}, "track id 1152921504606846976 in 'track_ids'"),
        ({"track_ids": (1, 2, 3)}, r"output 'track_ids' is int64 \(3\), need \(2,\): one for each"),
        ({"scores": (0.5,)}, r"output 'scores' is float32 \(1\), need \(2,\): one for each mask"),
    ],
)
def test_outputs_that_do_not_fit_together_are_named(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    segmenter = opened(write_generic(tmp_path / "a.onnx", **changed))
    with pytest.raises(ModelError, match=message):
        segmenter.find(scene())


def write_masks(path: Path, kind: int, shape: tuple[int, ...], stated: tuple[Any, ...]) -> Path:
    builder = GraphBuilder()
    builder.input("image", FLOAT, (1, 3, 8, 8))
    made = builder.node("ConstantOfShape", builder.weight(np.array(shape)))
    builder.output("masks", kind, stated, builder.node("Cast", made, to=kind))
    return builder.save(path)


@pytest.mark.parametrize(
    ("kind", "stated", "message"),
    [
        (INT64, (2, 8, 8), r"'masks' is int64 \(2, 8, 8\), need float32 or .* \(N, h, w\)"),
        (BOOL, (8, 8), r"'masks' is bool \(8, 8\), need"),
        (FLOAT, (2, 3, 8, 8), r"'masks' is float32 \(2, 3, 8, 8\), need"),
    ],
)
def test_masks_of_another_type_or_shape_are_refused_at_once(
    tmp_path: Path, kind: int, stated: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        opened(write_masks(tmp_path / "a.onnx", kind, stated, stated))


def test_more_masks_than_the_limit_are_refused(tmp_path: Path) -> None:
    shape = (MAX_MASKS + 1, 8, 8)
    segmenter = opened(write_masks(tmp_path / "a.onnx", FLOAT, shape, shape))
    with pytest.raises(ModelError, match="1025 masks in a frame, limit 1024"):
        segmenter.find(scene())


def test_no_masks_are_no_objects(tmp_path: Path) -> None:
    segmenter = opened(write_masks(tmp_path / "a.onnx", FLOAT, (0, 8, 8), ("n", 8, 8)))
    assert segmenter.find(scene()) == []
