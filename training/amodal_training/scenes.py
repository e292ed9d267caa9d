"""Drawn scenes with exact visible masks: textured things that fly through real, moving footage.

    footage, camera --> background
    things, back to front: shadow, motion blur --> frame and label map
    light, focus, noise, compression --> what a camera would have written

Things hide each other, cross the border, and may look like what is behind them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int16, UInt8

from amodal_training.scene_cutouts import sample_cutout
from amodal_training.scene_footage import Footage, Image
from amodal_training.scene_layers import Layer, Thing, over, sample_figure, sample_puppet
from amodal_training.silhouette_motion import (
    CameraTrack,
    GaitTrack,
    PoseTrack,
    log_uniform,
    sample_camera,
    sample_gait,
    sample_pose,
    wobble,
)
from amodal_training.silhouette_shapes import ShapeLibrary

SCENE_SIZE = (160, 256)
"""(height, width), pixels."""
SCENE_FRAMES = 32
_ALIKE_SHARE = 0.35
"""Of the scenes, whose things have textures of the background's own video."""
_LARGEST_SIZE = 190.0
FLOW_UNIT = 1 / 64
"""Pixels of one step of a stored flow."""


class SceneParts(NamedTuple):
    """What scenes are drawn from.

    Attributes:
        library: outlines.
        footage: backgrounds and textures.
        cutouts: groups of real things, each as likely; maybe none.
    """

    library: ShapeLibrary
    footage: Footage
    cutouts: tuple[tuple[tuple[Layer, ...], ...], ...]


class Scene(NamedTuple):
    """A clip to learn following from.

    Attributes:
        images: (T, H, W, 3) RGB.
        labels: (T, H, W) the thing that shows, from 1; 0 for the background.
        flows: (T, H, W, 2) where each pixel was in the frame before, in ``FLOW_UNIT``; of the
            first frame 0.
    """

    images: UInt8[np.ndarray, "T H W 3"]
    labels: UInt8[np.ndarray, "T H W"]
    flows: Int16[np.ndarray, "T H W 2"]


class Layers(NamedTuple):
    """A drawn clip, and what is where in it.

    Attributes:
        images: (T, H, W, 3) RGB.
        labels: (T, H, W) the thing that shows, from 1; 0 for the background.
        wholes: (T, H, W) bit n - 1 is set where thing n is, whether it shows or not.
    """

    images: UInt8[np.ndarray, "T H W 3"]
    labels: UInt8[np.ndarray, "T H W"]
    wholes: UInt8[np.ndarray, "T H W"]


class Look(NamedTuple):
    """What a camera makes of a scene; random, see `sample_look`."""

    gain: np.ndarray
    tint: np.ndarray
    blur: float
    noise: float
    quality: int
    motion_blur: float
    shadow: float


def draw_scene(parts: SceneParts, rng: np.random.Generator) -> Scene:
    """Return a scene; the same state of ``rng`` gives the same one."""
    images, labels, _ = draw_layers(parts, rng)
    return Scene(images, labels, flows_of(images))


def draw_layers(parts: SceneParts, rng: np.random.Generator) -> Layers:
    """Return a drawn clip and what is where in it."""
    frames, size = SCENE_FRAMES, SCENE_SIZE
    camera = sample_camera(rng, frames, size)
    if rng.random() < 0.4:
        camera = _faster(camera, log_uniform(rng, 1.5, 5.0))
    follows = rng.random() < 0.45
    shared = _still(frames) if follows else camera
    clip = parts.footage[rng.integers(len(parts.footage))]
    background = _Background(clip, rng, camera)
    if rng.random() < _ALIKE_SHARE:
        parts = parts._replace(footage=(clip,))
    things = [_sample_thing(parts, rng, shared) for _ in range(rng.integers(2, 6))]
    look = sample_look(rng, frames)
    images, labels, wholes = [], [], []
    last: list[np.ndarray | None] = [None] * len(things)
    for index in range(frames):
        image, label, whole = _compose(background.draw(index), things, index, look, last)
        images.append(seen_through(image, index, look, rng))
        labels.append(label)
        wholes.append(whole)
    return Layers(np.stack(images), np.stack(labels), np.stack(wholes))


def flows_of(images: UInt8[np.ndarray, "T H W 3"]) -> Int16[np.ndarray, "T H W 2"]:
    """Return the backward flow of each frame, searched at the images' own size."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    flows = np.zeros((*images.shape[:3], 2), np.int16)
    for index in range(1, len(greys)):
        flow = np.zeros((*greys[0].shape, 2), np.float32)
        flow = search.calc(greys[index], greys[index - 1], flow)
        flows[index] = np.clip(np.rint(flow / FLOW_UNIT), -32000, 32000)
    return flows


def _still(frames: int) -> CameraTrack:
    return CameraTrack(np.zeros(frames), np.zeros(frames), np.ones(frames))


def _faster(camera: CameraTrack, factor: float) -> CameraTrack:
    return replace(camera, shift_x=camera.shift_x * factor, shift_y=camera.shift_y * factor)


def _sample_thing(parts: SceneParts, rng: np.random.Generator, camera: CameraTrack) -> Thing:
    pose = sample_pose(rng, camera.zoom.size, SCENE_SIZE, camera)
    pose = replace(pose, size=np.minimum(pose.size * rng.uniform(1.0, 1.7), _LARGEST_SIZE))
    return _thing_along(parts, rng, pose)


def sample_thing(
    parts: SceneParts,
    rng: np.random.Generator,
    frames: int,
    place: Callable[[PoseTrack], PoseTrack],
) -> Thing:
    """Return a thing with random looks along a path of one's own.

    Args:
        parts: what it is drawn from.
        rng: of everything random.
        frames: length of its path.
        place: puts a random path, seen by a camera that stands still, where it is wanted.
    """
    return _thing_along(parts, rng, place(sample_pose(rng, frames, SCENE_SIZE, _still(frames))))


def _thing_along(parts: SceneParts, rng: np.random.Generator, pose: PoseTrack) -> Thing:
    frames = pose.size.size
    gait: GaitTrack = sample_gait(rng, frames)
    draw = rng.random()
    if parts.cutouts and draw < 0.3:
        group = parts.cutouts[rng.integers(len(parts.cutouts))]
        return sample_cutout(group, rng, pose)
    if draw < 0.65:
        return sample_figure(parts.footage, rng, pose, gait)
    return sample_puppet(parts.library, parts.footage, rng, pose, gait)


class _Background:
    """Footage seen through a window that the camera moves."""

    def __init__(
        self, clip: UInt8[np.ndarray, "T H W 3"], rng: np.random.Generator, camera: CameraTrack
    ) -> None:
        frames = camera.zoom.size
        step = int(rng.choice([0, 1, 2], p=[0.35, 0.5, 0.15]))
        turn = (rng.integers(len(clip)) + step * np.arange(frames)) % (2 * len(clip) - 1)
        self._images = clip
        self._indices = np.minimum(turn, 2 * len(clip) - 2 - turn)
        height, width = clip.shape[1:3]
        largest = min(width / SCENE_SIZE[1], height / SCENE_SIZE[0])
        self._scale = log_uniform(rng, 0.55 * largest, largest) / camera.zoom
        room = np.array([width, height]) - self._scale[0] * np.array(SCENE_SIZE[::-1])
        corner = np.clip(room, 0, None) * rng.random(2)
        self._centre = corner + self._scale[0] * np.array(SCENE_SIZE[::-1]) / 2
        self._camera = camera
        self._angle = float(rng.choice([0.0, 0.03])) * wobble(rng, frames, 12.0)
        self._mirrored = rng.random() < 0.5

    def draw(self, index: int) -> Image:
        image = self._images[self._indices[index]]
        camera, scale = self._camera, self._scale[index]
        shift = np.array([camera.shift_x[index], camera.shift_y[index]])
        centre = self._centre - scale * shift
        cosine, sine = np.cos(self._angle[index]) * scale, np.sin(self._angle[index]) * scale
        turn = np.array([[cosine, -sine], [sine, cosine]])
        height, width = SCENE_SIZE
        offset = centre - turn @ (width / 2, height / 2)
        matrix = np.concatenate([turn, offset[:, None]], 1)
        drawn = cv2.warpAffine(
            image,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        return np.ascontiguousarray(drawn[:, ::-1] if self._mirrored else drawn, np.uint8)


def sample_look(rng: np.random.Generator, frames: int) -> Look:
    """Return a random look."""
    changes = rng.random() < 0.4
    gain = np.exp(0.15 * wobble(rng, frames, 20.0)) if changes else np.ones(frames)
    return Look(
        gain=np.clip(gain, 0.5, 1.8),
        tint=np.exp(rng.normal(0, 0.06, 3)),
        blur=float(rng.uniform(0.3, 1.1)) if rng.random() < 0.4 else 0.0,
        noise=float(rng.uniform(0, 6)) if rng.random() < 0.6 else 0.0,
        quality=int(rng.integers(35, 96)),
        motion_blur=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else 0.0,
        shadow=float(rng.uniform(0.2, 0.6)) if rng.random() < 0.4 else 0.0,
    )


def _compose(
    image: Image,
    things: list[Thing],
    index: int,
    look: Look,
    last: list[np.ndarray | None],
) -> tuple[Image, UInt8[np.ndarray, "H W"], UInt8[np.ndarray, "H W"]]:
    label, whole = np.zeros((2, *SCENE_SIZE), np.uint8)
    for number, thing in enumerate(things):
        layer = thing.draw(index, SCENE_SIZE)
        centre = _centre(layer)
        before, last[number] = last[number], centre
        if look.motion_blur and before is not None and centre is not None:
            layer = _streaked(layer, look.motion_blur * (centre - before))
        if look.shadow:
            image = _shadowed(image, layer, look.shadow)
        image = over(layer, image)
        covered = layer[..., 3] >= 128
        label[covered] = number + 1
        whole[covered] |= 1 << number
    return image, label, whole


def _centre(layer: Layer) -> np.ndarray | None:
    moments = cv2.moments(layer[..., 3])
    if moments["m00"] < 255 * 20:
        return None
    return np.array([moments["m10"], moments["m01"]]) / moments["m00"]


def _streaked(layer: Layer, path: np.ndarray) -> Layer:
    length = float(np.hypot(*path))
    if length < 1.5:
        return layer
    side = 2 * int(np.ceil(min(length, 24) / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    reach = path / length * min(length, 24) / 2
    ends = [tuple(round(float(v)) for v in side // 2 + sign * reach) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(layer, -1, kernel / kernel.sum()), np.uint8)


def _shadowed(image: Image, layer: Layer, strength: float) -> Image:
    height, width = SCENE_SIZE
    small = cv2.resize(layer[..., 3], (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    move = np.array([[1.0, 0, 1], [0, 1.0, 2]])
    soft = cv2.GaussianBlur(cv2.warpAffine(small, move, small.shape[::-1]), (0, 0), 1.5)
    shade = 255 - strength * cv2.resize(soft, (width, height)).astype(np.float32)
    return np.asarray(cv2.multiply(image, cv2.merge([shade.astype(np.uint8)] * 3), scale=1 / 255))


def seen_through(image: Image, index: int, look: Look, rng: np.random.Generator) -> Image:
    """Return what a camera writes of a frame."""
    gains: Float32[np.ndarray, " 3"] = (look.gain[index] * look.tint).astype(np.float32)
    if look.blur:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), look.blur), np.uint8)
    values = image * gains
    if look.noise:
        shape = (*SCENE_SIZE, 3)
        values += look.noise * rng.standard_normal(shape, np.float32)
    lit = np.clip(values, 0, 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", lit, [cv2.IMWRITE_JPEG_QUALITY, look.quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
