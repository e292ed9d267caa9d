"""What the scene looks like without the things that move: a running model of each pixel.

Two running means a pixel, in YCrCb (light and hue apart, at a tenth of the cost of Lab): the
background, and what is seen instead of it. What is seen instead, unchanged for long enough, becomes
the background: so the ghost of an object that has left goes away, and a thing that was put down
becomes part of the scene. Pixels under objects that are followed are given much longer.

Source: two models a pixel, moved with the camera, after Yi et al., Detection of Moving Objects with
Non-stationary Cameras in 5.8ms, CVPR workshops 2013.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

CHANNEL_WEIGHTS = np.array([[1.0, 2.0, 2.0]], np.float32)
"""Of Y, Cr, Cb in the squared distance of two colours: hue is worth more than light."""


class BackgroundConfig(NamedTuple):
    """How the background is learned and told apart.

    Attributes:
        slowest: least learning rate a frame.
        first_variance: of a pixel that has just been seen, squared distance.
        sigmas_squared: squared distance over variance from which a pixel is foreground.
        least_distance: squared distance below which it never is.
        misplaced_px: by how much a background that was never resampled may be misplaced.
        resampled_px: the same under a moving camera.
        shadow: least and greatest ratio of light in a shadow to light without it.
        shadow_hue: squared distance of hue below which a darker pixel may be in shadow.
        slowest_unsteady: the same while the camera moves.
        absorb: frames after which what is seen instead becomes the background, while the camera
            rests and while it moves.
        absorb_held: the same under an object that is followed.
    """

    slowest: float = 0.01
    first_variance: float = 40.0
    sigmas_squared: float = 12.0
    least_distance: float = 150.0
    misplaced_px: float = 0.2
    resampled_px: float = 0.6
    shadow: tuple[float, float] = (0.5, 0.98)
    shadow_hue: float = 16.0
    slowest_unsteady: float = 0.1
    absorb: tuple[float, float] = (40.0, 15.0)
    absorb_held: tuple[float, float] = (600.0, 15.0)


class Background(NamedTuple):
    """The model of each pixel.

    Attributes:
        mean: YCrCb colour, 8-bit scale.
        variance: squared distance that is usual there.
        age: frames it was learned from; 0 where nothing is known.
        other: YCrCb colour of what is seen instead.
        other_age: for how many frames.
    """

    mean: Float32[np.ndarray, "H W 3"]
    variance: Float32[np.ndarray, "H W"]
    age: Float32[np.ndarray, "H W"]
    other: Float32[np.ndarray, "H W 3"]
    other_age: Float32[np.ndarray, "H W"]


class Difference(NamedTuple):
    """How a frame differs from the background.

    Attributes:
        score: squared distance over what is tolerated; foreground above 1, 0 where unknown.
        is_shadow: darker by as much as a shadow, and of the same hue.
    """

    score: Float32[np.ndarray, "H W"]
    is_shadow: Bool[np.ndarray, "H W"]


def new_background(frame_size: tuple[int, int]) -> Background:
    """Return the model of a scene that was never seen."""
    nothing = np.zeros(frame_size, np.float32)
    color = np.zeros((*frame_size, 3), np.float32)
    return Background(color, nothing, nothing.copy(), color.copy(), nothing.copy())


def move_background(model: Background, model_from_frame: Float64[np.ndarray, "2 3"]) -> Background:
    """Return the model resampled into a frame's pixels; what comes into view is unknown."""
    height, width = model.age.shape

    def warp(values: np.ndarray, interpolation: int) -> np.ndarray:
        flags = interpolation | cv2.WARP_INVERSE_MAP
        # a border of zeros would darken the edge pixels that are interpolated
        border = cv2.BORDER_REPLICATE if interpolation == cv2.INTER_LINEAR else cv2.BORDER_CONSTANT
        return cv2.warpAffine(
            values, model_from_frame, (width, height), flags=flags, borderMode=border
        )

    return Background(
        warp(model.mean, cv2.INTER_LINEAR),
        warp(model.variance, cv2.INTER_LINEAR),
        warp(model.age, cv2.INTER_NEAREST),
        warp(model.other, cv2.INTER_LINEAR),
        warp(model.other_age, cv2.INTER_NEAREST),
    )


def brighten(model: Background, colors: Float32[np.ndarray, "H W 3"]) -> Background:
    """Return the model under the light of this frame: a camera's exposure changes as a whole."""
    grid = (slice(None, None, 8), slice(None, None, 8))
    known = model.age[grid] > 0
    if not known.any():
        return model
    change = np.median((colors[grid] - model.mean[grid])[known], axis=0)
    if np.abs(change).max() < 1:
        return model
    return model._replace(mean=model.mean + change.astype(np.float32))


def difference(
    model: Background,
    colors: Float32[np.ndarray, "H W 3"],
    config: BackgroundConfig,
    *,
    unsteadiness: float,
) -> Difference:
    """Return how a frame differs from the background.

    A contour that is misplaced by a fraction of a pixel differs by that fraction of its gradient,
    so that much is tolerated.

    Args:
        model: in the frame's pixels.
        colors: the frame.
        config: what is tolerated.
        unsteadiness: 1 where the model has just been resampled, 0 where it never was.
    """
    apart = cv2.subtract(colors, model.mean)
    squared = cv2.multiply(apart, apart)
    distance = cv2.transform(squared, CHANNEL_WEIGHTS)
    light = cv2.extractChannel(model.mean, 0)
    misplaced = config.misplaced_px + unsteadiness * (config.resampled_px - config.misplaced_px)
    tolerated = config.sigmas_squared * (model.variance + misplaced**2 * _steepness(light))
    score = distance / (tolerated + np.float32(config.least_distance))
    score[model.age == 0] = 0
    hue = cv2.transform(squared, np.array([[0, 1, 1]], np.float32))
    seen = cv2.extractChannel(colors, 0)
    low, high = config.shadow
    is_shadow = (seen > low * light) & (seen < high * light) & (hue < config.shadow_hue)
    return Difference(np.asarray(score, np.float32), is_shadow)


def _steepness(light: Float32[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """Return the squared gradient a pixel."""
    x = cv2.Sobel(light, cv2.CV_32F, 1, 0, scale=0.125)
    y = cv2.Sobel(light, cv2.CV_32F, 0, 1, scale=0.125)
    return np.asarray(x * x + y * y, np.float32)


def learn(
    model: Background,
    colors: Float32[np.ndarray, "H W 3"],
    score: Float32[np.ndarray, "H W"],
    held: UInt8[np.ndarray, "H W"],
    config: BackgroundConfig,
    *,
    unsteadiness: float,
) -> Background:
    """Return the model after a frame.

    Args:
        model: before it, in the frame's pixels.
        colors: the frame.
        score: of `difference`.
        held: 1 on objects that are followed: nothing of the scene is learned there.
        config: rates.
        unsteadiness: 1 where the model has just been resampled: then it follows quickly.
    """
    fits = ((score <= 1) & (held == 0)).astype(np.float32)
    slowest = config.slowest + unsteadiness * (config.slowest_unsteady - config.slowest)
    rate = fits * np.maximum(1 / (model.age + 1), np.float32(slowest))
    apart = cv2.subtract(colors, model.mean)
    distance = cv2.transform(cv2.multiply(apart, apart), CHANNEL_WEIGHTS)
    mean = cv2.add(model.mean, cv2.multiply(apart, cv2.merge([rate] * 3)))
    usual = np.where(model.age == 0, np.float32(config.first_variance), model.variance)
    slow = np.minimum(rate, np.float32(0.05))
    variance = usual + slow * (np.minimum(distance, 4 * usual + 50) - usual)
    moved = Background(mean, variance, model.age + fits, model.other, model.other_age)
    limit, held_limit = (
        steady + unsteadiness * (unsteady - steady)
        for steady, unsteady in (config.absorb, config.absorb_held)
    )
    # what was learned in a few frames is given up as quickly
    limits = np.minimum(model.age + 6, np.float32(limit))
    limits = np.where(held > 0, np.float32(held_limit), limits)
    return _absorb(_learn_other(moved, colors, fits), limits, config)


def _learn_other(
    model: Background, colors: Float32[np.ndarray, "H W 3"], fits: Float32[np.ndarray, "H W"]
) -> Background:
    """Learn what is seen instead of the background, anew where it changes."""
    where = np.flatnonzero(fits == 0)
    other, other_age = model.other.reshape(-1, 3).copy(), (0.95 * model.other_age).ravel()
    apart = colors.reshape(-1, 3)[where] - other[where]
    is_same = (apart * apart) @ CHANNEL_WEIGHTS[0] < 200
    age = np.where(is_same, model.other_age.ravel()[where] + 1, np.float32(1))
    other[where] += apart / age[:, None]
    other_age[where] = age
    shape = model.age.shape
    return model._replace(other=other.reshape(*shape, 3), other_age=other_age.reshape(shape))


def _absorb(
    model: Background, limits: Float32[np.ndarray, "H W"], config: BackgroundConfig
) -> Background:
    is_old = model.other_age > limits
    if not is_old.any():
        return model
    chosen = is_old.astype(np.uint8)
    mean = cv2.copyTo(model.other, chosen, model.mean.copy())
    variance = np.where(is_old, np.float32(config.first_variance), model.variance)
    age = np.where(is_old, np.minimum(model.other_age, 20), model.age)
    other_age = np.where(is_old, np.float32(0), model.other_age)
    return model._replace(mean=mean, variance=variance, age=age, other_age=other_age)


def forget(
    model: Background, colors: Float32[np.ndarray, "H W 3"], where: Bool[np.ndarray, "H W"]
) -> Background:
    """Return the model with some pixels replaced by what the frame shows there."""
    chosen = where.astype(np.uint8)
    return model._replace(
        mean=cv2.copyTo(colors, chosen, model.mean.copy()),
        age=np.where(where, np.float32(5), model.age),
        other_age=np.where(where, np.float32(0), model.other_age),
    )


def colors_of(image: UInt8[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
    """Return an RGB image in YCrCb, 8-bit scale, as float."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).astype(np.float32)
