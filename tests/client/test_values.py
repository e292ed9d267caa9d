"""Typed values: masks as pycocotools reads them, damaged ones refused."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from amodal_client import AnswerError, Rle


@pytest.mark.parametrize("density", [0.0, 0.03, 0.5, 1.0])
def test_a_mask_is_what_pycocotools_encoded(density: float) -> None:
    mask = np.random.default_rng(5).random((37, 53)) < density
    mask[10:20, 5:40] |= density > 0
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    decoded = Rle((37, 53), encoded["counts"].decode()).decode()
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("counts", ["", "4", "zzzzzzzzzz", "PPYo1", "P", "é", "oooooooooooo1"])
def test_runs_that_do_not_fill_the_mask_are_refused(counts: str) -> None:
    with pytest.raises(AnswerError, match="mask"):
        Rle((4, 6), counts).decode()


def test_a_mask_of_absurd_size_is_refused_before_it_is_made() -> None:
    with pytest.raises(AnswerError, match="limit 16384x16384"):
        Rle((1 << 30, 1 << 30), "0").decode()
