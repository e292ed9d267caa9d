"""A clip is its frames, one by one."""

from __future__ import annotations

import numpy as np

from amodal_model.clip import segment_clip
from amodal_model.masks import BoxedMask
from amodal_model.stream import AmodalSegmenter

SIZE = (120, 160)


def test_clip_equals_frame_by_frame(
    each_segmenter: AmodalSegmenter, boxes_scene: list[dict[int, BoxedMask]]
) -> None:
    state = each_segmenter.start(SIZE)
    scene = boxes_scene[:30]
    results = list(segment_clip(each_segmenter, iter(scene), SIZE))
    assert len(results) == len(scene)
    for visible, from_clip in zip(scene, results, strict=True):
        stepped, state = each_segmenter.step(None, visible, state)
        assert stepped.order == from_clip.order
        for a, b in zip(stepped.objects, from_clip.objects, strict=True):
            assert (a.track_id, a.state, a.score) == (b.track_id, b.state, b.score)
            assert a.confidence_occluded == b.confidence_occluded
            np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())


def test_two_streams_share_an_engine_and_nothing_else(
    each_segmenter: AmodalSegmenter, boxes_scene: list[dict[int, BoxedMask]]
) -> None:
    """Steps of another stream in between change nothing."""
    scene = boxes_scene[:12]
    alone = list(segment_clip(each_segmenter, scene, SIZE))
    state, other = each_segmenter.start(SIZE), each_segmenter.start(SIZE)
    for visible, beside, expected in zip(scene, boxes_scene[30:], alone, strict=False):
        result, state = each_segmenter.step(None, visible, state)
        _, other = each_segmenter.step(None, beside, other)
        for a, b in zip(result.objects, expected.objects, strict=True):
            np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())
            assert a.score == b.score
