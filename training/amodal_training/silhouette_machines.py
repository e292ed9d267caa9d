"""Vehicles and robots, as jointed bodies of random proportions."""

from __future__ import annotations

import numpy as np

from amodal_training.silhouette_bodies import (
    Body,
    Maker,
    Triple,
    add_ring,
    ball,
    block,
    bone,
    disc,
    moved,
    ring_stack,
)
from amodal_training.silhouette_motion import GaitTrack, log_uniform, wobble
from amodal_training.silhouette_things import (
    make_assembly,
    make_furniture,
    make_hinged,
    make_vessel,
)

_PI = float(np.pi)


def make_vehicle(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a car, van, truck, bus or digger on wheels, maybe with a trailer or an arm."""
    body = Body(gait.phase.size)
    width, low = rng.uniform(0.3, 0.45), rng.uniform(0.1, 0.25)
    hull = body.add(_wedge(1.0, low, width, rng.uniform(0.85, 1), rng.uniform(0.9, 1)))
    cabin, tall = rng.uniform(0.25, 0.95), log_uniform(rng, 0.1, 0.45)
    shift = rng.uniform(-1, 1) * (1 - cabin) / 2
    cab = _wedge(cabin, tall, width * 0.92, rng.uniform(0.6, 1), rng.uniform(0.5, 1))
    body.add(moved(cab, (shift, (low + tall) / 2, 0)), hull)
    radius = rng.uniform(0.07, 0.13)
    axles = np.linspace(-0.36, 0.36, int(rng.choice([2, 2, 3, 4])))
    for x in axles:
        for side in (-1, 1):
            body.add(disc(radius, 0.07), hull, (x, -low / 2, side * (width / 2 - 0.04)))
    draw = rng.random()
    if draw < 0.25:
        deck = body.add(
            bone((-0.12, 0, 0), 0.02, 0.02),
            hull,
            (-0.5, 0, 0),
            (0, 0.3 * wobble(rng, body.frames, 40.0), 0),
        )
        long, high = rng.uniform(0.4, 1.2), rng.uniform(0.15, 0.5)
        body.add(block((long, high, width), (-0.12 - long / 2, high / 2 - low / 2, 0)), deck)
        body.add(disc(radius, width), deck, (-0.12 - long * 0.7, -low / 2, 0))
    elif draw < 0.4:
        _add_arm(rng, body, hull, (rng.uniform(-0.3, 0.4), low / 2, 0), 0.35)
    return body


def make_cycle(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a bicycle or scooter, mostly with somebody on it."""
    body = Body(gait.phase.size)
    wheel = rng.uniform(0.13, 0.24)
    tyre = rng.uniform(0.012, 0.05)
    frame = body.add(bone((0.25, 0.25, 0), 0.02, 0.02), -1, (-0.08, 0, 0))
    body.add(bone((-0.17, 0, 0), 0.015, 0.015), frame)
    body.add(bone((-0.06, 0.27, 0), 0.018, 0.02), frame)
    fork = body.add(
        bone((0.12, -0.25, 0), 0.018, 0.015),
        frame,
        (0.25, 0.25, 0),
        (0, 0.2 * wobble(rng, body.frames, 20.0), 0),
    )
    body.add(bone((-0.05, 0.08, 0), 0.015, 0.015), fork)
    body.add(moved(bone((0, 0, 0.36), 0.012, 0.012), (-0.05, 0.08, -0.18)), fork)
    add_ring(body, frame, (-0.17, 0, 0), wheel, tyre)
    add_ring(body, fork, (0.12, -0.25, 0), wheel, tyre)
    if rng.random() < 0.8:
        trunk = body.add(
            bone((0.15, 0.28, 0), 0.07, 0.08),
            frame,
            (-0.06, 0.3, 0),
            (0, 0, 0.1 * wobble(rng, body.frames, 30.0)),
        )
        body.add(ball((0.07, 0.085, 0.065)), trunk, (0.2, 0.42, 0))
        for side in (-1, 1):
            pedal = np.sin(gait.phase + (side > 0) * _PI)
            body.add(
                bone((0.2, -0.14, 0), 0.03, 0.025),
                trunk,
                (0.14, 0.24, side * 0.1),
                (0, 0, 0.05 * pedal),
            )
            thigh = body.add(
                bone((0.2, -0.08, 0), 0.05, 0.04),
                frame,
                (-0.06, 0.27, side * 0.06),
                (0, 0, 0.35 * pedal),
            )
            body.add(
                bone((-0.05, -0.26, 0), 0.035, 0.025),
                thigh,
                (0.2, -0.08, 0),
                (0, 0, -0.35 * pedal - 0.1),
            )
    return body


def make_robot_arm(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a robot arm on a foot or a cart, reaching about, with a gripper that works."""
    body = Body(gait.phase.size)
    foot = body.add(ring_stack(rng.uniform(0.08, 0.2), rng.uniform(0.06, 0.12), 0.1))
    if rng.random() < 0.3:
        body.add(block(rng.uniform((0.3, 0.1, 0.25), (0.7, 0.35, 0.5)), (0, -0.2, 0)), foot)
    _add_arm(rng, body, foot, (0, 0.05, 0), rng.uniform(0.3, 0.5))
    return body


def make_flyer(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return an aeroplane, helicopter or drone."""
    body = Body(gait.phase.size)
    girth = rng.uniform(0.04, 0.12)
    hull = body.add(
        ball((rng.uniform(0.15, 0.5), girth, girth)),
        turn=(0.2 * wobble(rng, body.frames, 40.0), 0, 0),
    )
    if rng.random() < 0.5:
        sweep, chord, span = rng.uniform(0, 0.3), rng.uniform(0.08, 0.2), rng.uniform(0.3, 0.6)
        for side in (-1, 1):
            body.add(_fin(chord, span, sweep, side), hull)
            body.add(_fin(chord * 0.6, span * 0.35, sweep * 0.4, side), hull, (-0.4, 0.02, 0))
        body.add(_fin(chord * 0.7, 0.18, 0.1, 1)[:, [0, 2, 1]], hull, (-0.4, 0, 0))
        body.add(bone((-0.42, 0.02, 0), girth * 0.9, girth * 0.3), hull)
        return body
    for angle in np.arange(4) * _PI / 2 + _PI / 4:
        tip = (0.35 * float(np.cos(angle)), 0.03, 0.35 * float(np.sin(angle)))
        body.add(bone(tip, 0.02, 0.025), hull)
        blade = block((0.3, 0.01, 0.03))
        body.add(blade, hull, (tip[0], 0.07, tip[2]), (0, gait.phase * 2.3 + angle, 0))
    for side in (-1, 1):
        body.add(moved(bone((0.3, 0, 0), 0.012, 0.012), (-0.15, -0.18, side * -0.1)), hull)
        body.add(bone((0, -0.18, 0), 0.012, 0.012), hull, (0, 0, side * -0.1))
    return body


def _add_arm(rng: np.random.Generator, body: Body, parent: int, at: Triple, reach: float) -> None:
    """Hang a jointed arm of two to four links with a gripper, bucket or hook."""
    boxy, girth = rng.random() < 0.4, rng.uniform(0.03, 0.08)
    joint = body.add(
        disc(girth * 1.4, girth * 2, 1),
        parent,
        at,
        (0, rng.uniform(0.3, 1.2) * wobble(rng, body.frames, 35.0), 0),
    )
    place, bend = (0.0, 0.0, 0.0), rng.uniform(-0.6, 0.6)
    for index in range(int(rng.integers(2, 5))):
        length = reach * rng.uniform(0.6, 1.1) * 0.85**index
        thick = girth * 0.85**index
        turn = bend + rng.uniform(0.1, 0.5) * np.clip(
            wobble(rng, body.frames, rng.uniform(15, 50)), -2, 2
        )
        solid = (
            block((thick * 2, length, thick * 2), (0, length / 2, 0))
            if boxy
            else bone((0, length, 0), thick, thick * 0.85)
        )
        joint = body.add(solid, joint, place, (0, 0, turn))
        body.add(disc(thick * 1.3, thick * 2.4), joint)
        place, bend = (0.0, length, 0.0), rng.choice([-1, 1]) * rng.uniform(0.3, 1.4)
    hand = body.add(
        block((girth * 2.5, girth, girth * 1.5)),
        joint,
        place,
        (0, wobble(rng, body.frames, 30.0), 0),
    )
    gap = 0.3 + 0.3 * np.tanh(wobble(rng, body.frames, 20.0))
    for side in (-1, 1):
        finger = rng.uniform(0.06, 0.14)
        body.add(
            block((0.02, finger, girth), (0, finger / 2, 0)),
            hand,
            (side * girth, 0, 0),
            (0, 0, -side * gap),
        )


def _wedge(long: float, high: float, wide: float, top: float, narrow: float) -> np.ndarray:
    """Return a block whose upper face is shorter and narrower by the given factors."""
    corners = block((long, high, wide))
    upper = corners[:, 1] > 0
    corners[upper] *= (top, 1, narrow)
    return corners


def _fin(chord: float, span: float, sweep: float, side: int) -> np.ndarray:
    root, tip = chord / 2, chord / 4
    flat = [[root, 0], [-root, 0], [tip - sweep, span], [-tip - sweep, span]]
    return np.array([[x, h, side * z] for x, z in flat for h in (-0.01, 0.01)])


MACHINES: tuple[tuple[float, Maker], ...] = (
    (0.2, make_vehicle),
    (0.06, make_cycle),
    (0.2, make_robot_arm),
    (0.06, make_flyer),
    (0.16, make_vessel),
    (0.1, make_furniture),
    (0.08, make_hinged),
    (0.14, make_assembly),
)
"""Makers of things and how often each is taken."""
