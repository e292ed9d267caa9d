"""A frame's results as JSON, and back."""

import json

import numpy as np

from amodal_model.masks import encode_rle
from amodal_service.amodal_json import Segmented
from amodal_service.records import frame_result


def test_a_record_reads_back_as_the_result_it_was_made_from(segmented: Segmented) -> None:
    records = list(segmented.journal.records())
    result = frame_result(records[1], (48, 64))
    front, partial = result.objects
    assert result.order == ((1, 2),)
    assert (partial.track_id, partial.state, partial.occlusion_rate) == (2, "partial", 0.5)
    assert (partial.score, partial.confidence_occluded) == (0.75, 0.5)
    assert partial.visible.bbox_xyxy == (10, 15, 20, 25)
    assert partial.amodal.bbox_xyxy == (10, 15, 30, 25)
    assert np.array_equal(front.visible.full(), front.amodal.full())
    assert partial.remembered.area == 0
    hidden = frame_result(records[2], (48, 64)).objects[1]
    assert hidden.remembered.bbox_xyxy == (24, 15, 28, 25)


def test_masks_without_a_pixel_are_null(segmented: Segmented) -> None:
    records = list(segmented.journal.records())
    hidden, lost = records[2]["objects"][1], records[3]["objects"][1]
    assert hidden["visible_segmentation"] is None
    assert hidden["segmentation"] == hidden["inferred_segmentation"]
    assert hidden["area"] == 160
    assert (lost["segmentation"], lost["bbox"], lost["area"]) == (None, None, None)
    assert records[0]["objects"][0]["inferred_segmentation"] is None


def test_a_visible_mask_is_passed_on_as_it_was_given(segmented: Segmented) -> None:
    record = next(segmented.journal.records())
    given = segmented.source.given(0)[1]
    assert record["objects"][0]["visible_segmentation"] == given
    assert given == encode_rle(frame_result(record, (48, 64)).objects[0].visible)
    assert json.loads(json.dumps(record)) == record
