from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from amodal_model.clip import Mode
from amodal_model.engine_torch import TorchEngine
from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.network import AmodalNetwork, NetworkConfig
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.stream import AmodalSegmenter
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset
from amodal_training.evaluation_method import collect_results, segmenter_method
from amodal_training.metrics import miou_full


@pytest.fixture
def segmenter() -> Iterator[AmodalSegmenter]:
    """A seeded tiny net on one thread: more would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield AmodalSegmenter(TorchEngine(AmodalNetwork(NetworkConfig((8, 8, 8), (1, 1, 1)))))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_segmenter_is_measured_like_any_method(
    passing_dataset: Path, segmenter: AmodalSegmenter, mode: Mode
) -> None:
    method = segmenter_method("net", segmenter, mode)
    assert method.sees_future == (mode == "offline")
    options = EvaluationOptions(baselines=False, limit_clips=1)
    (row,) = evaluate_dataset(passing_dataset, [method], options).rows
    assert row.traits.sees_future == (mode == "offline")
    assert row.pairs.hidden.size == 16
    assert 0 < miou_full(row.pairs)[0] <= 1
    assert (row.pairs.confidence_occluded >= 0).all()
    assert (row.pairs.confidence_occluded <= 1).all()


def result_of(track_id: int, amodal: BoxedMask) -> ObjectResult:
    return ObjectResult(
        track_id, amodal, amodal, 0.0, "visible", (), 0.9, 1.0, 0.25, empty_mask((4, 4))
    )


def test_objects_without_a_result_have_no_prediction_in_that_frame() -> None:
    mask = box_mask(np.ones((4, 4), bool))
    results = [
        FrameResult((), ()),
        FrameResult((result_of(1, mask), result_of(2, mask)), ()),
        FrameResult((result_of(2, empty_mask((4, 4))),), ()),
    ]
    found = collect_results(iter(results), [2, 3])
    assert list(found) == [2, 3]
    assert [one is None for one in found[2].masks] == [True, False, False]
    assert found[2].confidence_occluded == pytest.approx([np.nan, 0.25, 0.25], nan_ok=True)
    assert list(found[3].masks) == [None] * 3
