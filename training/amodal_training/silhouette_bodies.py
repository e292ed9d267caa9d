"""Jointed bodies in space: convex parts on a tree of joints, seen in perspective as one outline.

A flat icon cannot show its other side. These bodies turn truly, so that limbs pass in front of
each other and outlines change as those of solid things do. Axes: x forward, y up, z to the right
of the body; the camera looks along -z, and image rows run against y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float64

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_training.silhouette_motion import GaitTrack, PoseTrack, Track

Points = Float64[np.ndarray, "P 3"]
Triple = Sequence[float | int] | Float64[np.ndarray, " 3"]
"""Three numbers, one an axis."""

Turn = Float64[np.ndarray, "T 3"]

_SUBPIXEL_BITS = 4


@dataclass(frozen=True, eq=False)
class BodyPart:
    """A convex solid that turns about a joint of its parent.

    Attributes:
        parent: index of an earlier part; -1 for the root.
        joint: (3,) where the joint sits, in the parent's axes.
        turn: (T, 3) rotation vector about the joint in each frame, radians; (1, 3) if it is fixed.
        points: (P, 3) corners of the solid, from the joint; (0, 3) for a bare joint.
    """

    parent: int
    joint: Float64[np.ndarray, " 3"]
    turn: Turn
    points: Points


class Body:
    """Parts added one by one; every ``add`` returns the index to hang further parts on."""

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.parts: list[BodyPart] = []

    def add(
        self,
        points: Points,
        parent: int = -1,
        joint: Triple = (0.0, 0.0, 0.0),
        turn: Sequence[float | int | Track] = (0.0, 0.0, 0.0),
    ) -> int:
        """Hang a solid on a joint; each of the three turns is an angle or a track of angles."""
        tracks = np.stack([np.broadcast_to(np.asarray(t, float), (self.frames,)) for t in turn], 1)
        self.parts.append(BodyPart(parent, np.asarray(joint, float), tracks, points))
        return len(self.parts) - 1


def moved(points: Points, offset: Triple) -> Points:
    """Return a solid's corners shifted by ``offset``."""
    return np.asarray(points + np.asarray(offset))


Maker = Callable[[np.random.Generator, GaitTrack], Body]
"""Makes a body of random proportions that moves to a rhythm."""


def ball(radii: Triple, centre: Triple = (0.0, 0.0, 0.0)) -> Points:
    """Return an ellipsoid's surface as 42 points."""
    return np.asarray(_DIRECTIONS * np.asarray(radii) + np.asarray(centre))


def bone(end: Triple, start_radius: float, end_radius: float) -> Points:
    """Return a rounded bar from the origin to ``end``."""
    ends = _SMALL_DIRECTIONS * end_radius + np.asarray(end)
    return np.concatenate([_SMALL_DIRECTIONS * start_radius, ends])


def block(size: Triple, centre: Triple = (0.0, 0.0, 0.0)) -> Points:
    """Return a box's eight corners; ``size`` is its full length along each axis."""
    return np.asarray(_CORNERS * np.asarray(size) / 2 + np.asarray(centre))


def disc(radius: float, width: float, axis: int = 2, centre: Triple = (0.0, 0.0, 0.0)) -> Points:
    """Return a cylinder about an axis (0, 1 or 2): a wheel, a plate, a post."""
    return moved(ring_stack(radius, radius, width, axis), centre)


def ring_stack(low: float, high: float, width: float, axis: int = 1) -> Points:
    """Return a cone's stump: radius ``low`` at -width / 2, ``high`` at +width / 2 of the axis."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], 1)
    points = np.zeros((32, 3))
    others = [a for a in range(3) if a != axis]
    points[:16, others], points[16:, others] = circle * low, circle * high
    points[:16, axis], points[16:, axis] = -width / 2, width / 2
    return points


def add_ring(body: Body, parent: int, at: Triple, radius: float, bar: float) -> None:
    """Hang a ring about the z axis, of twelve bars, with a hole in it: wheel, handle."""
    angles = np.linspace(0, 2 * np.pi, 13)
    rim = np.stack([np.cos(angles), np.sin(angles), np.zeros(13)], 1) * radius
    for start, stop in pairwise(rim):
        body.add(bone(stop - start, bar, bar) + start, parent, at)


def place_points(body: Body) -> tuple[np.ndarray, np.ndarray]:
    """Return all corners of a body and the offsets where each part's corners begin.

    Corners are (T, N, 3), in the body's axes, scaled so that its longest side is 1 in the first
    frame; offsets are (parts + 1,).
    """
    rotations: list[np.ndarray] = []
    origins: list[np.ndarray] = []
    placed: list[np.ndarray] = []
    for part in body.parts:
        own = _rotations(part.turn)
        if part.parent < 0:
            rotations.append(own)
            origins.append(np.broadcast_to(part.joint, (body.frames, 3)))
        else:
            above = rotations[part.parent]
            rotations.append(above @ own)
            origins.append(origins[part.parent] + above @ part.joint)
        placed.append(part.points @ rotations[-1].transpose(0, 2, 1) + origins[-1][:, None])
    corners = np.concatenate(placed, 1)
    low, high = corners[0].min(0), corners[0].max(0)
    offsets = np.cumsum([0, *(part.points.shape[0] for part in body.parts)])
    return (corners - (low + high) / 2) / float((high - low).max()), offsets


def draw_body(
    corners: np.ndarray, offsets: np.ndarray, frame_size: tuple[int, int]
) -> list[BoxedMask]:
    """Return the outlines of parts whose corners were projected.

    Args:
        corners: (T, N, 2) pixels.
        offsets: where each part's corners begin.
        frame_size: (height, width), pixels.
    """
    return [_fill(frame, offsets, frame_size) for frame in corners.astype(np.float32)]


def project(
    corners: np.ndarray, pose: PoseTrack, elevation: Track, perspective: float
) -> np.ndarray:
    """Return corners (T, N, 3) of a body as pixels (T, N, 2).

    Args:
        corners: in the body's axes, the longest side 1.
        pose: place, size and turns; its yaw turns the body about its own upright axis.
        elevation: how far above the horizon the camera looks from, radians.
        perspective: how much nearer parts grow, below 1; 0 for none.
    """
    seen = turned_body(corners, pose, elevation)
    grown = pose.size[:, None] / np.maximum(1 - perspective * seen[..., 2], 0.2)
    x = pose.centre_x[:, None] + grown * seen[..., 0]
    return np.stack([x, pose.centre_y[:, None] - grown * seen[..., 1]], -1)


def turned_body(corners: np.ndarray, pose: PoseTrack, elevation: Track) -> np.ndarray:
    """Return corners (T, N, 3) of a body in the camera's axes; z grows towards the camera."""
    zero = np.zeros_like(pose.yaw)
    about_y = _rotations(np.stack([zero, pose.yaw, zero], 1))
    about_x = _rotations(np.stack([elevation, zero, zero], 1))
    about_z = _rotations(np.stack([zero, zero, -pose.roll], 1))
    return np.asarray(corners @ (about_z @ about_x @ about_y).transpose(0, 2, 1))


def _fill(corners: np.ndarray, offsets: np.ndarray, frame_size: tuple[int, int]) -> BoxedMask:
    x0, y0 = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(corners.max(0)).astype(int) + 2, frame_size[::-1])
    if x1 <= x0 or y1 <= y0:
        return empty_mask(frame_size)
    canvas = np.zeros((y1 - y0, x1 - x0), np.uint8)
    local = np.round((corners - (x0 + 0.5, y0 + 0.5)) * 2**_SUBPIXEL_BITS).astype(np.int32)
    for start, stop in pairwise(offsets):
        if stop > start:
            hull = cv2.convexHull(local[start:stop])
            cv2.fillConvexPoly(canvas, hull, 1, cv2.LINE_8, _SUBPIXEL_BITS)
    tight = box_mask(canvas > 0)
    a0, b0, a1, b1 = tight.bbox_xyxy
    if a1 == a0:
        return empty_mask(frame_size)
    box = (int(a0 + x0), int(b0 + y0), int(a1 + x0), int(b1 + y0))
    return BoxedMask(box, tight.pixels, frame_size)


def _rotations(turn: Turn) -> Float64[np.ndarray, "T 3 3"]:
    """Return rotation matrices of rotation vectors. Source: Rodrigues' formula."""
    angle = np.linalg.norm(turn, axis=1)
    x, y, z = (turn / np.maximum(angle, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    return np.asarray(np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross))


def _spread(count: int) -> Points:
    """Return evenly spread directions. Source: the golden-angle spiral."""
    index = np.arange(count) + 0.5
    height = 1 - 2 * index / count
    angle = np.pi * (1 + 5**0.5) * index
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(angle), height, radius * np.sin(angle)], 1)


_DIRECTIONS = _spread(42)
_SMALL_DIRECTIONS = _spread(16)
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
