"""Given masks: ids pass through, missing ones are found, hidden objects keep theirs."""

from collections.abc import Sequence

import numpy as np
import pytest

from amodal_model import GivenSource, stream
from amodal_model.errors import InputError, LimitError
from amodal_model.given_prompts import MAX_ID, MAX_OBJECTS
from amodal_model.given_state import GivenState
from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_model.pair_evidence import bring_inside, move_unclipped
from amodal_model.source_given import GivenConfig
from amodal_model.visible_source import Expectation, Prompt, VisibleMaskSource

SIZE = (60, 120)


def block(x: int, y: int = 20, width: int = 12, height: int = 12) -> BoxedMask:
    full = np.zeros(SIZE, bool)
    full[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    return box_mask(full)


def play(
    frames: Sequence[Sequence[BoxedMask]], source: GivenSource, state: GivenState
) -> tuple[list[list[int]], GivenState]:
    """Give frames of masks without ids; returns the id of each mask."""
    ids = []
    for masks in frames:
        found, state = source.find(None, [Prompt(None, mask=one) for one in masks], state, {})
        key_of = {id(mask): key for key, mask in found.items()}
        ids.append([key_of[id(mask)] for mask in masks])
    return ids, state


@pytest.fixture
def source() -> GivenSource:
    return GivenSource()


def test_it_is_a_source_with_the_limits_of_the_stream(source: GivenSource) -> None:
    seam: VisibleMaskSource[GivenState] = source
    assert seam.start(SIZE).tracks == ()
    assert MAX_OBJECTS == stream.MAX_OBJECTS
    with pytest.raises(LimitError, match="16384"):
        source.start((0, 20))


def test_given_ids_pass_through(source: GivenSource) -> None:
    prompts = [Prompt(7, mask=block(50)), Prompt(-2, bbox_xyxy=(0, 0, 5, 6))]
    found, _ = source.find(None, prompts, source.start(SIZE), {})
    assert list(found) == [-2, 7]
    assert found[7] is prompts[0].mask
    assert found[-2].area == 30


def test_moving_objects_keep_their_ids_in_any_order(source: GivenSource) -> None:
    frames = [[block(10 + 3 * step), block(90 - 3 * step, 40)] for step in range(20)]
    frames = [masks[:: 1 if step % 2 else -1] for step, masks in enumerate(frames)]
    ids, _ = play(frames, source, source.start(SIZE))
    ids = [one[:: 1 if step % 2 else -1] for step, one in enumerate(ids)]
    assert all(one == ids[0] for one in ids)


def test_a_mask_far_from_all_is_a_new_object(source: GivenSource) -> None:
    ids, _ = play([[block(10)], [block(10), block(100, 45)]], source, source.start(SIZE))
    assert ids == [[1], [1, 2]]


def test_a_hidden_object_comes_back_where_the_amodal_state_expects_it(source: GivenSource) -> None:
    def returned(expected: dict[int, Expectation]) -> int:
        frames = [[block(10), block(100, 45)], [block(100, 45)], [block(100, 45)]]
        (first, *_), state = play(frames, source, source.start(SIZE))
        prompts = [Prompt(None, mask=block(100, 45)), Prompt(None, mask=block(74, 24, 3, 4))]
        found, _ = source.find(None, prompts, state, expected)
        (key,) = (key for key, mask in found.items() if mask is prompts[1].mask)
        return key - first[0]

    assert returned({1: Expectation(block(70), 1.0, 2.0)}) == 0
    assert returned({1: Expectation(block(10), 1.0, 2.0)}) > 0
    assert returned({}) > 0


def test_of_two_hidden_objects_the_one_expected_there_comes_back(source: GivenSource) -> None:
    ids, state = play([[block(10), block(30)], [], []], source, source.start(SIZE))
    expected = {
        ids[0][0]: Expectation(block(60), 1.0, 2.0),
        ids[0][1]: Expectation(block(10), 1.0, 2.0),
    }
    prompts = [Prompt(None, mask=block(14, 22, 4, 4)), Prompt(None, mask=block(62, 22, 4, 4))]
    found, _ = source.find(None, prompts, state, expected)
    assert found[ids[0][1]] is prompts[0].mask
    assert found[ids[0][0]] is prompts[1].mask


def test_of_two_hidden_objects_the_one_of_its_colours_comes_back(source: GivenSource) -> None:
    """Both are behind one wall and expected at the same place; only the image tells them apart."""
    red, blue, wall = block(20), block(60), block(30, 5, 40, 45)
    image = np.full((*SIZE, 3), 90, np.uint8)

    def returned(colour: tuple[int, int, int] | None) -> int:
        shown = image.copy()
        shown[red.full()], shown[blue.full()] = (200, 30, 30), (30, 30, 200)
        state = source.start(SIZE)
        for masks in ([red, blue], [], []):
            prompts = [Prompt(9, mask=wall), *(Prompt(None, mask=one) for one in masks)]
            frame = None if colour is None else shown
            _, state = source.find(frame, prompts, state, {})
        back = block(44, 20)
        later = image.copy()
        later[back.full()] = colour or (0, 0, 0)
        expected = {key: Expectation(block(44), 1.0, 2.0) for key in (10, 11)}
        prompts = [Prompt(9, mask=box_mask(wall.full() & ~back.full())), Prompt(None, mask=back)]
        found, _ = source.find(None if colour is None else later, prompts, state, expected)
        return next(key for key in found if key != 9)

    assert returned((200, 30, 30)) == 10
    assert returned((30, 30, 200)) == 11
    assert returned(None) in (10, 11)


def test_an_object_that_only_the_amodal_state_knows_is_found(source: GivenSource) -> None:
    expected = {40: Expectation(block(60), 1.0, 3.0)}
    found, _ = source.find(None, [Prompt(None, mask=block(61))], source.start(SIZE), expected)
    assert list(found) == [40]


def test_hidden_objects_move_with_the_scene(source: GivenSource) -> None:
    """A camera that turns moves what is hidden as far as what shows."""
    others = [(10, 2), (40, 2), (70, 2)]

    def frame(step: int, *, is_shown: bool) -> list[BoxedMask]:
        masks = [block(x + 2 * step, y) for x, y in others]
        return [*masks, block(20 + 2 * step, 40)] if is_shown else masks

    frames = [frame(step, is_shown=step < 3 or step == 17) for step in range(18)]
    ids, _ = play(frames, source, source.start(SIZE))
    assert ids[17][3] == ids[0][3]


def beyond(x: int, y: int = 20, side: int = 12) -> Expectation:
    """Return an object that is expected outside of the frame, to the left of it."""
    whole = BoxedMask((x, y, x + side, y + side), np.ones((side, side), bool), SIZE)
    return Expectation(empty_mask(SIZE), 1.0, 1.0, whole)


def test_of_two_objects_beyond_the_frame_the_nearer_one_comes_back(source: GivenSource) -> None:
    """The camera turned away from both, and turns back."""
    prompts = [Prompt(None, mask=block(0, 22, 3))]
    for places, nearer in (((-14, -18), 1), ((-18, -14), 2)):
        expected = {key: beyond(x) for key, x in zip((1, 2), places, strict=True)}
        found, _ = source.find(None, prompts, source.start(SIZE), expected)
        assert list(found) == [nearer]


def test_an_object_that_left_the_frame_keeps_its_place_beyond_it(source: GivenSource) -> None:
    def scene(moved: int, *others: BoxedMask) -> list[BoxedMask]:
        return [block(60 + moved, 2), block(75 + moved, 20), block(90 + moved, 45), *others]

    _, state = play([scene(0, block(0))], source, source.start(SIZE))
    prompts = [Prompt(None, mask=one) for one in scene(-8)]
    _, state = source.find(None, prompts, state, {4: beyond(-13)})
    _, state = play([scene(-16), scene(-24)], source, state)
    track = source.load_state(source.save_state(state)).tracks[3]
    assert track.last.area == 144
    assert track.last.bbox_xyxy == (0, 20, 12, 32)
    assert track.moved[0] == pytest.approx(-13 - 16, abs=2)
    ids, _ = play([scene(-16), scene(-8, block(-5))], source, state)
    assert ids[1][3] == 4


def test_a_silhouette_beyond_the_frame_is_brought_inside() -> None:
    for box, way in (((-30, 20, -18, 32), (30, 0)), ((110, 55, 125, 70), (-5, -10))):
        width, height = box[2] - box[0], box[3] - box[1]
        mask = BoxedMask(box, np.ones((height, width), bool), SIZE)
        inside, moved = bring_inside(mask)
        assert moved == way
        assert inside.area == mask.area
        assert move_unclipped(inside, -way[0], -way[1]).bbox_xyxy == box
    huge, _ = bring_inside(BoxedMask((-50, -50, 200, 200), np.ones((250, 250), bool), SIZE))
    assert huge.bbox_xyxy == (0, 0, SIZE[1], SIZE[0])


def test_a_sliver_beside_a_larger_part_is_not_the_object(source: GivenSource) -> None:
    """The part hides nothing of the object before it is known whose it is."""
    _, state = play([[block(48)]], source, source.start(SIZE))
    sliver, part = block(48, 20, 3), block(52)
    expected = {1: Expectation(block(48), 1.0, 0.0)}
    found, _ = source.find(
        None, [Prompt(None, mask=sliver), Prompt(None, mask=part)], state, expected
    )
    assert found[1] is part


def test_what_was_pushed_while_it_was_hidden_comes_back(source: GivenSource) -> None:
    """Two and a half reaches beside its silhouette; nothing else could be there."""
    expected = {40: Expectation(block(10), 1.0, 3.0)}
    for x, is_known in ((38, True), (60, False)):
        prompts = [Prompt(None, mask=block(x, 22, 4, 4))]
        found, _ = source.find(None, prompts, source.start(SIZE), expected)
        assert (list(found) == [40]) == is_known


def test_new_ids_are_none_that_were_ever_in_use(source: GivenSource) -> None:
    prompts = [Prompt(30, mask=block(10)), Prompt(None, mask=block(60))]
    expected = {50: Expectation(empty_mask(SIZE), 1.0, 3.0)}
    found, state = source.find(None, prompts, source.start(SIZE), expected)
    assert sorted(found) == [30, 51]
    gone = [Prompt(30, remove=True), Prompt(51, remove=True)]
    _, state = source.find(None, gone, state, {})
    assert state.tracks == ()
    found, _ = source.find(None, [Prompt(None, mask=block(10))], state, {})
    assert list(found) == [52]
    _, state = source.find(None, [Prompt(MAX_ID, mask=block(10))], state, {})
    with pytest.raises(LimitError, match="no id is left"):
        source.find(None, [Prompt(None, mask=block(100, 45))], state, {})


def test_an_id_that_is_given_is_not_found_again(source: GivenSource) -> None:
    (ids, *_), state = play([[block(10)]], source, source.start(SIZE))
    prompts = [Prompt(ids[0], mask=block(100, 40)), Prompt(None, mask=block(10))]
    found, _ = source.find(None, prompts, state, {})
    assert found[ids[0]] is prompts[0].mask
    assert len(found) == 2


def test_split_merged_and_overlapping_masks_all_get_ids(source: GivenSource) -> None:
    whole = block(20, width=40)
    frames = [[whole], [block(20, width=18), block(42, width=18)], [whole, block(30)]]
    ids, _ = play(frames, source, source.start(SIZE))
    assert all(len(set(one)) == len(one) for one in ids)
    assert ids[0][0] in ids[1]
    assert ids[2][0] in ids[1]


def test_what_is_hidden_for_too_long_is_forgotten() -> None:
    source = GivenSource(GivenConfig(max_hidden_frames=2))
    ids, state = play([[block(10)], [], [], [block(10)]], source, source.start(SIZE))
    assert ids[3] == ids[0]
    ids, state = play([[], [], []], source, state)
    assert state.tracks == ()


def test_of_too_many_objects_the_longest_hidden_are_forgotten(source: GivenSource) -> None:
    many = [Prompt(key, mask=block(10)) for key in range(MAX_OBJECTS)]
    _, state = source.find(None, many, source.start(SIZE), {})
    _, state = source.find(None, [Prompt(5000, mask=block(60))], state, {})
    assert len(state.tracks) == MAX_OBJECTS
    assert state.tracks[-1].track_id == 5000


def test_a_bad_frame_leaves_the_state_as_it_was(source: GivenSource) -> None:
    _, state = play([[block(10)]], source, source.start(SIZE))
    with pytest.raises(InputError, match="twice"):
        source.find(None, [Prompt(1, mask=block(10)), Prompt(1, mask=block(40))], state, {})
    wrong = {1: Expectation(empty_mask((5, 5)), 1.0, 0.0)}
    with pytest.raises(InputError, match="expected silhouette"):
        source.find(None, [Prompt(None, mask=block(10))], state, wrong)
    assert play([[block(11)]], source, state)[0] == [[1]]


def test_a_saved_state_goes_on_as_if_it_had_not_stopped(source: GivenSource) -> None:
    frames = [[block(10 + 3 * step), block(90 - 2 * step, 40)] for step in range(9)]
    frames[5:7] = [[masks[1]] for masks in frames[5:7]]
    straight, _ = play(frames, source, source.start(SIZE))
    first, state = play(frames[:6], source, source.start(SIZE))
    arrays = source.save_state(state)
    assert all(type(array) is np.ndarray for array in arrays.values())
    rest, _ = play(frames[6:], source, source.load_state(arrays))
    assert first + rest == straight
    empty = source.load_state(source.save_state(source.start(SIZE)))
    assert empty == source.start(SIZE)


def test_saved_colours_are_those_of_their_objects(source: GivenSource) -> None:
    image = np.full((*SIZE, 3), (200, 30, 30), np.uint8)
    _, state = source.find(None, [Prompt(None, mask=block(100, 45))], source.start(SIZE), {})
    masks = [Prompt(None, mask=block(10)), Prompt(None, mask=block(40, 5))]
    _, state = source.find(image, masks, state, {})
    again = source.load_state(source.save_state(state))
    known = [track.colours.size > 0 for track in state.tracks]
    assert sorted(known) == [False, True, True]
    for before, after in zip(state.tracks, again.tracks, strict=True):
        np.testing.assert_array_equal(before.colours, after.colours)


@pytest.mark.parametrize("name", ["pixels", "bbox_xyxy", "track_ids", "scene_velocity"])
def test_a_broken_saved_state_is_refused(source: GivenSource, name: str) -> None:
    _, state = play([[block(10), block(50)]], source, source.start(SIZE))
    arrays = source.save_state(state)
    with pytest.raises(InputError, match=f"no array '{name}'"):
        source.load_state({key: value for key, value in arrays.items() if key != name})
    with pytest.raises(InputError, match="another shape"):
        source.load_state(arrays | {name: arrays[name][:1]})
