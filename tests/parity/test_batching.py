"""Objects of one frame go through the network together, and come out as if alone."""

from __future__ import annotations

import numpy as np

from amodal_model.engine import take_rows
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.memory import CROP_SIDE, MemoryState, StepInputs
from amodal_model.stream import AmodalSegmenter

SIZE = (80, 400)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return box_mask(mask)


def far_apart(index: int) -> dict[int, BoxedMask]:
    """Return five boxes whose windows do not meet."""
    return {
        number: rectangle(
            80 * number + 15 + index, 20, 80 * number + 30 + index + number, 40 + 2 * number
        )
        for number in range(5)
    }


def test_objects_together_equal_each_alone(each_segmenter: AmodalSegmenter) -> None:
    together = each_segmenter.start(SIZE)
    alone = [each_segmenter.start(SIZE) for _ in range(5)]
    for index in range(8):
        visible = far_apart(index)
        estimates, together = each_segmenter.advance(visible, together)
        for number, shared in enumerate(estimates):
            one = {number: visible[number]}
            (single,), alone[number] = each_segmenter.advance(one, alone[number])
            np.testing.assert_allclose(shared.window, single.window, atol=1e-5)
            np.testing.assert_allclose(shared.logits, single.logits, atol=1e-5)
            np.testing.assert_allclose(shared.confidence, single.confidence, atol=1e-5)


def test_batch_of_any_size_gives_each_row_the_same(each_segmenter: AmodalSegmenter) -> None:
    rng = np.random.default_rng(0)
    crop = (rng.random((5, 3, CROP_SIDE, CROP_SIDE)) < 0.3).astype(np.float32)
    theta = np.tile(np.array([[1, 0, 0.02], [0, 1, -0.03]], np.float32), (5, 1, 1))
    context = rng.random((5, 6)).astype(np.float32)
    maps = rng.random((5, 4, CROP_SIDE, CROP_SIDE)).astype(np.float32)
    memory = MemoryState(maps, rng.random((5, 2)).astype(np.float32))
    engine = each_segmenter.engine
    outputs, after = engine.step(StepInputs(crop, theta, context), memory)
    for row in range(5):
        part = slice(row, row + 1)
        inputs = StepInputs(crop[part], theta[part], context[part])
        single, kept = engine.step(inputs, take_rows(memory, [row]))
        for a, b in zip(outputs, single, strict=True):
            np.testing.assert_allclose(a[part], b, atol=1e-5)
        for a, b in zip(engine.to_host(after), engine.to_host(kept), strict=True):
            np.testing.assert_allclose(a[part], b, atol=1e-6)
