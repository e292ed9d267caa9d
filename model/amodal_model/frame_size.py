"""Sizes of frames: which are taken, and refusals of what has another."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import InputError, LimitError

MAX_SIDE = 16384
"""Pixels; of frames, masks and videos."""


def check_frame_size(frame_size: tuple[int, int]) -> None:
    """Refuse a size that no stream can have.

    Args:
        frame_size: ``(height, width)`` of the frames, pixels.

    Raises:
        LimitError: a side is not 1 to 16384.
    """
    if not all(1 <= side <= MAX_SIDE for side in frame_size):
        raise LimitError(f"frame size {frame_size}, each side must be 1 to {MAX_SIDE}")


def check_image(
    image: UInt8[np.ndarray, "H W 3"] | None, frame_size: tuple[int, int], name: str = "image"
) -> None:
    """Refuse an image of another size than the frames of its stream.

    Args:
        image: RGB; ``None`` has no size to be refused for.
        frame_size: ``(height, width)`` of the frames, pixels.
        name: what the image is called to the user.

    Raises:
        InputError: it has another size.
    """
    if image is not None and image.shape[:2] != frame_size:
        raise InputError(
            f"{name} is {image.shape[1]}x{image.shape[0]}, the stream's frames are "
            f"{frame_size[1]}x{frame_size[0]}"
        )
