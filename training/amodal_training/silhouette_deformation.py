"""A silhouette that bends, swings its limbs and turns: from one shape to its outline in each frame.

The shape is drawn in three steps: limbs turn about their joints, a smooth periodic warp bends the
whole, and the result is projected as a body of some thickness (layers of a swollen billboard).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from amodal_model.masks import BoxedMask, box_mask, empty_mask
from amodal_training.silhouette_motion import GaitTrack, PoseTrack, log_uniform, wobble
from amodal_training.silhouette_shapes import SHAPE_SIDE, Shape

_PAD = 32
_CANVAS = SHAPE_SIDE + 2 * _PAD
_CONTENT = 0.9 * SHAPE_SIDE
_GRID = 17
_CORES = ((0.0, 0.05), (0.25, 0.3), (0.6, 0.5))
"""Cores of the swollen body: how far inside the outline each begins, as a fraction of the deepest
point, and how far it reaches before and behind the middle, in thicknesses."""

_EDGE_ON = 0.07
"""Least foreshortening of a layer: a body seen exactly from its edge still has an outline."""


@dataclass(frozen=True, eq=False)
class _Piece:
    """A limb drawn alone, with the joint it turns about (canvas pixels) and its angle over time."""

    pixels: np.ndarray
    joint: tuple[float, float]
    angle: np.ndarray


@dataclass(frozen=True, eq=False)
class DeformingShape:
    """A shape ready to be drawn in any frame of its clip.

    Attributes:
        torso: uint8 (n, n), opacity of the shape without its moving limbs.
        pieces: the moving limbs.
        fields: float32 (K, 17, 17, 2), coarse warps, canvas pixels.
        weights: float32 (T, K), how strong each warp is in each frame.
        thickness: depth of the body over its longer side; 0 for a flat billboard.
        perspective: how much nearer parts grow; 0 for none.
    """

    torso: np.ndarray
    pieces: tuple[_Piece, ...]
    fields: np.ndarray
    weights: np.ndarray
    thickness: float
    perspective: float


def sample_deformation(
    rng: np.random.Generator, shape: Shape, gait: GaitTrack, largest: float
) -> DeformingShape:
    """Return the shape with random articulation, warps and thickness.

    Args:
        rng: source of chance.
        shape: the silhouette.
        gait: rhythm of its movement.
        largest: size at which it will be drawn at most, pixels; sets the working resolution.
    """
    side = int(np.clip(1.15 * largest * _CANVAS / _CONTENT, 48, _CANVAS))
    mirrored = rng.random() < 0.5
    body = _canvas(shape.pixels, side, mirrored=mirrored)
    torso, pieces = body, []
    moving = shape.limbs if rng.random() < 0.75 else ()
    amplitude = log_uniform(rng, 0.06, 0.7)
    for limb in moving:
        piece = _canvas(limb.pixels, side, mirrored=mirrored)
        ratio = side / _CANVAS
        x = SHAPE_SIDE - 1 - limb.joint_x if mirrored else limb.joint_x
        joint = ((x + _PAD + 0.5) * ratio - 0.5, (limb.joint_y + _PAD + 0.5) * ratio - 0.5)
        torso = cv2.subtract(torso, piece)
        reach = np.zeros_like(piece)
        centre = (round(joint[0]), round(joint[1]))
        cv2.circle(reach, centre, max(round(limb.half_width * ratio * 1.3), 1), 255, -1)
        piece = cv2.max(piece, cv2.min(body, reach))
        offset = rng.choice([0.0, np.pi]) + rng.normal(0, 0.4)
        swing = amplitude * rng.uniform(0.3, 1.0) * gait.strength * np.sin(gait.phase + offset)
        drift = 0.12 * rng.random() * wobble(rng, gait.phase.size, 30.0)
        pieces.append(_Piece(piece, joint, swing + drift))
    fields, weights = _sample_warps(rng, gait, side)
    return DeformingShape(
        torso=torso,
        pieces=tuple(pieces),
        fields=fields,
        weights=weights,
        thickness=float(rng.choice([0.0, rng.uniform(0.1, 0.9)], p=[0.35, 0.65])),
        perspective=float(rng.uniform(0, 0.4)),
    )


def draw_shape(
    shape: DeformingShape, pose: PoseTrack, frame_index: int, frame_size: tuple[int, int]
) -> BoxedMask:
    """Return the silhouette in one frame; empty where it lies outside."""
    canvas = bend(shape, _articulate(shape, frame_index), frame_index)
    yaw, pitch = float(pose.yaw[frame_index]), float(pose.pitch[frame_index])
    if not shape.thickness:  # a billboard seen from its edge is nothing
        yaw, pitch = np.tanh(yaw), np.tanh(pitch)
    turned = rotation(float(pose.roll[frame_index]), yaw, pitch)
    size = float(pose.size[frame_index])
    place = np.array([pose.centre_x[frame_index], pose.centre_y[frame_index]])
    depth = size * shape.thickness * turned[:2, 2]
    view = view_of(turned, size, place, shape.perspective, canvas.shape[0])
    box = _bounds(view, canvas, np.abs(depth) / 2, frame_size)
    if box is None:
        return empty_mask(frame_size)
    x0, y0, x1, y1 = box
    seen = np.zeros((y1 - y0, x1 - x0), np.uint8)
    for core, reach in _swell(canvas, swollen=shape.thickness > 0):
        shift = depth * reach
        move = np.array([[1, 0, -x0 - shift[0]], [0, 1, -y0 - shift[1]], [0, 0, 1]])
        drawn = cv2.warpPerspective(core, move @ view, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
        seen = np.maximum(seen, _sweep(drawn, 2 * shift))
    tight = box_mask(seen >= 128)
    a0, b0, a1, b1 = tight.bbox_xyxy
    if a1 == a0:
        return empty_mask(frame_size)
    return BoxedMask((a0 + x0, b0 + y0, a1 + x0, b1 + y0), tight.pixels, frame_size)


def _canvas(pixels: np.ndarray, side: int, *, mirrored: bool) -> np.ndarray:
    mask = np.pad(pixels[:, ::-1] if mirrored else pixels, _PAD).astype(np.uint8) * 255
    soft = cv2.GaussianBlur(mask, (0, 0), 1.0)
    return cv2.resize(soft, (side, side), interpolation=cv2.INTER_AREA)


def _sample_warps(
    rng: np.random.Generator, gait: GaitTrack, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return coarse warps and their weights: random bends, a flap, a wave that runs along."""
    frames = gait.phase.size
    across = np.linspace(-1, 1, _GRID)
    x, y = np.meshgrid(across, across)
    fields: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    bend = log_uniform(rng, 0.004, 0.07) * side
    for _ in range(2):
        knots = rng.normal(0, 1, (4, 4, 2)).astype(np.float32)
        fields.append(bend * cv2.resize(knots, (_GRID, _GRID), interpolation=cv2.INTER_CUBIC))
        rhythm = gait.strength * np.sin(gait.phase + rng.uniform(0, 2 * np.pi))
        slow = wobble(rng, frames, rng.uniform(15, 60))
        weights.append(rng.uniform(0, 1) * rhythm + rng.uniform(0, 1) * slow)
    angle = float(rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.3))
    along, sideways = x * np.cos(angle) + y * np.sin(angle), (-np.sin(angle), np.cos(angle))
    kind = rng.choice(["wave", "flap", "none"], p=[0.2, 0.15, 0.65])
    size = rng.uniform(0.02, 0.08) * side
    if kind == "wave":
        waves = rng.uniform(1.0, 5.0) * along
        for quarter in (0.0, np.pi / 2):
            fields.append(size * np.sin(waves + quarter)[..., None] * sideways)
            weights.append(gait.strength * np.cos(gait.phase + quarter))
    elif kind == "flap":
        fields.append(2 * size * (np.abs(along)[..., None] ** 1.5) * sideways)
        weights.append(gait.strength * np.sin(gait.phase))
    return np.stack(fields).astype(np.float32), np.stack(weights, 1).astype(np.float32)


def _articulate(shape: DeformingShape, frame_index: int) -> np.ndarray:
    side = shape.torso.shape[0]
    drawn = shape.torso
    for piece in shape.pieces:
        turn = cv2.getRotationMatrix2D(piece.joint, float(np.degrees(piece.angle[frame_index])), 1)
        drawn = cv2.max(drawn, cv2.warpAffine(piece.pixels, turn, (side, side)))
    return drawn


def bend(shape: DeformingShape, canvas: np.ndarray, frame_index: int) -> np.ndarray:
    """Return a canvas, of any number of channels, as the shape's warps bend it in a frame."""
    side = canvas.shape[0]
    coarse = np.tensordot(shape.weights[frame_index], shape.fields, axes=1)
    ramp = np.linspace(0, side - 1, _GRID, dtype=np.float32)
    coarse[..., 0] += ramp
    coarse[..., 1] += ramp[:, None]
    # Interpolating between knots at the canvas corners: resize alone would shift by half a cell.
    step = (_GRID - 1) / (side - 1)
    spread = np.array([[step, 0, 0], [0, step, 0]])
    sources = cv2.warpAffine(
        coarse,
        spread,
        (side, side),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    bent = cv2.remap(canvas, sources[..., 0], sources[..., 1], cv2.INTER_LINEAR)
    return np.asarray(bent)


def _swell(canvas: np.ndarray, *, swollen: bool) -> list[tuple[np.ndarray, float]]:
    """Return the cores of the body, each with its reach to the front and back."""
    if not swollen:
        return [(canvas, 0.0)]
    inside = cv2.distanceTransform((canvas >= 128).astype(np.uint8), cv2.DIST_L2, 3)
    deepest = float(inside.max())
    cores = [(canvas, _CORES[0][1])]
    for start, reach in _CORES[1:]:
        cores.append(((inside > start * deepest).astype(np.uint8) * 255, reach))
    return cores


def _sweep(drawn: np.ndarray, path: np.ndarray) -> np.ndarray:
    """Return everything a drawing covers while it moves along ``path`` (x, y), pixels."""
    doublings = int(np.ceil(np.log2(1 + float(np.hypot(*path)))))
    height, width = drawn.shape
    for power in range(doublings):
        x, y = path * 2**power / (2**doublings - 1)
        move = np.array([[1, 0, round(float(x))], [0, 1, round(float(y))]], np.float64)
        shifted = cv2.warpAffine(drawn, move, (width, height), flags=cv2.INTER_NEAREST)
        drawn = np.maximum(drawn, shifted)
    return drawn


def view_of(
    turned: np.ndarray, size: float, place: np.ndarray, perspective: float, side: int
) -> np.ndarray:
    """Return frame_from_canvas (3, 3) of the body's middle plane."""
    unit = side * _CONTENT / _CANVAS
    flat_from_canvas = np.array(
        [[1 / unit, 0, -(side - 1) / 2 / unit], [0, 1 / unit, -(side - 1) / 2 / unit], [0, 0, 1]]
    )
    w = np.array([*(perspective * turned[2, :2]), 1.0])
    plane = np.concatenate([turned[:2, :2], np.zeros((2, 1))], 1)
    frame_from_flat = np.concatenate([size * plane + place[:, None] * w, w[None]])
    return np.asarray(frame_from_flat @ flat_from_canvas)


def rotation(roll: float, yaw: float, pitch: float) -> np.ndarray:
    """Return frame_from_body (3, 3), never quite edge-on."""
    (cr, cy, cp), (sr, sy, sp) = np.cos([roll, yaw, pitch]), np.sin([roll, yaw, pitch])
    cy, cp = (np.copysign(max(abs(c), _EDGE_ON), c) for c in (cy, cp))
    within = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    return np.asarray(within @ about_x @ about_y)


def _bounds(
    view: np.ndarray, canvas: np.ndarray, reach: np.ndarray, frame_size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the frame box that the body may fall into, ``None`` where it is outside."""
    x, y, width, height = cv2.boundingRect((canvas >= 128).astype(np.uint8))
    if width == 0:
        return None
    right, low = x + width, y + height
    corners = np.array([[x - 1, y - 1, 1], [right, y - 1, 1], [x - 1, low, 1], [right, low, 1]])
    points = corners @ view.T
    places = points[:, :2] / points[:, 2:]
    x0, y0 = np.maximum(np.floor(places.min(0) - reach).astype(int) - 1, 0)
    x1, y1 = np.minimum(np.ceil(places.max(0) + reach).astype(int) + 2, frame_size[::-1])
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None
