from typing import Any

import numpy as np
import pytest

from amodal_model.errors import InputError, LimitError
from amodal_model.frame_size import MAX_SIDE, check_frame_size, check_image
from amodal_model.source_given import GivenSource
from amodal_model.source_motion import MotionSource
from amodal_model.source_prompted import PromptedSource
from amodal_model.visible_source import VisibleMaskSource


def test_an_image_of_another_size_is_refused() -> None:
    check_image(None, (6, 8))
    check_image(np.zeros((6, 8, 3), np.uint8), (6, 8))
    with pytest.raises(InputError, match=r"^image is 9x8, the stream's frames are 8x6$"):
        check_image(np.zeros((8, 9, 3), np.uint8), (6, 8))
    with pytest.raises(InputError, match=r"^frame is 8x5"):
        check_image(np.zeros((5, 8, 3), np.uint8), (6, 8), "frame")


@pytest.mark.parametrize("frame_size", [(0, 8), (8, -1), (MAX_SIDE + 1, 8), (8, MAX_SIDE + 1)])
def test_a_side_that_no_frame_has_is_refused(frame_size: tuple[int, int]) -> None:
    check_frame_size((1, MAX_SIDE))
    with pytest.raises(LimitError, match="each side must be 1 to 16384"):
        check_frame_size(frame_size)


@pytest.mark.parametrize("source", [GivenSource(), MotionSource(), PromptedSource()])
def test_every_source_refuses_frames_that_no_stream_can_have(
    source: VisibleMaskSource[Any],
) -> None:
    with pytest.raises(LimitError, match="each side must be 1 to 16384"):
        source.start((0, 640))
