"""Frames as inputs of a user's model, and its masks back in the frame.

`InputFit` holds ``input_from_frame``: where a frame pixel lies in the model's input. Pixel centres
are at +0.5, as everywhere.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from amodal_model.errors import ModelError
from amodal_model.masks import Box, BoxedMask, empty_mask, tighten
from amodal_model.segmenter_graph import Graph, Tensor
from amodal_model.segmenter_settings import MAX_INPUT_SIDE, Normalisation, SegmenterSettings

PAD = 114
"""Grey level beside a letterboxed frame, as YOLO models are trained with."""
NCHW, NHWC, CHW, HWC = "1 3 H W", "1 H W 3", "3 H W", "H W 3"


class ImageInput(NamedTuple):
    """How a model wants its image.

    Attributes:
        tensor: the input.
        layout: ``NCHW``, ``NHWC``, ``CHW`` or ``HWC``, as patterns.
        size: ``(height, width)``; ``None`` where it takes any.
    """

    tensor: Tensor
    layout: str
    size: tuple[int, int] | None


class InputFit(NamedTuple):
    """Where a frame lies in the input of a model.

    Attributes:
        frame_size: ``(height, width)`` of the frame, pixels.
        input_size: ``(height, width)`` of the input, pixels.
        scale: ``(x, y)`` input pixels of one frame pixel.
        offset: ``(x, y)`` of the frame's corner in the input, pixels.
    """

    frame_size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]

    def to_input(self, points: Float32[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 2"]:
        """Return frame points ``(x, y)`` in the input."""
        moved = points * np.array(self.scale) + np.array(self.offset)
        return np.asarray(moved, np.float32)

    def to_frame(self, points: Float32[np.ndarray, "N 2"]) -> Float32[np.ndarray, "N 2"]:
        """Return input points ``(x, y)`` in the frame."""
        moved = (points - np.array(self.offset)) / np.array(self.scale)
        return np.asarray(moved, np.float32)


def image_input(graph: Graph, name: str, settings: SegmenterSettings) -> ImageInput:
    """Return how a graph wants its image.

    Raises:
        ModelError: the input is no image, its size is above 4096 or another than the settings say,
            or it is left open and the settings say none.
    """
    tensor = graph.input(name, ("float32", "float16", "uint8"), NCHW, NHWC, CHW, HWC)
    sides = tensor.shape or (1, 3, None, None)
    # where all sides are open, channels come first, as torch exports them
    channels_last = sides[-1] == 3 and sides[-3] != 3
    layout = {(4, False): NCHW, (4, True): NHWC, (3, False): CHW, (3, True): HWC}[
        len(sides), channels_last
    ]
    height, width = sides[-3:-1] if channels_last else sides[-2:]
    wanted = settings.input_size
    if wanted is not None:
        for stated, side in zip((height, width), wanted, strict=True):
            if stated is not None and stated != side:
                raise ModelError(
                    f"{graph.path}: input {tensor}, the settings say input_size {list(wanted)}"
                )
        height, width = wanted
    if height is None or width is None:
        if settings.fit == "native":
            return ImageInput(tensor, layout, None)
        raise ModelError(
            f"{graph.path}: input {tensor} leaves its size open: set input_size, or fit = 'native'"
        )
    if not (1 <= height <= MAX_INPUT_SIDE and 1 <= width <= MAX_INPUT_SIDE):
        raise ModelError(f"{graph.path}: input {tensor}, each side must be 1 to {MAX_INPUT_SIDE}")
    return ImageInput(tensor, layout, (height, width))


def fit_frame(
    frame_size: tuple[int, int], input_size: tuple[int, int] | None, how: str
) -> InputFit:
    """Return where a frame lies in an input.

    Args:
        frame_size: ``(height, width)``.
        input_size: ``(height, width)``; ``None`` for that of the frame.
        how: ``stretch`` to the input; ``letterbox`` keeps the aspect and centres the frame.
    """
    height, width = frame_size
    if input_size is None:
        return InputFit(frame_size, frame_size, (1.0, 1.0), (0.0, 0.0))
    rows, columns = input_size
    if how != "letterbox":
        return InputFit(frame_size, input_size, (columns / width, rows / height), (0.0, 0.0))
    scale = min(rows / height, columns / width)
    inner_rows = max(1, round(height * scale))
    inner_columns = max(1, round(width * scale))
    # half a pixel of padding goes to the right and below, as exporters of YOLO models do it
    offset = (
        float(math.ceil((columns - inner_columns) / 2 - 0.5)),
        float(math.ceil((rows - inner_rows) / 2 - 0.5)),
    )
    return InputFit(frame_size, input_size, (inner_columns / width, inner_rows / height), offset)


def fit_image(
    image: UInt8[np.ndarray, "H W 3"], into: ImageInput, settings: SegmenterSettings
) -> tuple[InputFit, dict[str, np.ndarray]]:
    """Return where a frame lies in the input of a model, and what to feed the model with."""
    fit = fit_frame((image.shape[0], image.shape[1]), into.size, settings.fit)
    return fit, {into.tensor.name: prepare_image(image, fit, into, settings.normalisation)}


def prepare_image(
    image: UInt8[np.ndarray, "H W 3"], fit: InputFit, into: ImageInput, pixels: Normalisation
) -> np.ndarray:
    """Return a frame as the input of a model, in its layout and type."""
    rows, columns = fit.input_size
    height = max(1, round(fit.frame_size[0] * fit.scale[1]))
    width = max(1, round(fit.frame_size[1] * fit.scale[0]))
    if (height, width) != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))
    if (height, width) != (rows, columns):
        left, top = int(fit.offset[0]), int(fit.offset[1])
        padded = np.full((rows, columns, 3), PAD, np.uint8)
        padded[top : top + height, left : left + width] = image
        image = padded
    if pixels.channels == "bgr":
        image = image[:, :, ::-1]
    values: np.ndarray = image
    if into.tensor.dtype != "uint8":
        mean, std = np.array(pixels.mean, np.float32), np.array(pixels.std, np.float32)
        values = (image.astype(np.float32) / np.float32(pixels.scale) - mean) / std
    if into.layout in (NCHW, CHW):
        values = values.transpose(2, 0, 1)
    if into.layout in (NCHW, NHWC):
        values = values[None]
    return np.ascontiguousarray(values, into.tensor.dtype)


def frame_values(
    grid: Float32[np.ndarray, "h w"], fit: InputFit, box: Box
) -> Float32[np.ndarray, "H W"]:
    """Return values of a grid that covers a model's input at the frame pixels of a box.

    Args:
        grid: values; its sides may differ from the input's.
        fit: where the frame lies in the input.
        box: half-open, inside the frame; not empty.
    """
    rows, columns = grid.shape
    x_scale, y_scale = columns / fit.input_size[1], rows / fit.input_size[0]
    x_step, y_step = fit.scale[0] * x_scale, fit.scale[1] * y_scale
    x0, y0, x1, y1 = box
    left = (x0 + 0.5) * x_step + fit.offset[0] * x_scale - 0.5
    top = (y0 + 0.5) * y_step + fit.offset[1] * y_scale - 0.5
    warp = np.array([[x_step, 0, left], [0, y_step, top]])
    values = cv2.warpAffine(
        grid,
        warp,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(values)


def frame_mask(
    grid: Float32[np.ndarray, "h w"], fit: InputFit, threshold: float, box: Box | None = None
) -> BoxedMask:
    """Return where a grid of values is above a threshold, as a mask of the frame.

    Args:
        grid: values over a model's input; NaN is below every threshold.
        fit: where the frame lies in the input.
        threshold: above it lies the mask.
        box: half-open, inside the frame: what lies outside is no mask; the frame by default.
    """
    height, width = fit.frame_size
    box = box or (0, 0, width, height)
    if box[2] <= box[0] or box[3] <= box[1]:
        return empty_mask(fit.frame_size)
    inside: Bool[np.ndarray, "H W"] = frame_values(grid, fit, box) > threshold
    return tighten(BoxedMask(box, inside, fit.frame_size))
