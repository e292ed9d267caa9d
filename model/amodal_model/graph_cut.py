"""The cut between object and background that follows the edges of an image: GrabCut.

Source: Rother, Kolmogorov and Blake, "GrabCut", SIGGRAPH 2004, in OpenCV's implementation.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

BACKGROUND, OBJECT = cv2.GC_BGD, cv2.GC_FGD
LIKELY_BACKGROUND, LIKELY_OBJECT = cv2.GC_PR_BGD, cv2.GC_PR_FGD


def cut(
    image: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], rounds: int = 1
) -> Bool[np.ndarray, "h w"]:
    """Return the object's pixels.

    Args:
        image: RGB.
        labels: what is known of each pixel, one of the four constants; the likely ones may be
            changed, the others stay.
        rounds: how often the colour models are fitted anew.
    """
    is_object = (labels == OBJECT) | (labels == LIKELY_OBJECT)
    if rounds == 0 or is_object.all() or not is_object.any():
        return np.asarray(is_object, bool)
    cv2.setRNGSeed(0)  # its clustering is random: the same input must give the same cut
    models = np.zeros((1, 65)), np.zeros((1, 65))
    result = labels.copy()
    cv2.grabCut(image, result, (0, 0, 1, 1), *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.asarray((result == OBJECT) | (result == LIKELY_OBJECT), bool)
