"""What happens in a tabletop clip, drawn from its seed before anything is built or rendered.

Metres and radians in the world frame, z up, the table top at z = 0, the arm's base at x = -0.62,
looking along +x; the camera looks back at it. Occlusions are planned: a screen is put on the line
of sight to an object and stays there, and leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Family = Literal["arm", "screens", "orbit", "slides", "pan"]
FAMILIES: tuple[Family, ...] = ("arm", "screens", "orbit", "slides", "pan")

ARM_HOME = np.array([0.0, 0.55, 0.0, -1.95, 0.0, 2.5, 0.78])
ARM_LOW = np.array([-0.75, -0.1, -0.3, -0.25, -0.2, -0.2, -0.6])
ARM_HIGH = np.array([0.75, 0.45, 0.3, 0.25, 0.2, 0.2, 0.6])

FPS = 12.0
_GRID = [(-0.1 + 0.14 * (cell % 3), -0.22 + 0.15 * (cell // 3)) for cell in range(12)]


@dataclass(frozen=True)
class Placement:
    """An object on the table: which of the models, as a part in [0, 1), where, and its yaw."""

    model_draw: float
    x_m: float
    y_m: float
    yaw_rad: float


@dataclass(frozen=True, eq=False)
class Screen:
    """A big textured box or cylinder that stands on the table and may move.

    Attributes:
        shape: box or cylinder.
        half_size_m: half sizes across the view, along the view and up.
        yaw_rad: turn about the vertical.
        path_m: (T, 2), its centre on the table on each frame.
        texture_draw: which of the textures, as a part in [0, 1).
    """

    shape: Literal["box", "cylinder"]
    half_size_m: tuple[float, float, float]
    yaw_rad: float
    path_m: Float[np.ndarray, "T 2"]
    texture_draw: float


@dataclass(frozen=True, eq=False)
class CameraPath:
    """An orbiting camera, per frame: angles in degrees, distance and the point looked at in m."""

    azimuth_deg: Float[np.ndarray, " T"]
    elevation_deg: Float[np.ndarray, " T"]
    distance_m: Float[np.ndarray, " T"]
    lookat_m: Float[np.ndarray, "T 3"]

    def ground_position(self, frame_index: int) -> Float[np.ndarray, " 2"]:
        """Return where the camera is, seen from above."""
        azimuth = np.deg2rad(self.azimuth_deg[frame_index])
        reach = self.distance_m[frame_index] * np.cos(np.deg2rad(self.elevation_deg[frame_index]))
        forward = np.array([np.cos(azimuth), np.sin(azimuth)])
        return np.asarray(self.lookat_m[frame_index, :2] - reach * forward)


@dataclass(frozen=True, eq=False)
class Slide:
    """An object drawn over the table along a path (T, 2), in metres."""

    object_index: int
    path_m: Float[np.ndarray, "T 2"]


@dataclass(frozen=True)
class Shove:
    """A push: an object gets an additional velocity at one frame."""

    frame_index: int
    object_index: int
    velocity_m_s: tuple[float, float]


@dataclass(frozen=True, eq=False)
class TabletopPlan:
    """Everything that a clip is made from.

    Attributes:
        family: the kind of scene.
        placements: the objects.
        screens: big plain occluders.
        camera: its path.
        arm_path_rad: (T, 7), wanted joint angles.
        slides: objects drawn over the table.
        shoves: pushes.
        texture_draws: table, wall and floor, as parts in [0, 1).
        light_xy_m: where the main light hangs.
    """

    family: Family
    placements: tuple[Placement, ...]
    screens: tuple[Screen, ...]
    camera: CameraPath
    arm_path_rad: Float[np.ndarray, "T 7"]
    slides: tuple[Slide, ...]
    shoves: tuple[Shove, ...]
    texture_draws: tuple[float, float, float]
    light_xy_m: tuple[float, float]


def plan_tabletop(seed: int, frames: int) -> TabletopPlan:
    """Return the plan of a clip; scene families take turns by seed."""
    rng = np.random.default_rng([seed, 20])
    family = FAMILIES[seed % len(FAMILIES)]
    cells = [int(cell) for cell in rng.permutation(len(_GRID))]
    count = int(rng.integers(6, 9))
    placements = tuple(_placement(cell, rng) for cell in cells[:count])
    camera = _camera_path(family, frames, rng)
    slides = _slides(family, placements, camera, frames, rng)
    light = rng.uniform(-1, 1, 2)
    table, wall, floor = rng.random(3)
    return TabletopPlan(
        family=family,
        placements=placements,
        screens=_screens(family, placements, camera, cells[count:], rng),
        camera=camera,
        arm_path_rad=_arm_path(family, frames, rng),
        slides=slides,
        shoves=_shoves(family, count, frames, rng),
        texture_draws=(float(table), float(wall), float(floor)),
        light_xy_m=(float(light[0]), float(light[1])),
    )


def _placement(cell: int, rng: np.random.Generator) -> Placement:
    x_m, y_m = np.array(_GRID[cell]) + rng.uniform(-0.02, 0.02, 2)
    return Placement(float(rng.random()), float(x_m), float(y_m), float(rng.uniform(0, 6.28)))


def _camera_path(family: Family, frames: int, rng: np.random.Generator) -> CameraPath:
    time = np.linspace(0, 1, frames)
    start, sway = rng.uniform(-40, 40), rng.uniform(-28, 28)
    azimuth = 180 + start + sway * np.sin(3 * time)
    elevation = np.interp(time, [0, 1], rng.uniform(-30, -11, 2))
    distance = np.interp(time, [0, 1], rng.uniform(0.72, 1.0, 2))
    lookat = np.tile([0.05, 0.0, 0.05], (frames, 1))
    if family == "orbit":
        sweep = rng.choice([-1, 1]) * rng.uniform(70, 140)
        azimuth = 180 + sweep * (time - 0.5) + rng.uniform(-15, 15)
        elevation = np.interp(time, [0, 1], rng.uniform(-22, -10, 2))
    if family == "pan":
        reach = rng.choice([-1, 1]) * rng.uniform(0.28, 0.5)
        lookat[:, 1] += reach * np.sin(np.pi * rng.uniform(1.2, 2.2) * time)
        distance = np.interp(time, [0, 0.5, 1], rng.uniform(0.55, 0.85, 3))
    return CameraPath(azimuth, elevation, distance, lookat)


def _screens(
    family: Family,
    placements: tuple[Placement, ...],
    camera: CameraPath,
    free_cells: list[int],
    rng: np.random.Generator,
) -> tuple[Screen, ...]:
    moving = {"arm": int(rng.integers(2)), "screens": 2, "orbit": 0, "slides": 1, "pan": 1}[family]
    standing = {"orbit": 2, "slides": int(rng.integers(2))}.get(family, 0)
    hidden = rng.permutation(len(placements))[: 2 * moving]
    screens = [
        _moving_screen([placements[i] for i in hidden[2 * k : 2 * k + 2]], camera, k, rng)
        for k in range(moving)
    ]
    screens += [_standing_screen(_GRID[cell], camera, rng) for cell in free_cells[:standing]]
    return tuple(screens)


def _standing_screen(
    cell: tuple[float, float], camera: CameraPath, rng: np.random.Generator
) -> Screen:
    half = (rng.uniform(0.03, 0.06), rng.uniform(0.02, 0.04), rng.uniform(0.08, 0.15))
    path = np.tile(cell, (len(camera.distance_m), 1))
    return Screen(_shape(rng), half, float(rng.uniform(0, 3.14)), path, float(rng.random()))


def _shape(rng: np.random.Generator) -> Literal["box", "cylinder"]:
    return "box" if rng.random() < 0.7 else "cylinder"


def _moving_screen(
    hidden: list[Placement], camera: CameraPath, turn: int, rng: np.random.Generator
) -> Screen:
    """Return a screen that comes in from one side, waits before each object, and leaves."""
    frames = len(camera.distance_m)
    last = frames - 1
    half = (rng.uniform(0.05, 0.1), rng.uniform(0.02, 0.045), rng.uniform(0.07, 0.14))
    side = float(rng.choice([-1, 1]))
    marks = np.sort(rng.uniform(0.12, 0.22, 1))[0] + 0.08 * turn
    knots: list[tuple[float, Float[np.ndarray, " 2"]]] = []
    yaw = 0.0
    for index, placement in enumerate(hidden):
        stay = rng.uniform(0.17, 0.33)
        travel = rng.uniform(0.08, 0.16)
        middle = min(round((marks + travel + stay / 2) * last), last)
        spot, across = _line_of_sight(placement, camera, middle, half, rng)
        if index == 0:
            yaw = float(np.arctan2(across[1], across[0]))
            knots += [(0.0, spot + side * 0.75 * across), (marks, spot + side * 0.6 * across)]
        knots += [(marks + travel, spot), (marks + travel + stay, spot)]
        marks += travel + stay
        if rng.random() < 0.4:
            break
    away = side * float(rng.choice([-1, 1]))
    knots.append((marks + rng.uniform(0.08, 0.2), knots[-1][1] + away * 0.7 * across))
    times = np.array([time for time, _ in knots]) * last
    points = np.array([point for _, point in knots])
    path = np.stack([np.interp(np.arange(frames), times, points[:, k]) for k in (0, 1)], axis=1)
    return Screen(_shape(rng), half, yaw, path, float(rng.random()))


def _line_of_sight(
    placement: Placement,
    camera: CameraPath,
    frame_index: int,
    half_size_m: tuple[float, float, float],
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    """Return a spot between an object and the camera, and the direction across the view there."""
    here = np.array([placement.x_m, placement.y_m])
    view = camera.ground_position(frame_index) - here
    view = view / np.linalg.norm(view)
    across = np.array([-view[1], view[0]])
    gap = 0.06 + half_size_m[1] + rng.uniform(0.02, 0.16)
    return here + gap * view + rng.uniform(-0.04, 0.04) * across, across


def _arm_path(family: Family, frames: int, rng: np.random.Generator) -> Float[np.ndarray, "T 7"]:
    """Return smooth joint angles through random postures; ``arm`` stays for long at some."""
    postures = ARM_HOME + rng.uniform(ARM_LOW, ARM_HIGH, (7, 7))
    postures[0] = ARM_HOME
    if family == "arm":
        reaching = ARM_HOME + rng.uniform(0.2, 1.0) * np.array([0, 0.45, 0, 0.25, 0, 0.1, 0])
        reaching[0] = rng.uniform(-0.6, 0.6)
        postures[2:4] = reaching
        postures[5] = postures[4]
    place = np.linspace(0, len(postures) - 1, frames)
    first = np.minimum(place.astype(int), len(postures) - 2)
    part = (place - first)[:, None]
    part = part * part * (3 - 2 * part)
    return np.asarray(postures[first] * (1 - part) + postures[first + 1] * part)


def _slides(
    family: Family,
    placements: tuple[Placement, ...],
    camera: CameraPath,
    frames: int,
    rng: np.random.Generator,
) -> tuple[Slide, ...]:
    count = {"slides": 3, "screens": 1, "pan": 1}.get(family, 0)
    chosen = rng.permutation(len(placements))[:count]
    return tuple(_slide(int(i), placements[int(i)], camera, frames, rng) for i in chosen)


def _slide(
    index: int, placement: Placement, camera: CameraPath, frames: int, rng: np.random.Generator
) -> Slide:
    """Return a path across the view, at the far side of the other objects, with a stop."""
    here = np.array([placement.x_m, placement.y_m])
    view = camera.ground_position(frames // 2) - here
    view = view / np.linalg.norm(view)
    across = np.array([-view[1], view[0]]) * (1 if here @ np.array([-view[1], view[0]]) < 0 else -1)
    back = here - rng.uniform(0.02, 0.14) * view
    there = back + rng.uniform(0.15, 0.4) * across
    start, stop = rng.uniform(0.1, 0.3), rng.uniform(0.45, 0.65)
    knots = np.array([here, here, back, there, there, back])
    times = np.array([0, start, start + 0.1, stop, stop + 0.15, 1.0]) * (frames - 1)
    path = np.stack([np.interp(np.arange(frames), times, knots[:, k]) for k in (0, 1)], axis=1)
    return Slide(index, path)


def _shoves(
    family: Family, objects: int, frames: int, rng: np.random.Generator
) -> tuple[Shove, ...]:
    every = {"arm": 7, "orbit": 14}.get(family, 20)
    shoves = []
    for frame_index in range(every // 2, frames, every):
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.1)
        velocity = (float(speed * np.cos(angle)), float(speed * np.sin(angle)))
        shoves.append(Shove(frame_index, int(rng.integers(objects)), velocity))
    return tuple(shoves)
