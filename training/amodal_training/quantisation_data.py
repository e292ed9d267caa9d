"""What the 8-bit graph is calibrated and judged with: drawn occlusions, no amodal labels."""

from __future__ import annotations

import numpy as np
import torch

from amodal_model.engine import Engine
from amodal_model.memory import MemoryState, StepInputs
from amodal_model.quantisation import Calibration, Step
from amodal_training.batches import draw_batch
from amodal_training.losses import has_hidden_part, make_target, measured_iou
from amodal_training.occluders import PasteConfig
from amodal_training.rollout import Batch
from amodal_training.sequences import SequenceSource

CALIBRATION_STEPS = 60
STEP_OBJECTS = 8
JUDGED_OBJECTS = 64
"""Objects of one step when the hidden IoU is measured; more only costs memory."""


def draw_calibration(source: SequenceSource, held_out: list[Batch]) -> Calibration:
    """Return drawn training steps to calibrate on, and the held-out measure of the gate.

    Args:
        source: targets and occluders to train on.
        held_out: of `trainer.selection_batches`.
    """
    rng = np.random.default_rng(11)
    steps: list[Step] = []
    while len(steps) < CALIBRATION_STEPS:
        batch = draw_batch(rng, source, PasteConfig(), (STEP_OBJECTS, 24))
        order = rng.permutation(len(batch.crop))
        shuffled = Batch(*(field[order] for field in batch))
        steps += [as_step(part) for part in _split(shuffled, STEP_OBJECTS)]
    return Calibration(steps[:CALIBRATION_STEPS], lambda engine: hidden_iou(engine, held_out))


def as_step(batch: Batch) -> Step:
    """Return a batch as inputs of the whole step, its memory already in the present window."""
    crop, maps = (field.astype(np.float32) / 255 for field in (batch.crop, batch.maps))
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (len(crop), 1, 1))
    return StepInputs(crop, theta, batch.context), MemoryState(maps, batch.scalars)


def hidden_iou(engine: Engine, batches: list[Batch]) -> float:
    """Return an engine's mean IoU of the hidden part of drawn occlusions."""
    values = []
    for part in (part for batch in batches for part in _split(batch, JUDGED_OBJECTS)):
        logits = torch.from_numpy(engine.step(*as_step(part))[0].logits)
        images = (torch.from_numpy(field).float() / 255 for field in (part.crop, part.answer))
        crop, answer = images
        target = make_target(crop, answer, torch.from_numpy(part.unknown).float() / 255)
        values.append(measured_iou(logits, target)[1][has_hidden_part(target)])
    return float(torch.cat(values).mean())


def _split(batch: Batch, objects: int) -> list[Batch]:
    starts = range(0, len(batch.crop), objects)
    return [Batch(*(field[start : start + objects] for field in batch)) for start in starts]
