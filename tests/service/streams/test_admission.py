"""What is reserved for a stream: as much as its source remembers, for as many objects as agreed."""

from __future__ import annotations

import numpy as np
import pytest
from live_streams import box, plain_segmenter

from amodal_model.source_prompted import PromptedSource
from amodal_model.stream_state import state_bytes
from amodal_model.visible_source import Prompt
from amodal_service.streams.admission import stream_bytes
from amodal_service.streams.options import StreamOptions


def test_what_a_followed_object_remembers_is_reserved() -> None:
    source, image = PromptedSource(), np.full((48, 64, 3), 90, np.uint8)
    image[10:30, 10:30] = (220, 40, 40)

    def used(count: int) -> int:
        prompts = [Prompt(key, bbox_xyxy=(10, 10, 30, 30)) for key in range(1, count + 1)]
        _, state = source.find(image, prompts, source.start((48, 64)), {})
        return sum(array.nbytes for array in source.save_state(state).values())

    def reserved(masks: str, objects: int) -> int:
        return stream_bytes(StreamOptions.model_validate({"masks": masks, "max_objects": objects}))

    each = used(3) - used(2)
    found, given = (reserved(masks, 9) - reserved(masks, 8) for masks in ("prompted", "given"))
    assert found - given > 2 * (each - 4 * 4096)  # two states; the given one has colours
    assert found > 2 * each


def test_what_is_kept_of_pictures_is_reserved() -> None:
    image, segmenter = np.full((48, 64, 3), 90, np.uint8), plain_segmenter()

    def used(count: int) -> int:
        visible = {key: box(4 * key, 8, 30, 30) for key in range(1, count + 1)}
        _, state = segmenter.step(image, visible, segmenter.start((48, 64)))
        return sum(array.nbytes for array in segmenter.save_state(state).values())

    def reserved(objects: int) -> int:
        return stream_bytes(StreamOptions(pictures=True, max_objects=objects))

    assert state_bytes(1) - used(1) + used(0) == pytest.approx(0, abs=64)
    assert reserved(4) - reserved(3) > 2 * (used(4) - used(3))  # the old and the new state
