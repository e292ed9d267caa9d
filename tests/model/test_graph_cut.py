"""The cut along edges: what is settled stays, what is likely follows the picture."""

import numpy as np

from amodal_model.graph_cut import BACKGROUND, LIKELY_OBJECT, OBJECT, cut


def _picture() -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy grey picture with a red disc, and the disc."""
    rows, columns = np.mgrid[:60, :60]
    disc = (rows - 30) ** 2 + (columns - 32) ** 2 < 15**2
    noise = np.random.default_rng(0).integers(-12, 12, (60, 60, 3))
    image = np.where(disc[..., None], (200, 40, 40), (110, 120, 110)) + noise
    return image.astype(np.uint8), disc


def test_a_box_around_a_disc_is_cut_to_the_disc() -> None:
    image, disc = _picture()
    labels = np.full((60, 60), BACKGROUND, np.uint8)
    labels[12:48, 14:50] = LIKELY_OBJECT
    found = cut(image, labels, rounds=3)
    assert (found & disc).sum() / (found | disc).sum() > 0.97


def test_the_same_input_gives_the_same_cut() -> None:
    image, _ = _picture()
    labels = np.full((60, 60), BACKGROUND, np.uint8)
    labels[10:50, 10:50] = LIKELY_OBJECT
    assert np.array_equal(cut(image, labels), cut(image, labels))


def test_settled_pixels_stay_whatever_they_look_like() -> None:
    image, _ = _picture()
    labels = np.full((60, 60), BACKGROUND, np.uint8)
    labels[10:50, 10:50] = LIKELY_OBJECT
    labels[2:5, 2:5] = OBJECT
    labels[28:33, 28:33] = BACKGROUND
    found = cut(image, labels)
    assert found[2:5, 2:5].all()
    assert not found[28:33, 28:33].any()


def test_labels_of_one_side_only_are_returned_as_they_are() -> None:
    image, _ = _picture()
    assert cut(image, np.full((60, 60), LIKELY_OBJECT, np.uint8)).all()
    assert not cut(image, np.full((60, 60), BACKGROUND, np.uint8)).any()
