"""Animals that walk, flap, swim and crawl, as jointed bodies of random proportions."""

from __future__ import annotations

import numpy as np

from amodal_training.silhouette_bodies import Body, Maker, Triple, ball, bone, moved
from amodal_training.silhouette_motion import GaitTrack, log_uniform, wobble
from amodal_training.silhouette_people import make_person

_PI = float(np.pi)


def make_quadruped(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a four-legged animal: dog, cat, horse, cow, giraffe, elephant and between."""
    body = Body(gait.phase.size)
    long, leg, deep = (
        log_uniform(rng, 0.55, 1.0),
        log_uniform(rng, 0.2, 0.8),
        rng.uniform(0.12, 0.3),
    )
    thick = rng.uniform(0.3, 0.55) * deep
    arch = 0.06 * gait.strength * np.sin(gait.phase)
    rump = body.add(
        np.concatenate(
            [ball((deep * 0.6, deep * 0.5, thick)), bone((long / 2, 0, 0), 0.4 * deep, 0.4 * deep)]
        ),
        turn=(0, 0, -arch),
    )
    chest = body.add(
        ball((long * 0.3, deep * rng.uniform(0.45, 0.7), thick), (long * 0.3, 0, 0)),
        rump,
        (long * 0.35, 0, 0),
        (0, 0.1 * wobble(rng, body.frames, 30.0), 2 * arch),
    )
    pattern = [(0, _PI, _PI / 2, 1.5 * _PI), (0, _PI, _PI, 0), (0, 0.3, _PI, _PI + 0.3)][
        rng.integers(3)
    ]
    stride, radius = rng.uniform(0.25, 0.75), rng.uniform(0.1, 0.3) * deep
    for index, shift in enumerate(pattern):
        front, side = index < 2, 1 if index % 2 else -1
        at = (long * 0.45 if front else -0.02, -deep * 0.25, side * thick * 0.7)
        swing = gait.strength * np.sin(gait.phase + shift)
        upper = body.add(
            bone((0, -leg * 0.5, 0), radius * 1.5, radius),
            chest if front else rump,
            at,
            (0, 0, stride * swing + (-0.1 if front else 0.2)),
        )
        flex = stride * (0.3 + np.maximum(0, np.roll(swing, -3))) * (-1 if front else 1) * 0.9
        lower = body.add(
            bone((0, -leg * 0.55, 0), radius, radius * 0.6),
            upper,
            (0, -leg * 0.5, 0),
            (0, 0, flex if front else -np.abs(flex)),
        )
        body.add(bone((radius, 0, 0), radius * 0.9, radius * 0.7), lower, (0, -leg * 0.55, 0))
    _add_neck(rng, body, chest, (long, deep, thick))
    _add_tail(rng, body, rump, (-deep * 0.5, deep * 0.2, 0), gait)
    return body


def _add_neck(
    rng: np.random.Generator, body: Body, chest: int, build: tuple[float, float, float]
) -> None:
    long, deep, thick = build
    neck, rise = log_uniform(rng, 0.1, 0.7), rng.uniform(0.1, 1.3)
    sway = rng.uniform(0.05, 0.5) * wobble(rng, body.frames, 35.0)
    collar = body.add(
        bone((neck, 0, 0), deep * 0.35, deep * 0.22),
        chest,
        (long * 0.5, deep * 0.15, 0),
        (0, 0.5 * wobble(rng, body.frames, 40.0), rise + sway),
    )
    size = rng.uniform(0.25, 0.45) * deep
    head = body.add(
        ball((size * 1.2, size, size * 0.8)),
        collar,
        (neck, 0, 0),
        (0, 0.4 * wobble(rng, body.frames, 25.0), -rise * rng.uniform(0.7, 1.4) - 0.5 * sway),
    )
    snout = size * rng.uniform(0.8, 2.5)
    body.add(bone((snout, -0.2 * size, 0), size * 0.7, size * 0.4), head, (size * 0.5, 0, 0))
    ear = size * log_uniform(rng, 0.3, 2.0)
    for side in (-1, 1):
        flop = rng.uniform(-0.8, 0.8)
        body.add(
            ball((ear * 0.35, ear, ear * 0.3), (0, ear, 0)),
            head,
            (-size * 0.4, size * 0.6, side * thick * 0.5),
            (side * flop, 0, 0.15 * wobble(rng, body.frames, 12.0)),
        )
    if rng.random() < 0.15:
        _add_chain(rng, body, head, (size, 0, 0), (size * 0.8, size * 0.5, -1.2))


def _add_tail(rng: np.random.Generator, body: Body, rump: int, at: Triple, gait: GaitTrack) -> None:
    joint, wag = rump, log_uniform(rng, 0.05, 0.6)
    length, radius, droop = (
        log_uniform(rng, 0.05, 0.22),
        log_uniform(rng, 0.012, 0.05),
        rng.normal(0, 0.5),
    )
    for index in range(4):
        beat = wag * gait.strength * np.sin(gait.phase - 0.7 * index) + 0.1 * wobble(
            rng, body.frames, 30.0
        )
        start = droop if index else rng.normal(0.3, 0.5)
        joint = body.add(
            bone((-length, 0, 0), radius, radius * 0.9),
            joint,
            at if index == 0 else (-length, 0, 0),
            (0, beat, start * 0.5 + 0.4 * beat),
        )


def _add_chain(
    rng: np.random.Generator,
    body: Body,
    parent: int,
    at: Triple,
    build: tuple[float, float, float],
) -> None:
    """Hang a soft chain (trunk, tentacle, hose) of five bones: length and radius of one, bend."""
    length, radius, bend = build
    joint = parent
    for index in range(5):
        curl = 0.35 * wobble(rng, body.frames, 25.0)
        joint = body.add(
            bone((length, 0, 0), radius * (1 - 0.12 * index), radius * (0.88 - 0.12 * index)),
            joint,
            at if index == 0 else (length, 0, 0),
            (0, 0.3 * wobble(rng, body.frames, 30.0), curl + (bend if index == 0 else 0)),
        )


def make_bird(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a bird, bat or butterfly: two-piece wings that flap, or folded while it walks."""
    body = Body(gait.phase.size)
    long, deep = 0.5, rng.uniform(0.08, 0.2)
    trunk = body.add(ball((long * 0.5, deep, deep * 0.9)), turn=(0, 0, rng.uniform(-0.2, 0.6)))
    head = body.add(ball((deep * 0.7,) * 3), trunk, (long * 0.5, deep * 0.6, 0))
    body.add(bone((deep * rng.uniform(0.5, 2.0), 0, 0), deep * 0.3, 0.01), head, (deep * 0.5, 0, 0))
    fan = rng.uniform(0.05, 0.2)
    body.add(
        np.array([[0, 0, 0], [-0.3, 0, -fan], [-0.3, 0, fan], [0, 0.03, 0]]),
        trunk,
        (-long * 0.4, 0, 0),
    )
    span, chord = log_uniform(rng, 0.25, 0.8), rng.uniform(0.12, 0.4)
    lift = rng.uniform(0.2, 1.0) * gait.strength * np.sin(gait.phase) + rng.normal(0.1, 0.2)
    fold = 0.4 * gait.strength * np.sin(gait.phase - 1.0)
    for side in (-1, 1):
        inner = body.add(
            _wing(span / 2, chord, chord * 0.9, side),
            trunk,
            (0.1, deep * 0.5, side * deep * 0.5),
            (-side * lift, 0, 0),
        )
        body.add(
            _wing(span / 2, chord * 0.9, chord * 0.2, side),
            inner,
            (0, 0, side * span / 2),
            (-side * fold, 0, 0),
        )
    if rng.random() < 0.5:
        for side in (-1, 1):
            kick = 0.6 * gait.strength * np.sin(gait.phase + (side > 0) * _PI)
            leg = log_uniform(rng, 0.1, 0.4)
            shank = body.add(
                bone((0, -leg, 0), 0.02, 0.015),
                trunk,
                (-0.05, -deep * 0.8, side * 0.05),
                (0, 0, kick),
            )
            body.add(bone((0.08, 0, 0), 0.012, 0.01), shank, (0, -leg, 0))
    return body


def _wing(span: float, root: float, tip: float, side: int) -> np.ndarray:
    corners = [
        [root / 2, 0, 0],
        [-root / 2, 0, 0],
        [tip / 2, 0, side * span],
        [-tip / 2, 0, side * span],
    ]
    return np.concatenate([moved(np.array(corners), (0, h, 0)) for h in (-0.008, 0.008)])


def make_swimmer(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a fish, whale, snake or worm: a chain of balls along which a wave runs."""
    body = Body(gait.phase.size)
    count = int(rng.integers(5, 12))
    deep, flat = log_uniform(rng, 0.02, 0.22), rng.uniform(0.3, 1.0)
    wave, lag = rng.uniform(0.1, 0.6) * 5 / count, rng.uniform(0.4, 1.2)
    upright = rng.random() < 0.3
    joint, step = -1, 1.0 / count
    for index in range(count):
        girth = deep * (0.35 + 0.65 * np.sin(_PI * (index + 1.2) / (count + 1.5)))
        beat = (
            wave
            * (0.3 + index / count)
            * np.sin(gait.phase - lag * index)
            * (0.3 + 0.7 * gait.strength)
        )
        beat = beat + 0.06 * wobble(rng, body.frames, 40.0)
        joint = body.add(
            ball((step, girth, girth * flat), (-step / 2, 0, 0)),
            joint,
            (0.0 if index == 0 else -step, 0, 0),
            (0, 0, beat) if upright else (0, beat, 0),
        )
    if rng.random() < 0.7:
        fin = rng.uniform(0.06, 0.25)
        edge = np.array([[0, 0.01, 0], [0, -0.01, 0], [-fin, fin, 0], [-fin * 0.6, 0, 0]])
        body.add(edge, joint, (-step, 0, 0))
        body.add(edge * (1, -1, 1), joint, (-step, 0, 0))
        crest = np.array([[0.1, 0, 0], [-0.1, 0, 0], [-0.14, fin, 0]])
        body.add(moved(crest, (0, deep * 0.7, 0)), count // 2)
    return body


def make_crawler(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return an insect, spider, crab or walking machine with six or eight legs."""
    body = Body(gait.phase.size)
    trunk = body.add(ball((rng.uniform(0.1, 0.3), rng.uniform(0.06, 0.15), rng.uniform(0.08, 0.2))))
    body.add(ball(rng.uniform(0.05, 0.22, 3)), trunk, (-rng.uniform(0.15, 0.4), 0, 0))
    body.add(ball((0.08, 0.07, 0.08)), trunk, (rng.uniform(0.12, 0.3), 0, 0))
    pairs, length, radius = (
        int(rng.integers(3, 5)),
        log_uniform(rng, 0.12, 0.4),
        rng.uniform(0.01, 0.035),
    )
    knee = rng.uniform(0.3, 1.0)
    for pair in range(pairs):
        for side in (-1, 1):
            beat = gait.strength * np.sin(gait.phase + pair * 2.1 + (side > 0) * _PI)
            reach = (pair - (pairs - 1) / 2) * -0.5
            thigh = body.add(
                bone((0, 0, side * length), radius * 1.4, radius),
                trunk,
                (reach * -0.15, 0, side * 0.08),
                (-side * knee * (0.8 + 0.2 * beat), side * (reach + 0.35 * beat), 0),
            )
            body.add(
                bone((0, 0, side * length * 1.3), radius, radius * 0.5),
                thigh,
                (0, 0, side * length),
                (side * knee * 2.2, 0, 0),
            )
    return body


CREATURES: tuple[tuple[float, Maker], ...] = (
    (0.4, make_person),
    (0.3, make_quadruped),
    (0.12, make_bird),
    (0.1, make_swimmer),
    (0.08, make_crawler),
)
"""Makers of living things and how often each is taken."""
