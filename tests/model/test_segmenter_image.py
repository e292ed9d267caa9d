"""Frames into inputs and masks back: pixel centres, layouts, letterbox."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from onnx_segmenters import FLOAT16, UINT8, Sides, write_generic

from amodal_model.errors import ModelError
from amodal_model.segmenter_graph import Graph, Tensor
from amodal_model.segmenter_image import (
    CHW,
    NCHW,
    NHWC,
    PAD,
    ImageInput,
    fit_frame,
    frame_mask,
    image_input,
    prepare_image,
)
from amodal_model.segmenter_settings import Normalisation, SegmenterSettings


def wanted(
    tmp_path: Path, sides: Sides, size: tuple[int, int] | None = None, fit: str = "stretch"
) -> ImageInput:
    path = write_generic(tmp_path / "a.onnx", sides=(sides, ("N", "h", "w")), scores=None)
    made = SegmenterSettings("generic", path, {"model": path}, input_size=size, fit=fit)
    return image_input(Graph(path, made), "image", made)


def test_layout_and_size_are_read_from_the_model(tmp_path: Path) -> None:
    into = wanted(tmp_path, (1, 3, 48, 64))
    assert (into.layout, into.size) == (NCHW, (48, 64))


def test_open_axes_need_a_size_or_native(tmp_path: Path) -> None:
    assert wanted(tmp_path, (1, 3, "h", "w"), (32, 96)).size == (32, 96)
    assert wanted(tmp_path, (1, 3, "h", "w"), fit="native").size is None
    with pytest.raises(ModelError, match=r"\(1, 3, \?, \?\) leaves its size open: set input_size"):
        wanted(tmp_path, (1, 3, "h", "w"))


def test_size_that_contradicts_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the settings say input_size \[48, 65\]"):
        wanted(tmp_path, (1, 3, 48, 64), (48, 65))


def test_absurd_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(1, 3, 8192, 8192\), each side must be 1 to 4096"):
        wanted(tmp_path, (1, 3, 8192, 8192))


def test_letterbox_keeps_the_aspect_and_pads_grey() -> None:
    fit = fit_frame((50, 100), (64, 64), "letterbox")
    assert fit.scale == (0.64, 0.64)
    assert fit.offset == (0.0, 16.0)
    into = ImageInput(Tensor("x", "uint8", ()), NHWC, (64, 64))
    image = np.full((50, 100, 3), 9, np.uint8)
    made = prepare_image(image, fit, into, Normalisation())[0]
    assert (made[:16] == PAD).all()
    assert (made[16:48] == 9).all()
    assert (made[48:] == PAD).all()


def test_pixels_are_normalised_channel_by_channel() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 51
    fit = fit_frame((2, 2), None, "native")
    pixels = Normalisation(255.0, (0.5, 0.0, 0.0), (0.5, 1.0, 2.0))
    into = ImageInput(Tensor("x", "float16", ()), CHW, None)
    made = prepare_image(image, fit, into, pixels)
    assert made.dtype == np.float16
    np.testing.assert_allclose(made[:, 0, 0], [1.0, 0.0, 0.1], atol=1e-3)
    bgr = prepare_image(image, fit, into, Normalisation(channels="bgr"))
    np.testing.assert_allclose(bgr[:, 0, 0], [0.2, 0.0, 1.0], atol=1e-3)


@limits(max_examples=40, deadline=None)
@given(
    height=st.integers(20, 90),
    width=st.integers(20, 90),
    how=st.sampled_from(["stretch", "letterbox"]),
    cells=st.sampled_from([16, 64, 128]),
)
def test_box_drawn_in_the_input_is_the_same_box_in_the_frame(
    height: int, width: int, how: str, cells: int
) -> None:
    fit = fit_frame((height, width), (64, 64), how)
    corners = np.array([[0.25 * width, 0.3 * height], [0.8 * width, 0.75 * height]], np.float32)
    (x0, y0), (x1, y1) = fit.to_input(corners) * (cells / 64)
    ys, xs = np.mgrid[:cells, :cells] + 0.5
    # a distance, not a step: linear in between, so its zero lies exactly on the box
    grid = np.minimum.reduce([xs - x0, x1 - xs, ys - y0, y1 - ys]).astype(np.float32)
    box = frame_mask(grid, fit, 0.0).bbox_xyxy
    np.testing.assert_allclose(box, corners.ravel(), atol=1.01)


def test_mask_is_cut_to_its_box_and_nan_is_none() -> None:
    fit = fit_frame((10, 10), (10, 10), "stretch")
    grid = np.ones((10, 10), np.float32)
    assert frame_mask(grid, fit, 0.5, (2, 3, 6, 8)).bbox_xyxy == (2, 3, 6, 8)
    grid[4] = np.nan
    mask = frame_mask(grid, fit, 0.5, (2, 3, 6, 8)).full()
    assert not mask[4].any()
    assert mask[6, 2:6].all()
    assert not frame_mask(grid, fit, 0.5, (5, 5, 5, 9)).area


@pytest.mark.parametrize("kind", [UINT8, FLOAT16])
def test_image_type_is_the_models(tmp_path: Path, kind: int) -> None:
    path = write_generic(tmp_path / "a.onnx", kind=kind, scores=None)
    made = SegmenterSettings("generic", path, {"model": path})
    into = image_input(Graph(path, made), "image", made)
    fit = fit_frame((48, 64), into.size, "stretch")
    image = np.full((48, 64, 3), 7, np.uint8)
    array = prepare_image(image, fit, into, Normalisation())
    assert array.dtype == into.tensor.dtype
    assert array[0, 0, 0, 0] == pytest.approx(7 if kind == UINT8 else 7 / 255, abs=1e-3)
