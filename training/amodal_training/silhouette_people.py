"""People who walk, run, sit, bend and gesture, as jointed bodies of random proportions."""

from __future__ import annotations

import numpy as np

from amodal_training.silhouette_bodies import Body, ball, block, bone, moved, ring_stack
from amodal_training.silhouette_motion import GaitTrack, Track, log_uniform, wobble

_PI = float(np.pi)


def make_person(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a person, child or humanoid robot that walks, runs, sits, bends or gestures."""
    body = Body(gait.phase.size)
    action = rng.choice(["walk", "run", "stand", "sit", "bend"], p=[0.4, 0.15, 0.2, 0.12, 0.13])
    leg, torso = rng.normal(0.48, 0.03), rng.normal(0.3, 0.02)
    girth = log_uniform(rng, 0.75, 1.6)
    stride = {"walk": 0.45, "run": 0.85}.get(str(action), 0.04)
    lean = {"run": -0.25, "bend": -0.7}.get(str(action), -0.03) * rng.uniform(0.5, 1.5)
    sway = 0.06 * wobble(rng, body.frames, 30.0) * (4 if action == "bend" else 1)
    hips = body.add(
        ball((0.055 * girth, 0.07, 0.085 * girth)), turn=(0, 0.1 * np.sin(gait.phase), 0)
    )
    chest = body.add(
        np.concatenate(
            [
                ball((0.06 * girth, 0.1, 0.12 * girth), (0, torso * 0.75, 0)),
                ball((0.055 * girth, 0.06, 0.085 * girth), (0, 0.02, 0)),
            ]
        ),
        hips,
        turn=(0.3 * sway, 0.15 * np.sin(gait.phase + _PI), lean + sway),
    )
    _add_head(rng, body, chest, torso)
    for side in (-1, 1):
        phase = gait.phase + (0 if side > 0 else _PI)
        _add_leg(body, hips, (leg, girth, stride, side), gait.strength * np.sin(phase), str(action))
        _add_arm(rng, body, chest, (torso, girth, stride, side), -gait.strength * np.sin(phase))
    if rng.random() < 0.25:
        hem = log_uniform(rng, 0.2, 0.5) * leg
        skirt = ring_stack(0.12 * girth + 0.12 * rng.random(), 0.07 * girth, hem * 2)
        body.add(moved(skirt, (0, -hem, 0)), hips, turn=(0, 0, 0.1 * sway))
    if rng.random() < 0.2:
        body.add(block(rng.uniform(0.08, 0.24, 3), (-0.13, torso * 0.6, 0)), chest)
    return body


def _add_head(rng: np.random.Generator, body: Body, chest: int, torso: float) -> None:
    size = rng.normal(0.065, 0.008) * (1.35 if rng.random() < 0.15 else 1)
    nod = 0.15 * wobble(rng, body.frames, 25.0)
    neck = body.add(
        bone((0.01, 0.09, 0), 0.03, 0.03), chest, (0, torso + 0.03, 0), (0, nod * 2, nod)
    )
    head = body.add(ball((size * 1.1, size * 1.3, size)), neck, (0.015, 0.1, 0))
    draw = rng.random()
    if draw < 0.15:
        body.add(ring_stack(size * 1.9, size * 1.5, 0.02), head, (0, size * 0.7, 0))
        body.add(ring_stack(size * 1.1, size, size), head, (0, size * 1.3, 0))
    elif draw < 0.4:
        body.add(ball((size, size * rng.uniform(0.6, 2.5), size * 1.1), (-size * 0.6, 0, 0)), head)


def _add_leg(
    body: Body, hips: int, build: tuple[float, float, float, int], swing: Track, action: str
) -> None:
    leg, girth, stride, side = build
    seated = 1.5 if action == "sit" else 0.0
    thigh = body.add(
        bone((0, -leg / 2, 0), 0.06 * girth, 0.045 * girth),
        hips,
        (0, -0.02, side * 0.055 * girth),
        (-side * 0.04, 0, seated + stride * swing + 0.1 * stride),
    )
    flex = stride * (0.35 + 0.9 * np.maximum(0, -np.roll(swing, 2))) + seated
    shin = body.add(bone((0, -leg / 2, 0), 0.042, 0.03), thigh, (0, -leg / 2, 0), (0, 0, -flex))
    body.add(bone((0.1, -0.015, 0), 0.03, 0.02), shin, (-0.02, -leg / 2, 0))


def _add_arm(
    rng: np.random.Generator,
    body: Body,
    chest: int,
    build: tuple[float, float, float, int],
    swing: Track,
) -> None:
    torso, girth, stride, side = build
    length = rng.normal(0.17, 0.01)
    reach = rng.random() < 0.35
    lift = rng.uniform(0.2, 2.4) * (0.6 + 0.4 * np.tanh(wobble(rng, body.frames, 25.0))) * reach
    spread = side * -(0.12 + rng.random() * reach * (1 + 0.3 * wobble(rng, body.frames, 20.0)))
    upper = body.add(
        bone((0, -length, 0), 0.04 * girth, 0.033),
        chest,
        (0, torso * 0.95, side * 0.125 * girth),
        (spread, 0, 0.9 * stride * swing + lift),
    )
    bend = 0.2 + stride + 0.5 * reach * np.abs(wobble(rng, body.frames, 18.0))
    lower = body.add(bone((0, -length, 0), 0.033, 0.025), upper, (0, -length, 0), (0, 0, bend))
    body.add(ball((0.03, 0.045, 0.02), (0, -0.03, 0)), lower, (0, -length, 0))
    if rng.random() < 0.12:
        held = (
            block(rng.uniform(0.03, 0.25, 3))
            if rng.random() < 0.5
            else bone((rng.normal(0, 0.2), rng.normal(0, 0.3), 0), 0.012, 0.02)
        )
        body.add(held, lower, (0.02, -length - 0.05, 0))
