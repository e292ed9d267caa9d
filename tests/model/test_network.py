"""The memory is what was seen; the network begins as the memory alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from amodal_model.memory import CROP_SIDE, MemoryState, StepInputs  # noqa: E402
from amodal_model.network import (  # noqa: E402
    HIDDEN_MOST,
    KEYFRAME_FADE,
    KNOWN_FADE,
    KNOWN_LEAST,
    AmodalNetwork,
    NetworkConfig,
    dilate,
    evidence_logits,
    remember,
    resample,
    view_quality,
)

TINY = NetworkConfig((8, 8, 8), (1, 1, 1))


def box(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask: Tensor = torch.zeros(CROP_SIDE, CROP_SIDE)
    mask[y0:y1, x0:x1] = 1
    return mask


NOTHING = torch.zeros(CROP_SIDE, CROP_SIDE)
OBJECT = box(30, 30, 60, 60)
OCCLUDER = box(45, 20, 80, 80)


def frame(own: Tensor, others: Tensor = NOTHING, gap: float = 1.0) -> StepInputs[Tensor]:
    crop = torch.stack([own * (1 - others), others, NOTHING])[None]
    theta = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    return StepInputs(crop, theta, torch.tensor([[0.02, gap, 0, 0, 0, 0]]))


def blank() -> MemoryState[Tensor]:
    return MemoryState(torch.zeros(1, 4, CROP_SIDE, CROP_SIDE), torch.zeros(1, 2))


def remembered(*frames: StepInputs[Tensor]) -> MemoryState[Tensor]:
    memory = blank()
    for inputs in frames:
        memory = remember(inputs, memory).memory
    return memory


def test_what_is_seen_is_the_latest() -> None:
    latest, known, average, keyframe = remembered(frame(OBJECT)).maps[0]
    assert torch.equal(latest, OBJECT)
    assert torch.equal(keyframe, OBJECT)
    assert torch.equal(average, OBJECT)
    assert (known == 1).all()


def test_latest_follows_what_changes_in_view() -> None:
    moved = box(34, 30, 64, 60)
    latest, _, average, _ = remembered(frame(OBJECT), frame(moved)).maps[0]
    assert torch.equal(latest, moved)
    assert 0 < average[40, 62] < 0.5 < average[40, 31] < 1


def test_hidden_part_is_kept() -> None:
    latest, known, average, _ = remembered(frame(OBJECT), frame(OBJECT, OCCLUDER)).maps[0]
    assert torch.equal(latest, OBJECT)
    assert torch.equal(average, OBJECT)
    assert known[40, 50] == pytest.approx(KNOWN_FADE)
    assert known[40, 32] == known[10, 10] == 1


def test_known_fades_with_the_frames_that_pass() -> None:
    hidden = [frame(OBJECT, OCCLUDER), frame(OBJECT, OCCLUDER, gap=3.0)]
    known = remembered(frame(OBJECT), *hidden).maps[0, 1]
    assert known[40, 50] == pytest.approx(KNOWN_FADE**4)


def test_what_is_hidden_for_long_looks_as_it_did_in_the_clips_to_learn_from() -> None:
    """Nothing fades further, nor counts on; what is known less, at a rim, stays so."""
    memory = remembered(frame(OBJECT), *[frame(NOTHING, box(20, 20, 80, 80))] * 60)
    assert memory.maps[0, 1, 40, 50] == pytest.approx(KNOWN_LEAST)
    assert memory.scalars[0, 1] == HIDDEN_MOST
    rim = memory._replace(maps=memory.maps * 0.1)
    inputs = frame(NOTHING, box(20, 20, 80, 80))
    after = remember(inputs, rim).memory.maps[0, 1]
    assert after[40, 50] == pytest.approx(0.1 * KNOWN_LEAST)


def test_never_seen_pixels_are_not_known() -> None:
    latest, known, _, _ = remembered(frame(OBJECT, OCCLUDER)).maps[0]
    assert known[40, 50] == 0
    assert latest[40, 50] == 0


def test_pixels_beside_an_occluder_are_not_trusted() -> None:
    """The occluder's contour is uncertain by a pixel: background there is not 'seen'."""
    known = remembered(frame(NOTHING, OCCLUDER)).maps[0, 1]
    assert known[50, 44] == 0
    assert known[50, 42] == 1


def test_keyframe_stays_when_the_view_gets_worse() -> None:
    memory = remembered(frame(OBJECT), frame(OBJECT, OCCLUDER))
    assert torch.equal(memory.maps[0, 3], OBJECT)
    assert memory.scalars[0, 0] == pytest.approx(KEYFRAME_FADE)


def test_keyframe_is_replaced_by_a_better_view() -> None:
    memory = remembered(frame(OBJECT, OCCLUDER), frame(OBJECT))
    assert torch.equal(memory.maps[0, 3], OBJECT)
    assert memory.scalars[0, 0] == 1


def test_frames_hidden_count_the_gaps_and_restart() -> None:
    hidden = remembered(frame(OBJECT), frame(NOTHING), frame(NOTHING, gap=2.5))
    assert hidden.scalars[0, 1] == 3.5
    assert torch.equal(hidden.maps[0, 3], OBJECT), "hiding is no better view"
    seen = remember(frame(OBJECT), hidden).memory
    assert seen.scalars[0, 1] == 0


def test_template_is_the_latest_and_the_known_at_half_size() -> None:
    template = remember(frame(OBJECT, OCCLUDER), blank()).template[0]
    assert template.shape == (2, CROP_SIDE // 2, CROP_SIDE // 2)
    assert template[0, 20, 16] == 1
    assert template[1, 20, 30] == 0
    assert template[1, 5, 5] == 1


def test_memory_moves_with_the_window() -> None:
    """The window moves by 12 of 96 pixels to the right: what is remembered moves to the left."""
    theta = torch.tensor([[[1.0, 0, 2 * 12 / CROP_SIDE], [0, 1, 0]]])
    moved = resample(OBJECT[None, None], theta)[0, 0]
    assert torch.allclose(moved, box(18, 30, 48, 60), atol=1e-4)


def test_memory_beyond_the_old_window_is_zero() -> None:
    theta = torch.tensor([[[1.0, 0, 1.0], [0, 1, 0]]])
    moved = resample(torch.ones(1, 1, CROP_SIDE, CROP_SIDE), theta)[0, 0]
    assert (moved[:, :47] == 1).all()
    assert (moved[:, 49:] == 0).all()


def test_dilation_is_a_square() -> None:
    dot = torch.zeros(1, 1, 9, 9)
    dot[..., 4, 4] = 1
    grown = dilate(dot, 2)[0, 0]
    assert grown.sum() == 25
    assert (grown[2:7, 2:7] == 1).all()


def test_view_quality_is_the_open_share_of_the_contour() -> None:
    own, free = OBJECT[None, None], NOTHING[None, None]
    assert view_quality(own, free)[0] == 1
    assert view_quality(own, 1 - own)[0] == 0
    beside = box(60, 0, 96, 96)[None, None]
    quality, is_visible = view_quality(own, beside)
    assert 0.6 < quality < 0.8, "one of four sides"
    assert is_visible
    assert not view_quality(free, beside)[1]


def test_evidence_is_what_was_seen_under_what_covers() -> None:
    memory = remembered(frame(OBJECT), frame(OBJECT, OCCLUDER))
    inputs = frame(OBJECT, OCCLUDER)
    logits = evidence_logits(inputs.crop, memory.maps)[0]
    assert logits[40, 50] > 2, "hidden, and seen before"
    assert logits[70, 70] < -2, "the occluder, over background seen before"
    assert logits[10, 10] < -5, "open background"
    assert logits[40, 35] == 0, "visible: united with the silhouette elsewhere"


def test_evidence_of_the_unseen_leans_to_background() -> None:
    inputs = frame(OBJECT, OCCLUDER)
    logits = evidence_logits(inputs.crop, remembered(inputs).maps)[0]
    assert -1.5 < logits[40, 50] < 0


def test_untrained_network_gives_the_evidence() -> None:
    torch.manual_seed(0)
    network = AmodalNetwork(TINY).eval()
    memory = remembered(frame(OBJECT))
    inputs = frame(OBJECT, OCCLUDER)
    outputs, after = network(inputs, memory)
    expected = evidence_logits(inputs.crop, after.maps)
    torch.testing.assert_close(outputs.logits, expected, atol=1e-4, rtol=0)
    assert ((outputs.confidence > 0) & (outputs.confidence < 1)).all()


def test_step_is_remembering_then_completing(tiny_network: AmodalNetwork) -> None:
    inputs = frame(OBJECT, OCCLUDER)
    outputs, after = tiny_network(inputs, remembered(frame(OBJECT)))
    expected = remember(inputs, remembered(frame(OBJECT)))
    assert torch.equal(after.maps, expected.memory.maps)
    assert torch.equal(outputs.template, expected.template)
    made = tiny_network.complete(inputs.crop, inputs.context, expected.memory)
    assert torch.equal(outputs.logits, made.logits)
    assert torch.equal(outputs.confidence, made.confidence.sigmoid())


def test_network_without_memory_ignores_it() -> None:
    torch.manual_seed(0)
    network = AmodalNetwork(TINY._replace(uses_memory=False)).eval()
    torch.nn.init.normal_(network.residual.weight, std=0.1)
    inputs = frame(OBJECT, OCCLUDER)
    known, _ = network(inputs, remembered(frame(OBJECT), frame(NOTHING)))
    unknown, _ = network(inputs, blank())
    assert torch.equal(known.logits, unknown.logits)
    assert torch.equal(known.confidence, unknown.confidence)
