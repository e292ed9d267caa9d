"""A stream that was saved and loaded goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amodal_model.masks import BoxedMask
from amodal_model.stream import AmodalSegmenter

SIZE = (120, 160)


@pytest.mark.parametrize("saved_at", [0, 1, 17])
def test_resumed_stream_equals_the_uninterrupted(
    each_segmenter: AmodalSegmenter,
    boxes_scene: list[dict[int, BoxedMask]],
    tmp_path: Path,
    saved_at: int,
) -> None:
    """Bit for bit, through a file."""
    state = each_segmenter.start(SIZE)
    for visible in boxes_scene[:saved_at]:
        _, state = each_segmenter.step(None, visible, state)
    arrays = dict[str, Any](each_segmenter.save_state(state))
    np.savez(tmp_path / "state.npz", **arrays)
    with np.load(tmp_path / "state.npz", allow_pickle=False) as stored:
        resumed = each_segmenter.load_state(dict(stored))
    assert resumed.track_ids == state.track_ids
    assert resumed.frame_size == state.frame_size
    for visible in boxes_scene[saved_at : saved_at + 12]:
        first, state = each_segmenter.step(None, visible, state)
        second, resumed = each_segmenter.step(None, visible, resumed)
        assert first.order == second.order
        for a, b in zip(first.objects, second.objects, strict=True):
            assert (a.track_id, a.state, a.score) == (b.track_id, b.state, b.score)
            np.testing.assert_array_equal(a.amodal.full(), b.amodal.full())
    kept, again = each_segmenter.save_state(state), each_segmenter.save_state(resumed)
    assert kept.keys() == again.keys()
    for name, array in kept.items():
        assert array.dtype == again[name].dtype, name
        np.testing.assert_array_equal(array, again[name], err_msg=name)


def test_lost_objects_are_saved_too(each_segmenter: AmodalSegmenter) -> None:
    config = each_segmenter.config._replace(max_hidden_frames=1)
    segmenter = AmodalSegmenter(each_segmenter.engine, config)
    mask = np.zeros(SIZE, bool)
    mask[20:50, 20:50] = True
    from_box = {4: BoxedMask((20, 20, 50, 50), mask[20:50, 20:50], SIZE)}
    state = segmenter.start(SIZE)
    for visible in (from_box, {}, {}, {}):
        _, state = segmenter.step(None, visible, state)
    assert segmenter.load_state(segmenter.save_state(state)).lost_ids == state.lost_ids == (4,)
