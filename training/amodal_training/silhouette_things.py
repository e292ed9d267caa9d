"""Household things, furniture and nameless things, as jointed bodies of random proportions."""

from __future__ import annotations

import numpy as np

from amodal_training.silhouette_bodies import (
    Body,
    add_ring,
    ball,
    block,
    bone,
    disc,
    moved,
    ring_stack,
)
from amodal_training.silhouette_motion import GaitTrack, log_uniform, wobble


def make_vessel(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a turned thing: bottle, vase, cup, bowl, lamp, bin; maybe a handle, lid or flowers."""
    body = Body(gait.phase.size)
    levels = int(rng.integers(2, 7))
    radii = np.exp(rng.normal(0, 0.45, levels + 1)) * log_uniform(rng, 0.08, 0.4)
    heights = rng.dirichlet(np.full(levels, 2.0))
    base = body.add(np.zeros((0, 3)), turn=(0.0, 0.0, 0.0))
    top = -0.5
    for index, height in enumerate(heights):
        solid = ring_stack(radii[index], radii[index + 1], height)
        body.add(moved(solid, (0, top + height / 2, 0)), base)
        top += height
    if rng.random() < 0.4:
        size, bar = rng.uniform(0.1, 0.3), rng.uniform(0.02, 0.05)
        at = float(radii[levels // 2]) + size * 0.4
        add_ring(body, base, (at, rng.uniform(-0.2, 0.2), 0), size, bar)
    if rng.random() < 0.25:
        _add_plant(rng, body, base, top, gait)
    return body


def make_furniture(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return a chair, table, shelf or cupboard, maybe with a door or drawer that opens."""
    body = Body(gait.phase.size)
    wide, deep, slab = rng.uniform(0.4, 1.2), rng.uniform(0.35, 0.8), rng.uniform(0.03, 0.1)
    leg, post = rng.uniform(0.2, 0.7), rng.uniform(0.02, 0.06)
    seat = body.add(block((wide, slab, deep)))
    kind = rng.choice(["four", "column", "box"], p=[0.5, 0.2, 0.3])
    if kind == "four":
        for x in (-1, 1):
            for z in (-1, 1):
                at = (x * (wide / 2 - post), 0, z * (deep / 2 - post))
                body.add(bone((x * 0.03, -leg, z * 0.03), post, post * 0.8), seat, at)
    elif kind == "column":
        body.add(bone((0, -leg, 0), post * 1.5, post * 1.5), seat)
        body.add(disc(0.3 * wide, slab, 1), seat, (0, -leg, 0))
    else:
        body.add(block((wide * 0.95, leg, deep * 0.95), (0, -leg / 2, 0)), seat)
        swing = 1.5 / (1 + np.exp(-2 * wobble(rng, body.frames, 25.0)))
        door = (wide / 2, -leg / 2, deep / 2)
        body.add(block((wide, leg, 0.03), (-wide / 2, 0, 0)), seat, door, (0, swing, 0))
    if rng.random() < 0.5:
        high = rng.uniform(0.2, 0.8)
        for side in (-1, 1) if rng.random() < 0.4 else (0,):
            size = (post, high, deep) if side == 0 else (post, high, post * 2)
            body.add(
                block(size, (-wide / 2, high / 2, side * (deep / 2 - post))), seat, turn=(0, 0, 0.1)
            )
        body.add(
            block((post, high * 0.3, deep), (-wide / 2, high * 0.85, 0)), seat, turn=(0, 0, 0.1)
        )
    return body


def make_hinged(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return two or three bars or plates that open and close: laptop, scissors, book, pliers."""
    body = Body(gait.phase.size)
    pieces = int(rng.integers(2, 4))
    opening = rng.uniform(0.2, 1.2) + rng.uniform(0.1, 0.9) * gait.strength * np.sin(gait.phase)
    size = rng.uniform((0.4, 0.02, 0.02), (1.0, 0.15, 0.8))
    overlap = rng.uniform(0, 0.5) * size[0]
    joint = body.add(block(size, (size[0] / 2 - overlap, 0, 0)))
    for _ in range(pieces - 1):
        lever = size * rng.uniform(0.6, 1.1, 3)
        joint = body.add(block(lever, (lever[0] / 2 - overlap, 0, 0)), joint, turn=(0, 0, opening))
        opening = rng.uniform(-1, 1) * opening
    if rng.random() < 0.4:
        body.add(ball(rng.uniform(0.05, 0.2, 3)), joint, (size[0] * 0.8, 0, 0))
    return body


def make_assembly(rng: np.random.Generator, gait: GaitTrack) -> Body:
    """Return solids grown at random on each other: tools, toys, parts, things without a name."""
    body = Body(gait.phase.size)
    articulate = rng.random() < 0.4
    parent, at = -1, np.zeros(3)
    for index in range(int(rng.integers(2, 9))):
        size = np.exp(rng.normal(0, 0.6, 3)) * 0.2
        kind = rng.integers(4)
        solid = (
            ball(size / 1.6),
            block(size),
            disc(size[0] / 1.6, size[1], int(rng.integers(3))),
            bone(size * rng.choice([-2, 0, 2], 3), size[1] / 3, size[2] / 3),
        )[kind]
        beat = rng.uniform(0.1, 0.6) * articulate * gait.strength
        turns = [
            rng.normal(0, 0.3) + beat * np.sin(gait.phase + rng.uniform(0, 6)) for _ in range(3)
        ]
        added = body.add(solid, parent, (float(at[0]), float(at[1]), float(at[2])), turns)
        if index == 0 or rng.random() < 0.5:
            parent = added
        anchor = body.parts[parent].points
        at = anchor[rng.integers(len(anchor))] * 0.8
    return body


def _add_plant(
    rng: np.random.Generator, body: Body, parent: int, top: float, gait: GaitTrack
) -> None:
    """Hang stalks with leaves or flowers, that a wind moves."""
    for _ in range(int(rng.integers(3, 8))):
        length, lean = rng.uniform(0.2, 0.8), rng.normal(0, 0.5, 2)
        wind = 0.1 * gait.strength * np.sin(gait.phase + rng.uniform(0, 1))
        stalk = body.add(
            bone((0, length, 0), 0.012, 0.01), parent, (0, top, 0), (lean[0], 0, lean[1] + wind)
        )
        leaf = rng.uniform((0.04, 0.05, 0.02), (0.12, 0.25, 0.1))
        body.add(ball(leaf, (0, leaf[1] * 0.8, 0)), stalk, (0, length * 0.9, 0), (0.3, 0, 2 * wind))
