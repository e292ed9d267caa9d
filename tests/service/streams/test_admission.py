"""What is reserved for a stream: as much as its source remembers, for as many objects as agreed."""

from __future__ import annotations

import numpy as np

from amodal_model.source_prompted import PromptedSource
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
