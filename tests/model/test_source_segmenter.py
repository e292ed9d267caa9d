"""Segmenters that a user brings, as sources: ids over time, prompts, state, one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_segmenters import write_generic, write_sam2_decoder, write_sam2_encoder, write_yolo

from amodal_model.errors import AmodalError, InputError, LimitError, ModelError
from amodal_model.masks import BoxedMask, box_mask, mask_iou
from amodal_model.source_segmenter import DetectorSource, Sam2Source, open_segmenter
from amodal_model.visible_source import Expectation, Prompt

SIZE = (96, 128)
RADIUS = 11
Boxes = dict[int, BoxedMask]


def disc(x: float, y: float, radius: float = RADIUS) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def frame(*discs: tuple[float, float], bar: tuple[int, int] | None = None) -> np.ndarray:
    """Return dark ground, light discs, and a bar in front of them from one column to another."""
    image = np.full((*SIZE, 3), 20, np.uint8)
    for x, y in discs:
        image[disc(x, y)] = (250, 240, 230)
    if bar is not None:
        image[:, bar[0] : bar[1]] = (20, 20, 20)
    return image


def write_sam2(folder: Path, text: str = "", **changed: Any) -> Path:
    write_sam2_encoder(folder / "e.onnx", side=128)
    write_sam2_decoder(folder / "d.onnx", side=128, masks=2, **changed)
    path = folder / "my.toml"
    path.write_text('kind = "sam2"\nencoder = "e.onnx"\ndecoder = "d.onnx"\n' + text)
    return path


def write_reds_and_blues(folder: Path, text: str = "", **changed: Any) -> Path:
    write_generic(folder / "m.onnx", sides=((1, 3, *SIZE), (2, *SIZE)), **changed)
    path = folder / "my.toml"
    path.write_text('kind = "generic"\nmodel = "m.onnx"\n' + text)
    return path


def opened_sam2(folder: Path, text: str = "") -> Sam2Source:
    source = open_segmenter(write_sam2(folder, text))
    assert isinstance(source, Sam2Source)
    return source


def box_prompt(track_id: int | None, x: float, y: float) -> Prompt:
    reach = RADIUS + 1
    return Prompt(track_id, bbox_xyxy=(x - reach, y - reach, x + reach, y + reach))


def expect(mask: np.ndarray, hidden: float = 0) -> Expectation:
    return Expectation(box_mask(mask), 2.0, hidden)


def test_box_on_the_first_frame_is_followed(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    state = source.start(SIZE)
    for index in range(20):
        x, y = 20 + 4 * index, 30 + index
        prompts = [box_prompt(7, x, y)] if index == 0 else []
        visible, state = source.find(frame((x, y)), prompts, state, {})
        assert mask_iou(visible[7], box_mask(disc(x, y))) > 0.8


def test_two_discs_keep_their_ids_and_share_no_pixel(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    state = source.start(SIZE)
    for index in range(15):
        a, b = (20 + 3 * index, 25), (110 - 3 * index, 70)
        prompts = [box_prompt(1, *a), box_prompt(2, *b)] if index == 0 else []
        visible, state = source.find(frame(a, b), prompts, state, {})
        assert mask_iou(visible[1], box_mask(disc(*a))) > 0.75
        assert mask_iou(visible[2], box_mask(disc(*b))) > 0.75
        assert not (visible[1].full() & visible[2].full()).any()


def run_behind_bar(source: Sam2Source, *, aided: bool) -> list[Boxes]:
    """Return what is visible of a disc that passes behind a bar 30 pixels wide."""
    state, found = source.start(SIZE), []
    for index in range(26):
        x = 16 + 4 * index
        expected = {7: expect(disc(x, 48))} if aided and index else {}
        prompts = [box_prompt(7, x, 48)] if index == 0 else []
        visible, state = source.find(frame((x, 48), bar=(50, 80)), prompts, state, expected)
        found.append(visible)
    return found


@pytest.mark.parametrize("aided", [True, False])
def test_disc_that_comes_back_keeps_its_id(tmp_path: Path, *, aided: bool) -> None:
    found = run_behind_bar(opened_sam2(tmp_path), aided=aided)
    assert 7 in found[4]
    assert found[12] == {}
    assert mask_iou(found[-1][7], box_mask(disc(16 + 4 * 25, 48))) > 0.75


def test_hidden_object_is_not_taken_for_its_occluder(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    state = source.start(SIZE)
    _, state = source.find(frame((60, 48)), [box_prompt(7, 60, 48)], state, {})
    covered = frame((60, 48))
    covered[30:66, 40:84] = (20, 250, 250)
    for _ in range(3):
        visible, state = source.find(covered, [], state, {7: expect(disc(60, 48), 1)})
        assert visible == {}
    visible, state = source.find(frame((60, 48)), [], state, {7: expect(disc(60, 48), 4)})
    assert 7 in visible


def test_point_corrects_and_mask_is_taken_as_it_is(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    given = box_mask(disc(60, 48, 5))
    prompts = [Prompt(3, mask=given), Prompt(None, points=((20.0, 20.0, True),))]
    visible, state = source.find(frame((60, 48), (20, 20)), prompts, source.start(SIZE), {})
    np.testing.assert_array_equal(visible[3].full(), given.full())
    assert mask_iou(visible[4], box_mask(disc(20, 20))) > 0.5
    prompts = [Prompt(3, points=((60.0, 48.0, True), (70.0, 48.0, True)))]
    visible, _ = source.find(frame((60, 48), (20, 20)), prompts, state, {})
    assert mask_iou(visible[3], box_mask(disc(60, 48))) > 0.75


def test_object_is_added_later_and_removed(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    image = frame((30, 30), (100, 60))
    visible, state = source.find(image, [], source.start(SIZE), {})
    assert visible == {}
    _, state = source.find(image, [box_prompt(1, 30, 30)], state, {})
    visible, state = source.find(image, [box_prompt(2, 100, 60)], state, {})
    assert list(visible) == [1, 2]
    visible, state = source.find(image, [Prompt(1, remove=True)], state, {})
    assert list(visible) == [2]
    visible, _ = source.find(image, [], state, {})
    assert list(visible) == [2]


def test_stored_state_goes_on_as_if_never_stored(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    state = source.start(SIZE)
    prompts = [box_prompt(1, 30, 30), box_prompt(None, 100, 60)]
    _, state = source.find(frame((30, 30), (100, 60)), prompts, state, {})
    path = tmp_path / "state.npz"
    np.savez(path, allow_pickle=False, **source.save_state(state))
    with np.load(path) as arrays:
        loaded = source.load_state(dict(arrays))
    image = frame((33, 31))
    one, one_state = source.find(image, [], state, {})
    other, other_state = source.find(image, [], loaded, {})
    assert list(one) == list(other) == [1]
    np.testing.assert_array_equal(one[1].full(), other[1].full())
    for name, array in source.save_state(one_state).items():
        np.testing.assert_array_equal(array, source.save_state(other_state)[name])


@pytest.mark.parametrize("name", ["track_ids", "bbox_xyxy", "pixels_0", "colours", "next_id"])
def test_damaged_state_is_refused(tmp_path: Path, name: str) -> None:
    source = opened_sam2(tmp_path)
    prompts = [box_prompt(1, 30, 30)]
    _, state = source.find(frame((30, 30)), prompts, source.start(SIZE), {})
    arrays = source.save_state(state)
    with pytest.raises(InputError, match="of another shape"):
        source.load_state(arrays | {name: np.zeros((3, 5, 2))})
    del arrays[name]
    with pytest.raises(InputError, match=f"has no array '{name}'"):
        source.load_state(arrays)


NAN = float("nan")


@pytest.mark.parametrize(
    ("prompts", "error", "message"),
    [
        ([Prompt(1, bbox_xyxy=(200, 0, 300, 9))], InputError, "covers nothing of the 128x96"),
        ([Prompt(1, bbox_xyxy=(9, 9, 9, 20))], InputError, "covers nothing"),
        ([Prompt(1, bbox_xyxy=(NAN, 9, 9, 20))], InputError, "is not finite"),
        ([Prompt(1, points=((NAN, 3, True),))], InputError, "is outside the 128x96 frame"),
        ([Prompt(1, points=((500, 3, True),))], InputError, r"point \(500, 3\) of object 1"),
        ([Prompt(1, points=((1, 3, True),) * 2000)], LimitError, "2000 points .* limit 1024"),
        ([Prompt(1)], InputError, "the prompt of object 1 is empty"),
        ([Prompt(1, remove=True), box_prompt(1, 30, 30)], InputError, "contradict each other"),
        ([box_prompt(1, 30, 30), box_prompt(1, 50, 30)], InputError, "contradict each other"),
        ([Prompt(1, mask=box_mask(np.ones((9, 9), bool)))], InputError, "is 9x9, frames are 128"),
        ([Prompt(1, mask=box_mask(np.zeros(SIZE, bool)))], InputError, "mask of object 1 is empty"),
        ([Prompt(1, points=((5, 90, True),))], InputError, "finds nothing at the prompt of obj"),
        ([box_prompt(2**60, 30, 30)], LimitError, "limit 9007199254740992"),
        ([box_prompt(k, 30, 30) for k in range(2000)], LimitError, "2000 prompts of one frame"),
        ([box_prompt(k, 30, 30) for k in range(4)], LimitError, "4 objects, .* max_objects 3"),
        ([box_prompt(1, 30, 30), box_prompt(2, 30, 30)], InputError, "object 2 .* is another's"),
    ],
)
def test_bad_prompts_are_one_clear_line(
    tmp_path: Path, prompts: list[Prompt], error: type[AmodalError], message: str
) -> None:
    source = opened_sam2(tmp_path, "max_objects = 3\n")
    with pytest.raises(error, match=message) as caught:
        source.find(frame((30, 30)), prompts, source.start(SIZE), {})
    assert "\n" not in str(caught.value)


def test_images_are_needed_and_of_the_streams_size(tmp_path: Path) -> None:
    source = opened_sam2(tmp_path)
    with pytest.raises(InputError, match="needs the images of the video"):
        source.find(None, [], source.start(SIZE), {})
    with pytest.raises(InputError, match="image is 9x9, the stream's frames are 128x96"):
        source.find(np.zeros((9, 9, 3), np.uint8), [], source.start(SIZE), {})
    with pytest.raises(LimitError, match="each side must be 1 to 16384"):
        source.start((0, 9))


def paint(image: np.ndarray, channel: int, x: int) -> np.ndarray:
    image = image.copy()
    image[disc(x, 48)] = 0
    image[disc(x, 48), channel] = 255
    return image


def test_detector_without_ids_gets_steady_ones(tmp_path: Path) -> None:
    source = open_segmenter(write_reds_and_blues(tmp_path))
    assert isinstance(source, DetectorSource)
    state, ids = source.start(SIZE), []
    for index in range(12):
        image = paint(np.zeros((*SIZE, 3), np.uint8), 0, 20 + 3 * index)
        image = paint(image, 2, 105 - 2 * index)
        visible, state = source.find(image, [], state, {})
        ids.append({key: round(np.mean(np.nonzero(m.full())[1])) for key, m in visible.items()})
    red, blue = (next(k for k, x in ids[0].items() if abs(x - at) < 3) for at in (20, 105))
    assert red != blue
    for index, found in enumerate(ids):
        assert found == {
            red: pytest.approx(20 + 3 * index, abs=1),
            blue: pytest.approx(105 - 2 * index, abs=1),
        }


def test_detection_of_a_hidden_object_gets_its_old_id_from_the_amodal_state(
    tmp_path: Path,
) -> None:
    source = open_segmenter(write_reds_and_blues(tmp_path))
    empty = np.zeros((*SIZE, 3), np.uint8)
    state = source.start(SIZE)
    visible, state = source.find(paint(empty, 0, 20), [], state, {})
    (red,) = visible
    for index in range(1, 12):
        expected = {red: expect(disc(20 + 8 * index, 48), index)}
        visible, state = source.find(empty, [], state, expected)
        assert visible == {}
    visible, _ = source.find(paint(empty, 0, 110), [], state, {red: expect(disc(110, 48), 12)})
    assert list(visible) == [red]


def test_ids_of_the_model_are_kept(tmp_path: Path) -> None:
    source = open_segmenter(write_reds_and_blues(tmp_path, track_ids=(40, 6)))
    image = paint(paint(np.zeros((*SIZE, 3), np.uint8), 0, 30), 2, 90)
    visible, _ = source.find(image, [], source.start(SIZE), {})
    assert list(visible) == [6, 40]


def test_detector_takes_no_prompts(tmp_path: Path) -> None:
    source = open_segmenter(write_reds_and_blues(tmp_path))
    with pytest.raises(InputError, match="kind 'generic' finds objects by itself and takes no pr"):
        source.find(frame(), [box_prompt(1, 30, 30)], source.start(SIZE), {})


def test_state_of_a_detector_is_stored(tmp_path: Path) -> None:
    source = open_segmenter(write_reds_and_blues(tmp_path))
    image = paint(np.zeros((*SIZE, 3), np.uint8), 0, 30)
    _, state = source.find(image, [], source.start(SIZE), {})
    loaded = source.load_state(source.save_state(state))
    assert list(source.find(image, [], loaded, {})[0]) == [1]


def test_yolo_is_opened_from_its_settings(tmp_path: Path) -> None:
    rows = np.array([[[16, 16, 48, 48, 0.9, 0, 1]]], float)
    write_yolo(tmp_path / "m.onnx", rows, np.full((1, 1, 16, 16), 9.0))
    path = tmp_path / "my.toml"
    path.write_text('kind = "yolo"\nmodel = "m.onnx"\n')
    source = open_segmenter(path)
    visible, _ = source.find(np.zeros((128, 128, 3), np.uint8), [], source.start((128, 128)), {})
    assert [mask.bbox_xyxy for mask in visible.values()] == [(32, 32, 96, 96)]
    assert [graph.actual for graph in source.graphs] == ["CPUExecutionProvider"]


def test_what_a_source_is_made_of_changes_with_its_settings_and_models(tmp_path: Path) -> None:
    path = write_reds_and_blues(tmp_path)
    first = repr(open_segmenter(path))
    assert repr(open_segmenter(path)) == first
    second = repr(open_segmenter(write_reds_and_blues(tmp_path, scores=(0.9, 0.7))))
    third = repr(open_segmenter(write_reds_and_blues(tmp_path, "max_objects = 3\n")))
    assert len({first, second, third}) == 3


def test_broken_model_behind_good_settings_is_one_line(tmp_path: Path) -> None:
    path = write_sam2(tmp_path)
    content = (tmp_path / "d.onnx").read_bytes()
    (tmp_path / "d.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"d.onnx: not an ONNX file, or cut short") as caught:
        open_segmenter(path)
    assert "\n" not in str(caught.value)
