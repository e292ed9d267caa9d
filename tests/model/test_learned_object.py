"""What the following network is told, and what is remembered of its answers."""

import cv2
import numpy as np

from amodal_model.follow_sight import MovingView, first_sight, moving_view, next_sight, sight_again
from amodal_model.geometry import Window
from amodal_model.image_motion import FrameView
from amodal_model.learned_object import (
    CUES,
    KEY_CHANNELS,
    KEY_SIDE,
    KEYS,
    RENEWAL_FRAMES,
    SIDE,
    LearnedObject,
    begun,
    gone_on,
    key_weights,
)

SIZE = (120, 160)
WINDOW = Window(80.0, 60.0, 96.0)
NO_KEYS = np.zeros((KEY_CHANNELS, KEYS), np.float32)


def _image(shift: int = 0) -> np.ndarray:
    """Return a red square of 40 pixels on a grey texture; everything is shifted."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.integers(60, 160, SIZE).astype(np.float32), (0, 0), 1.5)
    image = np.dstack([noise] * 3).astype(np.uint8)
    image[40:80, 60:100] = (200, 40, 40)
    return np.roll(image, shift, axis=1)


def _map() -> np.ndarray:
    prob = np.zeros((SIDE, SIDE), np.float32)
    prob[28:68, 28:68] = 1.0  # the window begins at (32, 12)
    return prob


def _thing() -> LearnedObject:
    return begun(first_sight(_image(), WINDOW, _map(), None), _map(), NO_KEYS)


def _view(shift: int) -> MovingView:
    flow = np.zeros((*SIZE, 2), np.float32)
    flow[..., 0] = -shift
    greys = [np.ascontiguousarray(_image(s)[..., 1]) for s in (shift, 0)]
    return moving_view(FrameView(_image(shift), 1.0, flow), 0 * flow, (greys[0], greys[1]))


def test_a_prompt_is_told_its_box_and_its_guess() -> None:
    sight = first_sight(_image(), WINDOW, _map(), (60.0, 40.0, 100.0, 80.0))
    assert sight.cues.shape == (CUES, SIDE, SIDE)
    assert np.array_equal(sight.cues[8] > 0, _map() > 0)
    assert np.array_equal(sight.cues[0], _map())
    assert not first_sight(_image(), WINDOW, _map(), None).cues[8].any()


def test_a_thing_that_moves_is_carried_and_its_picture_agrees() -> None:
    sight = next_sight(_thing(), _view(6))
    assert abs(sight.window.center_x - 86) < 2
    assert (sight.cues[0] > 0.5).mean() > 0.25
    assert sight.cues[6].mean() < 0.1  # nothing changed but its place
    assert sight.cues[1][sight.cues[0] > 0.5].mean() > 0.5
    assert sight.cues[1][sight.cues[0] < 0.1].mean() < -0.3
    on = sight.cues[11] > 0.5
    assert (on == (sight.cues[0] > 0.5)).mean() > 0.95


def test_memory_is_renewed_every_few_frames_and_the_prompts_stays() -> None:
    thing = _thing()
    ones = np.ones((KEY_CHANNELS, KEYS), np.float32)
    for age in range(1, RENEWAL_FRAMES + 1):
        sight = next_sight(thing, _view(0))
        thing = gone_on(thing, sight, sight.cues[0], ones)
        assert thing.keys[1].any() == (age == RENEWAL_FRAMES)
    assert not thing.keys[0].any()


def test_an_object_without_a_pixel_is_out_of_sight_and_found_by_its_colours() -> None:
    thing = _thing()
    gone = gone_on(thing, next_sight(thing, _view(0)), 0 * _map(), NO_KEYS)
    assert gone.frames_gone == 1
    again = sight_again(gone, _view(20), None)
    true = np.zeros(SIZE, bool)
    true[40:80, 80:120] = True
    found = again.cues[0] > 0.5
    share = found.sum() * (again.window.side / SIDE) ** 2 / true.sum()
    assert 0.8 < share < 1.2
    back = gone_on(gone, again, again.cues[0], NO_KEYS)
    assert back.frames_gone == 0
    other = gone_on(gone, again, 1 - again.cues[0], NO_KEYS)
    assert other.frames_gone == 2  # the background is not it


def test_weights_of_keys_are_shares_of_their_squares() -> None:
    weights = key_weights(_map(), np.ones((SIDE, SIDE), np.float32))
    assert np.allclose(weights.sum(0), 1, atol=1e-3)
    square = SIDE / KEY_SIDE
    assert abs(weights[0].sum() * square**2 - _map().sum()) < 5
