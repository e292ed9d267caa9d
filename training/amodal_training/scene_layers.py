"""Moving things with looks, to be laid over each other: outlines and bodies filled with textures.

A layer draws itself in any frame of its clip as premultiplied RGB and opacity. Its parts differ in
texture, as hair, shirt and trousers do, and its texture moves with it.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from jaxtyping import UInt8

from amodal_training.scene_footage import Footage, Image, Texture, random_frame, random_texture
from amodal_training.silhouette_bodies import place_points, project, turned_body
from amodal_training.silhouette_creatures import CREATURES
from amodal_training.silhouette_deformation import (
    DeformingShape,
    bend,
    rotation,
    sample_deformation,
    view_of,
)
from amodal_training.silhouette_machines import MACHINES
from amodal_training.silhouette_motion import GaitTrack, PoseTrack
from amodal_training.silhouette_shapes import ShapeLibrary

_TEXTURE_SIDE = 192
_BITS = 4

Layer = UInt8[np.ndarray, "H W 4"]


class Thing(Protocol):
    """Something that can be drawn in each frame of a clip."""

    def draw(self, index: int, frame_size: tuple[int, int]) -> Layer:
        """Return the frame's premultiplied RGB and opacity."""
        ...


class Puppet(NamedTuple):
    """An outline with limbs, warped and textured.

    Attributes:
        shape: how it deforms.
        pose: where it is.
        torso: (n, n, 4) premultiplied canvas without the limbs.
        limbs: (n, n, 4) canvas of each limb.
    """

    shape: DeformingShape
    pose: PoseTrack
    torso: Layer
    limbs: tuple[Layer, ...]

    def draw(self, index: int, frame_size: tuple[int, int]) -> Layer:
        """Return the frame's premultiplied RGB and opacity."""
        side = self.torso.shape[0]
        canvas = self.torso
        for piece, limb in zip(self.shape.pieces, self.limbs, strict=True):
            angle = float(np.degrees(piece.angle[index]))
            turn = cv2.getRotationMatrix2D(piece.joint, angle, 1)
            canvas = over(np.asarray(cv2.warpAffine(limb, turn, (side, side))), canvas)
        canvas = bend(self.shape, canvas, index)
        pose = self.pose
        turned = rotation(pose.roll[index], np.tanh(pose.yaw[index]), np.tanh(pose.pitch[index]))
        place = np.array([pose.centre_x[index], pose.centre_y[index]])
        view = view_of(turned, float(pose.size[index]), place, self.shape.perspective, side)
        height, width = frame_size
        return np.asarray(cv2.warpPerspective(canvas, view, (width, height)), np.uint8)


class Figure(NamedTuple):
    """A jointed body of textured parts.

    Attributes:
        corners: (T, N, 2) pixels.
        depths: (T, parts) nearer is more.
        offsets: where each part's corners begin.
        flat: (N, 2) texture coordinates of the corners.
        textures: of each part.
    """

    corners: np.ndarray
    depths: np.ndarray
    offsets: np.ndarray
    flat: np.ndarray
    textures: tuple[Texture, ...]

    def draw(self, index: int, frame_size: tuple[int, int]) -> Layer:
        """Return the frame's premultiplied RGB and opacity."""
        layer = np.zeros((*frame_size, 4), np.uint8)
        spans = list(pairwise(self.offsets))
        for part in np.argsort(self.depths[index], kind="stable"):
            start, stop = spans[part]
            if stop > start:
                self._draw_part(layer, index, slice(start, stop), self.textures[part])
        return layer

    def _draw_part(self, layer: Layer, index: int, span: slice, texture: Texture) -> None:
        corners = self.corners[index, span].astype(np.float32)
        x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
        x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, layer.shape[1::-1])
        if x1 <= x0 or y1 <= y0:
            return
        local = corners - (x0 + 0.5, y0 + 0.5)
        alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
        hull = cv2.convexHull(np.round(local * 2**_BITS).astype(np.int32))
        cv2.fillConvexPoly(alpha, hull, 255, cv2.LINE_AA, _BITS)
        known = np.concatenate([self.flat[span], np.ones((len(local), 1))], 1)
        place = np.linalg.lstsq(known, local, rcond=None)[0].T
        skin = cv2.warpAffine(
            texture, place, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        part = premultiplied(np.asarray(skin), alpha)
        layer[y0:y1, x0:x1] = over(part, layer[y0:y1, x0:x1])


def premultiplied(image: Image, alpha: UInt8[np.ndarray, "H W"]) -> Layer:
    """Return an image with its opacity."""
    colour = cv2.multiply(image, cv2.merge([alpha] * 3), scale=1 / 255)
    return np.dstack([colour, alpha])


def over(front: Layer, back: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """Return a layer over another, or over an image."""
    channels = back.shape[2]
    through = 255 - front[..., 3]
    rest = cv2.multiply(back, cv2.merge([through] * channels), scale=1 / 255)
    return np.asarray(cv2.add(rest, np.ascontiguousarray(front[..., :channels])), np.uint8)


def sample_puppet(
    library: ShapeLibrary,
    footage: Footage,
    rng: np.random.Generator,
    pose: PoseTrack,
    gait: GaitTrack,
) -> Puppet:
    """Return an outline of the library with random looks."""
    shape = sample_deformation(rng, library.sample(rng), gait, float(pose.size.max()))
    side = shape.torso.shape[0]
    skin = _patchwork(footage, rng, side)
    limbs = []
    for piece in shape.pieces:
        other = _patchwork(footage, rng, side) if rng.random() < 0.3 else skin
        limbs.append(premultiplied(other, piece.pixels))
    return Puppet(shape, pose, premultiplied(skin, shape.torso), tuple(limbs))


def sample_figure(
    footage: Footage, rng: np.random.Generator, pose: PoseTrack, gait: GaitTrack
) -> Figure:
    """Return a person, an animal or a machine with random looks."""
    makers = CREATURES if rng.random() < 0.6 else MACHINES
    weights = np.array([weight for weight, _ in makers])
    body = makers[rng.choice(len(makers), p=weights / weights.sum())][1](rng, gait)
    points, offsets = place_points(body)
    facing = rng.uniform(-np.pi, np.pi)
    roll = pose.roll if rng.random() < 0.3 else 0.25 * np.tanh(pose.roll)
    pose = replace(pose, yaw=pose.yaw + facing, roll=roll)
    elevation = rng.uniform(-0.1, 0.9) ** 2 + 0.3 * pose.pitch
    corners = project(points, pose, elevation, float(rng.uniform(0, 0.6)))
    depth = turned_body(points, pose, elevation)[..., 2]
    flat, textures = np.zeros((points.shape[1], 2)), []
    depths = np.zeros((len(corners), len(offsets) - 1))
    skins = [
        random_texture(random_frame(footage, rng), rng, _TEXTURE_SIDE)
        for _ in range(rng.integers(2, 6))
    ]
    choice = 0
    for part, (start, stop) in enumerate(pairwise(offsets)):
        if rng.random() < 0.4:
            choice = int(rng.integers(len(skins)))
        textures.append(skins[choice])
        if stop > start:
            depths[:, part] = depth[:, start:stop].mean(1)
            own = body.parts[part].points
            axes = np.argsort(-np.ptp(own, axis=0))[:2]
            shift = rng.uniform(0, _TEXTURE_SIDE, 2)
            flat[start:stop] = own[:, axes] * rng.uniform(100, 250) + shift
    return Figure(corners, depths, offsets, flat, tuple(textures))


def _patchwork(footage: Footage, rng: np.random.Generator, side: int) -> Texture:
    """Return a canvas of one to five textures: bands, or cells around points."""
    source = random_frame(footage, rng)
    canvas = random_texture(source, rng, side)
    count = int(rng.choice([1, 2, 3, 5], p=[0.3, 0.3, 0.25, 0.15]))
    if count == 1:
        return canvas
    sites = rng.uniform(0.15, 0.85, (count, 2)) * side
    if rng.random() < 0.5:
        sites[:, 0] = side / 2 + rng.normal(0, 3, count)
    columns, rows = np.meshgrid(np.arange(side), np.arange(side))
    apart = np.hypot(columns[..., None] - sites[:, 0], rows[..., None] - sites[:, 1])
    cell = apart.argmin(-1)
    for index in range(1, count):
        if rng.random() < 0.6:
            source = random_frame(footage, rng)
        canvas[cell == index] = random_texture(source, rng, side)[cell == index]
    return canvas
