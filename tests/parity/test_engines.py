"""ONNX Runtime says what torch says, over 60 frames in which each feeds on its own state."""

from __future__ import annotations

import numpy as np

from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.stream import AmodalSegmenter

SIZE = (120, 160)


def test_onnx_equals_torch_in_every_step_of_a_scene(
    tiny_segmenter: AmodalSegmenter,
    onnx_segmenter: AmodalSegmenter,
    boxes_scene: list[dict[int, BoxedMask]],
) -> None:
    state = tiny_segmenter.start(SIZE)
    for visible in boxes_scene:
        first, ours = tiny_segmenter.step(None, visible, state)
        same = onnx_segmenter.load_state(tiny_segmenter.save_state(state))
        second, theirs = onnx_segmenter.step(None, visible, same)
        assert first.order == second.order
        for a, b in zip(first.objects, second.objects, strict=True):
            assert (a.track_id, a.state, a.occluded_by) == (b.track_id, b.state, b.occluded_by)
            assert mask_iou(a.amodal, b.amodal) > 0.99
            np.testing.assert_allclose(a.score, b.score, atol=1e-4)
            np.testing.assert_allclose(a.confidence_occluded, b.confidence_occluded, atol=1e-4)
        saved = tiny_segmenter.save_state(ours)
        for name, array in onnx_segmenter.save_state(theirs).items():
            np.testing.assert_allclose(saved[name], array, atol=1e-4, err_msg=name)
        state = ours


def test_onnx_and_torch_stay_together_over_a_scene(
    tiny_segmenter: AmodalSegmenter,
    onnx_segmenter: AmodalSegmenter,
    boxes_scene: list[dict[int, BoxedMask]],
) -> None:
    """A last digit can decide whether a window is fitted anew: the two may then be apart a bit."""
    states, ious = [tiny_segmenter.start(SIZE), onnx_segmenter.start(SIZE)], []
    for visible in boxes_scene:
        first, states[0] = tiny_segmenter.step(None, visible, states[0])
        second, states[1] = onnx_segmenter.step(None, visible, states[1])
        for a, b in zip(first.objects, second.objects, strict=True):
            assert a.track_id == b.track_id
            ious.append(mask_iou(a.amodal, b.amodal))
    np.testing.assert_allclose(states[0].tracks.window, states[1].tracks.window, atol=0.5)
    assert min(ious) > 0.95
    assert np.mean(ious) > 0.99


def test_logits_of_both_engines_agree(
    tiny_segmenter: AmodalSegmenter,
    onnx_segmenter: AmodalSegmenter,
    boxes_scene: list[dict[int, BoxedMask]],
) -> None:
    states = [tiny_segmenter.start(SIZE), onnx_segmenter.start(SIZE)]
    for visible in boxes_scene[:20]:
        first, states[0] = tiny_segmenter.advance(visible, states[0])
        second, states[1] = onnx_segmenter.advance(visible, states[1])
        for a, b in zip(first, second, strict=True):
            np.testing.assert_allclose(a.window, b.window, atol=1e-3)
            # crops are of 8 bits: a last digit of a window can decide a level of a pixel
            apart = abs(a.logits - b.logits)
            assert np.mean(apart < 1e-3) > 0.999
            assert apart.max() < 0.1


def test_state_of_one_engine_goes_on_in_the_other(
    tiny_segmenter: AmodalSegmenter,
    onnx_segmenter: AmodalSegmenter,
    boxes_scene: list[dict[int, BoxedMask]],
) -> None:
    """What a torch stream remembers, an ONNX stream can take over."""
    state = tiny_segmenter.start(SIZE)
    for visible in boxes_scene[:15]:
        _, state = tiny_segmenter.step(None, visible, state)
    moved = onnx_segmenter.load_state(tiny_segmenter.save_state(state))
    first, _ = tiny_segmenter.step(None, boxes_scene[15], state)
    second, _ = onnx_segmenter.step(None, boxes_scene[15], moved)
    for a, b in zip(first.objects, second.objects, strict=True):
        assert mask_iou(a.amodal, b.amodal) > 0.99
