"""The palette of DAVIS and its limit."""

from dataclasses import replace

import pytest

from amodal_model.errors import LimitError
from amodal_service.amodal_json import Segmented
from amodal_service.palette_masks import check_labels, davis_palette


def test_the_palette_is_that_of_davis() -> None:
    palette = davis_palette()
    colours = [tuple(palette[3 * n : 3 * n + 3]) for n in range(5)]
    assert colours == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]
    assert len(palette) == 768


def test_more_objects_than_labels_are_refused(segmented: Segmented) -> None:
    check_labels(segmented.source)
    track = segmented.source.tracklets[0]
    many = replace(segmented.source, tracklets=(track,) * 256)
    with pytest.raises(LimitError, match="256 objects, a palette PNG holds 255"):
        check_labels(many)
