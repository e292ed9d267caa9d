"""Offline mode: what shows later is known before, window by window."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from amodal_model import offline
from amodal_model.clip import Mode, segment_clip
from amodal_model.composition import Estimate, Evidence
from amodal_model.geometry import Window
from amodal_model.masks import BoxedMask, box_mask, empty_mask, mask_iou, overlap_area
from amodal_model.results import ObjectResult
from amodal_model.stream import AmodalSegmenter

SIZE = (60, 100)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> BoxedMask:
    mask = np.zeros(SIZE, bool)
    mask[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return box_mask(mask)


BALL = rectangle(40, 20, 60, 40)


def leaving_wall(frames: int) -> list[dict[int, BoxedMask]]:
    """Return a wall (1) that uncovers the standing ball (2) from its left side to all of it."""
    scene = []
    for index in range(frames):
        wall = rectangle(44 + index, 0, 84 + index, 60)
        scene.append({1: wall, 2: box_mask(BALL.full() & ~wall.full())})
    return scene


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work through clips 8 frames at a time, 4 ahead."""
    monkeypatch.setattr(offline, "WINDOW_FRAMES", 8)
    monkeypatch.setattr(offline, "AHEAD_FRAMES", 4)


@pytest.fixture(scope="module")
def evidence_segmenter() -> AmodalSegmenter:
    torch = pytest.importorskip("torch")
    from amodal_model.engine_torch import TorchEngine  # noqa: PLC0415
    from amodal_model.network import AmodalNetwork, NetworkConfig  # noqa: PLC0415

    torch.manual_seed(0)
    return AmodalSegmenter(TorchEngine(AmodalNetwork(NetworkConfig((8, 8, 8), (1, 1, 1)))))


def ball_of(objects: tuple[ObjectResult, ...]) -> ObjectResult:
    return next(entry for entry in objects if entry.track_id == 2)


@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("length", [0, 1, 7, 8, 12, 13, 16, 27])
def test_every_frame_has_one_result(tiny_segmenter: AmodalSegmenter, length: int) -> None:
    scene = leaving_wall(length)
    results = list(segment_clip(tiny_segmenter, scene, SIZE, "offline"))
    assert len(results) == length
    for visible, result in zip(scene, results, strict=True):
        assert [entry.track_id for entry in result.objects] == [1, 2]
        for entry in result.objects:
            given = visible[entry.track_id]
            np.testing.assert_array_equal(entry.visible.full(), given.full())
            assert overlap_area(entry.amodal, given) == given.area


def test_part_hidden_at_first_is_known_from_the_future(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    scene = leaving_wall(24)
    causal = next(segment_clip(evidence_segmenter, scene, SIZE, "causal"))
    both = next(segment_clip(evidence_segmenter, scene, SIZE, "offline"))
    assert mask_iou(ball_of(causal.objects).amodal, BALL) < 0.4
    assert mask_iou(ball_of(both.objects).amodal, BALL) > 0.8
    assert both.order == ((1, 2),)
    assert ball_of(causal.objects).remembered.area < 40
    known = ball_of(both.objects)
    assert known.remembered.area > 0.8 * known.inferred.area
    assert overlap_area(known.remembered, known.inferred) == known.remembered.area


@pytest.mark.usefixtures("short_windows")
def test_frames_ahead_reach_across_windows(evidence_segmenter: AmodalSegmenter) -> None:
    """The last frame of a window knows what the first frames of the next one show."""
    closed = {
        1: rectangle(44, 0, 84, 60),
        2: box_mask(BALL.full() & ~rectangle(44, 0, 84, 60).full()),
    }
    scene = [closed] * 8 + [{2: BALL}] * 4
    results = list(segment_clip(evidence_segmenter, scene, SIZE, "offline"))
    assert mask_iou(ball_of(results[7].objects).amodal, BALL) > 0.8


@pytest.mark.usefixtures("short_windows")
def test_object_lost_for_good_stays_lost(tiny_segmenter: AmodalSegmenter) -> None:
    config = tiny_segmenter.config._replace(max_hidden_frames=6)
    segmenter = AmodalSegmenter(tiny_segmenter.engine, config)
    wall = {1: rectangle(0, 0, 100, 60)}
    scene = [{2: BALL}, *[wall] * 20]
    results = list(segment_clip(segmenter, scene, SIZE, "offline"))
    states = [ball_of(result.objects).state for result in results]
    assert states[3] == "hidden"
    assert states[9:] == ["lost"] * 12


@pytest.mark.usefixtures("short_windows")
def test_frames_are_read_no_further_than_the_window(tiny_segmenter: AmodalSegmenter) -> None:
    read = 0

    def frames() -> Iterator[dict[int, BoxedMask]]:
        nonlocal read
        for visible in leaving_wall(40):
            read += 1
            yield visible

    results = segment_clip(tiny_segmenter, frames(), SIZE, "offline")
    next(results)
    assert read == 12
    for _ in range(8):
        next(results)
    assert read == 20


@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_frames_without_masks_give_nothing(tiny_segmenter: AmodalSegmenter, mode: Mode) -> None:
    frames: list[dict[int, BoxedMask]] = [{}] * 5
    results = list(segment_clip(tiny_segmenter, frames, SIZE, mode))
    assert [result.objects for result in results] == [()] * 5


def test_hidden_object_goes_over_from_one_place_to_the_other(
    evidence_segmenter: AmodalSegmenter,
) -> None:
    """It is hidden for seven frames, and comes out 24 pixels to the right of where it was."""
    wall = rectangle(0, 0, 100, 60)
    before, after = rectangle(20, 20, 40, 40), rectangle(44, 20, 64, 40)
    scene = [{2: before}] * 6 + [{1: wall}] * 7 + [{2: after}] * 6
    results = list(segment_clip(evidence_segmenter, scene, SIZE, "offline"))
    for index in range(6, 13):
        x = 20 + 24 * (index - 5) // 8
        between = rectangle(x, 20, x + 20, 40)
        assert mask_iou(ball_of(results[index].objects).amodal, between) > 0.8, index


def test_place_between_is_weighed_by_the_frames_to_both_sights() -> None:
    def estimate(center_x: float, hidden: float) -> Estimate:
        window = Window(center_x, 30.0, 40.0)
        logits = np.where(rectangle(40, 20, 60, 40).full()[:40, 30:70], 5, -5).astype(np.float32)
        nothing = Evidence(window, np.zeros((2, 48, 48), np.float32))
        return Estimate(2, empty_mask(SIZE), window, logits, (0.5, 0.5), hidden, nothing)

    first, second = offline._meet(estimate(30, 3), estimate(70, 1))
    assert first.window.center_x == pytest.approx(60)
    assert second.window.center_x == pytest.approx(60)
    assert first.evidence.window == first.window
    assert first.window.center_y == second.window.center_y == 30


def test_surer_direction_gives_the_shape() -> None:
    """Two shapes of unequal confidence: what comes out is the surer one, not what both share."""
    window = Window(50.0, 30.0, 60.0)

    def estimate(shape: BoxedMask, confidence: float) -> Estimate:
        logits = np.where(shape.full()[:, 20:80], 4, -4).astype(np.float32)
        nothing = Evidence(window, np.zeros((2, 48, 48), np.float32))
        visible = rectangle(45, 25, 46, 26)
        return Estimate(2, visible, window, logits, (confidence, confidence), 0.0, nothing)

    wide, tall = rectangle(30, 25, 70, 35), rectangle(45, 10, 55, 50)
    fused = offline._fuse(estimate(wide, 0.8), estimate(tall, 0.5), SIZE)
    x0, y0, x1, y1 = fused.bbox_xyxy
    found = np.zeros(SIZE, bool)
    found[y0:y1, x0:x1] = fused.logits > 0
    assert mask_iou(box_mask(found), wide) > 0.95
