"""A SAM-2-like pair is fed what its decoder states, whichever exporter named it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_segmenters import FLOAT, INT64, GraphBuilder, write_sam2_decoder, write_sam2_encoder

from amodal_model.errors import ModelError
from amodal_model.masks import box_mask
from amodal_model.segmenter_image import fit_frame, frame_mask
from amodal_model.segmenter_sam2 import Hint, Sam2Pair, input_grid
from amodal_model.segmenter_settings import TENSOR_NAMES, SegmenterSettings

EXPORTS: dict[str, dict[str, Any]] = {
    "samexporter": {},
    "onnxruntime": {
        "encoder": ("image", "image_features_0", "image_features_1", "image_embeddings"),
        "decoder": {
            "image_embed": "image_embeddings",
            "high_res_feats_0": "image_features_0",
            "high_res_feats_1": "image_features_1",
            "mask_input": "input_masks",
            "has_mask_input": "has_input_masks",
        },
    },
    "transformers": {
        "encoder": (
            "pixel_values",
            "image_embeddings.0",
            "image_embeddings.1",
            "image_embeddings.2",
        ),
        "decoder": {
            "image_embed": "image_embeddings.2",
            "high_res_feats_0": "image_embeddings.0",
            "high_res_feats_1": "image_embeddings.1",
            "point_coords": "input_points",
            "point_labels": "input_labels",
            "mask_input": "",
            "masks": "pred_masks",
            "iou_predictions": "iou_scores",
        },
        "labels_kind": INT64,
        "has_prompts_axis": True,
    },
}


def settings(folder: Path, exporter: str = "samexporter", **changed: Any) -> SegmenterSettings:
    models = {"encoder": folder / "e.onnx", "decoder": folder / "d.onnx"}
    return SegmenterSettings(
        "sam2", folder / "my.toml", models, tensors=TENSOR_NAMES[exporter], **changed
    )


def write_pair(folder: Path, exporter: str = "samexporter", **changed: Any) -> SegmenterSettings:
    export = EXPORTS[exporter]
    more = {"names": export["encoder"]} if "encoder" in export else {}
    write_sam2_encoder(folder / "e.onnx", **more)
    write_sam2_decoder(
        folder / "d.onnx",
        names=export.get("decoder"),
        labels_kind=export.get("labels_kind", FLOAT),
        has_prompts_axis=export.get("has_prompts_axis", False),
        **changed,
    )
    return settings(folder, exporter)


def box_hint(x0: float, y0: float, x1: float, y1: float, *, mask: Any = None) -> Hint:
    return Hint(np.array([[x0, y0], [x1, y1]], np.float32), np.array([2, 3], np.float32), mask)


@pytest.mark.parametrize("exporter", EXPORTS)
def test_bright_square_in_the_box_is_found(tmp_path: Path, exporter: str) -> None:
    pair = Sam2Pair(write_pair(tmp_path, exporter, masks=3))
    image = np.zeros((64, 128, 3), np.uint8)
    image[16:32, 32:64] = 255
    image[16:32, 96:120] = 255
    encoded = pair.encode(image)
    answer = pair.decode(encoded, box_hint(32, 16, 64, 32))
    assert answer.grids.shape == (3, 16, 16)
    np.testing.assert_allclose(answer.scores, [0.9, 0.8, 0.7], rtol=1e-6)
    mask = frame_mask(answer.grids[0], encoded.fit, 0.0)
    # a cell of the masks is 8x4 pixels of the frame
    np.testing.assert_allclose(mask.bbox_xyxy, (32, 16, 64, 32), atol=8)


@pytest.mark.parametrize("has_logits", [True, False])
def test_logits_are_taken_before_masks(tmp_path: Path, *, has_logits: bool) -> None:
    made = write_pair(tmp_path, has_logits=has_logits)
    pair = Sam2Pair(made)
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:32, 16:32] = 255
    grids = pair.decode(pair.encode(image), box_hint(16, 16, 32, 32)).grids
    assert len(np.unique(grids)) > 2
    named = dict(made.tensors) | {"low_res_masks": ""}
    pair = Sam2Pair(dataclasses.replace(made, tensors=named))
    grids = pair.decode(pair.encode(image), box_hint(16, 16, 32, 32)).grids
    assert (len(np.unique(grids)) == 2) == has_logits


def test_point_means_what_is_bright_around_it(tmp_path: Path) -> None:
    pair = Sam2Pair(write_pair(tmp_path))
    image = np.zeros((64, 64, 3), np.uint8)
    image[16:24, 40:48] = 255
    encoded = pair.encode(image)
    at = Hint(np.array([[44, 20]], np.float32), np.ones(1, np.float32), None)
    away = Hint(np.array([[10, 50]], np.float32), np.ones(1, np.float32), None)
    found = [
        frame_mask(pair.decode(encoded, hint).grids[0], encoded.fit, 0.0) for hint in (at, away)
    ]
    np.testing.assert_allclose(found[0].bbox_xyxy, (40, 16, 48, 24), atol=3)
    assert not found[1].area


def test_mask_prompt_is_given_where_the_decoder_has_one(tmp_path: Path) -> None:
    mask = box_mask(np.pad(np.ones((16, 16), bool), 24))
    for exporter in EXPORTS:
        folder = tmp_path / exporter
        folder.mkdir()
        pair = Sam2Pair(write_pair(folder, exporter))
        encoded = pair.encode(np.zeros((64, 64, 3), np.uint8))
        plain = pair.decode(encoded, box_hint(24, 24, 40, 40)).grids
        given = pair.decode(encoded, box_hint(24, 24, 40, 40, mask=mask)).grids
        assert given.shape == (1, 16, 16)
        added = -0.1 * np.ones((16, 16))  # a hundredth of the logits, 10 and -10
        added[6:10, 6:10] = 0.1
        if exporter == "transformers":  # its decoder takes no mask
            added[:] = 0
        np.testing.assert_allclose(given[0] - plain[0], added, atol=1e-4)


def test_mask_survives_the_way_into_the_input_and_back() -> None:
    pixels = np.zeros((60, 90), bool)
    pixels[20:47, 31:70] = True
    for how in ("stretch", "letterbox"):
        fit = fit_frame((60, 90), (256, 256), how)
        grid = input_grid(box_mask(pixels), fit, (64, 64))
        assert (grid.min(), grid.max()) == (-10, 10)
        back = frame_mask(grid, fit, 0.0)
        np.testing.assert_allclose(back.bbox_xyxy, (31, 20, 70, 47), atol=1)


def test_pair_that_does_not_fit_names_both_tensors(tmp_path: Path) -> None:
    write_sam2_encoder(tmp_path / "e.onnx", channels=2)
    write_sam2_decoder(tmp_path / "d.onnx")
    message = (
        r"input 'image_embed' is float32 \(1, 1, 4, 4\), the encoder's output "
        r"'image_embed' is float32 \(1, 2, 4, 4\)"
    )
    with pytest.raises(ModelError, match=message):
        Sam2Pair(settings(tmp_path))


def test_pair_of_another_exporter_names_the_tensor_that_is_missing(tmp_path: Path) -> None:
    write_pair(tmp_path)
    with pytest.raises(ModelError, match=r"e.onnx: no output 'image_embeddings'; its outputs are"):
        Sam2Pair(settings(tmp_path, "onnxruntime"))


def test_decoder_with_an_unknown_input_is_refused(tmp_path: Path) -> None:
    write_sam2_encoder(tmp_path / "e.onnx")
    write_sam2_decoder(tmp_path / "d.onnx", names={"has_mask_input": "is_it"})
    with pytest.raises(ModelError, match=r"input 'is_it' is float32 \(\?\) is not one that"):
        Sam2Pair(settings(tmp_path))


def test_encoder_of_any_size_needs_one(tmp_path: Path) -> None:
    write_sam2_encoder(tmp_path / "e.onnx", side="s")
    write_sam2_decoder(tmp_path / "d.onnx")
    with pytest.raises(ModelError, match="leaves its size open: set input_size"):
        Sam2Pair(settings(tmp_path))
    with pytest.raises(ModelError, match="a SAM 2 encoder needs one input_size"):
        Sam2Pair(settings(tmp_path, fit="native"))
    assert Sam2Pair(settings(tmp_path, input_size=(64, 64))).encode(np.zeros((9, 9, 3), np.uint8))


def test_scores_of_another_number_are_named(tmp_path: Path) -> None:
    write_sam2_encoder(tmp_path / "e.onnx")
    builder = GraphBuilder()
    for name, sides in (
        ("image_embed", (1, 1, 4, 4)),
        ("high_res_feats_0", (1, 1, 16, 16)),
        ("high_res_feats_1", (1, 1, 8, 8)),
        ("point_coords", ("b", "n", 2)),
        ("point_labels", ("b", "n")),
    ):
        builder.input(name, FLOAT, sides)
    builder.output("masks", FLOAT, ("b", "m", 4, 4), builder.weight(np.zeros((1, 3, 4, 4), "f4")))
    builder.output("iou_predictions", FLOAT, ("b", "m"), builder.weight(np.zeros((1, 2), "f4")))
    builder.save(tmp_path / "d.onnx")
    pair = Sam2Pair(settings(tmp_path))
    with pytest.raises(ModelError, match=r"'iou_predictions' is float32 \(1, 2\), need 3 scores"):
        pair.decode(pair.encode(np.zeros((8, 8, 3), np.uint8)), box_hint(0, 0, 4, 4))
