"""The training loop: read it in one sitting.

A run is a folder: ``checkpoint.pt`` (to go on from), ``logs/`` (TensorBoard), ``model/`` (the
export). The weights that count are the running average over steps.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter

from amodal_model.errors import InputError
from amodal_model.memory import MemoryState
from amodal_model.network import CONDITIONS, AmodalNetwork, evidence_logits, write
from amodal_training.batches import StepBatches, draw_batch
from amodal_training.losses import (
    confidence_loss,
    has_hidden_part,
    hidden_iou_loss,
    make_target,
    measured_iou,
    silhouette_loss,
    whole_iou_loss,
)
from amodal_training.occluders import PasteConfig
from amodal_training.rollout import Batch, Following
from amodal_training.sequences import SequenceSource
from amodal_training.teaching import taught_loss


class TrainConfig(NamedTuple):
    """What makes a run, besides its data.

    Attributes:
        steps: length of the run.
        sequences: sequences in a batch.
        frames: frames in a sequence.
        learning_rate: its peak.
        seed: of weights and batches.
        precision: of Lightning Fabric, ``32-true`` or ``bf16-mixed``; ``auto``: what is fast here.
        workers: processes that draw batches; 0 draws them in the loop.
        save_every_s: seconds between checkpoints.
        budget_s: seconds of training, over all sessions of the run, after which it is over; the
            learning rate then falls with time instead of steps.
        paste: how occluders are pasted.
        following: how targets are followed; ``None`` as the stream does.
    """

    steps: int = 3000
    sequences: int = 12
    frames: int = 24
    learning_rate: float = 2e-3
    seed: int = 0
    precision: str = "auto"
    workers: int = 1
    save_every_s: float = 120.0
    budget_s: float = math.inf
    paste: PasteConfig = PasteConfig()
    following: Following | None = None


class Progress(NamedTuple):
    """What a step tells whoever watches: steps done, share of the run that is over, loss."""

    step: int
    share: float
    loss: float


LOSS_TERMS = ("silhouette", "hidden_iou", "whole_iou", "confidence", "taught")
MICRO_BATCH = 128
"""Crops that go through the network at once; more only costs memory."""
WARM_UP_STEPS = 60
AVERAGE_DECAY = 0.998
WEIGHT_DECAY = 0.02


def train_network(
    run: Path,
    source: SequenceSource,
    network: AmodalNetwork,
    config: TrainConfig,
    *,
    teacher: AmodalNetwork | None = None,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> AmodalNetwork:
    """Train in folder ``run``, going on from its checkpoint where there is one.

    Args:
        run: folder of the run.
        source: targets and occluders.
        network: weights to begin with; changed in place.
        config: the run's settings; a checkpoint of other settings is refused.
        teacher: whose say is learned as well.
        watch: called after every step.

    Returns:
        The network with its averaged weights, in evaluation mode.

    Raises:
        InputError: the folder holds a checkpoint of other settings.
    """
    # OpenCV's threads do not survive the fork of a worker, which would wait for them for ever
    cv2.setNumThreads(1)
    torch.manual_seed(config.seed)
    precision = find_precision() if config.precision == "auto" else config.precision
    fabric = Fabric(accelerator="auto", devices=1, precision=precision)  # type: ignore[arg-type]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    average = copy.deepcopy(network).requires_grad_(requires_grad=False)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=WEIGHT_DECAY
    )
    trained = (network, average, optimizer)
    first, spent_s = _restore(run, trained, config)
    model, fabric_optimizer = fabric.setup(network, optimizer)
    model.mark_forward_method("complete")
    average.to(fabric.device)
    if teacher is not None:
        teacher.to(fabric.device).eval()
    model.train()
    log = SummaryWriter(run / "logs")
    began = saved = time.monotonic()
    for step, batch in enumerate(_load_batches(source, config, first), first):
        now = time.monotonic()
        share = max(step / config.steps, (spent_s + now - began) / config.budget_s)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_share(step, share)
        fabric_optimizer.zero_grad()
        terms = _backward(fabric, model, batch, teacher)
        fabric.clip_gradients(model, fabric_optimizer, max_norm=1.0)
        fabric_optimizer.step()
        follow_average(average, network, step)
        for name, term in terms.items():
            log.add_scalar(f"loss/{name}", term, step)
        is_over = share >= 1 or step + 1 == config.steps
        if is_over or now > saved + config.save_every_s:
            _save(run, trained, config, (step + 1, spent_s + now - began))
            saved = now
        watch(Progress(step + 1, share, sum(terms.values())))
        if is_over:
            break
    log.close()
    return average.eval()


def find_precision() -> str:
    """Return ``bf16-mixed`` where the hardware computes in it, else ``32-true``.

    A CPU without tiles is slower in it: with AVX-512 instructions by a half, without ten times.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if torch.cpu._is_amx_tile_supported() else "32-true"


def _load_batches(source: SequenceSource, config: TrainConfig, first: int) -> Iterable[Batch]:
    shape = (config.sequences, config.frames)
    batches = StepBatches(source, config.paste, shape, config.seed, config.steps, config.following)
    return DataLoader(
        Subset(batches, range(first, config.steps)),
        batch_size=None,
        num_workers=config.workers,
        prefetch_factor=2 if config.workers else None,
    )


def _backward(
    fabric: Fabric, model: Any, batch: Batch, teacher: AmodalNetwork | None
) -> dict[str, float]:
    """Add a batch's gradients, part by part, and return its loss terms."""
    terms = dict.fromkeys(LOSS_TERMS, 0.0)
    for part in split(batch):
        share = len(part.crop) / len(batch.crop)
        part_terms = batch_losses(model, part, fabric.device, teacher)
        fabric.backward(torch.stack(list(part_terms.values())).sum() * share)
        for name, term in part_terms.items():
            terms[name] += share * float(term.detach())
    return terms


def rate_share(step: int, share: float) -> float:
    """Return the learning rate's share of its peak: linear warm-up, then cosine to 1 %.

    Args:
        step: steps done.
        share: how much of the run is over, in [0, 1].
    """
    warm = min((step + 1) / WARM_UP_STEPS, 1.0)
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * min(share, 1.0))) / 2)


def split(batch: Batch) -> list[Batch]:
    """Return the batch in parts of at most `MICRO_BATCH` crops."""
    starts = range(0, len(batch.crop), MICRO_BATCH)
    return [Batch(*(field[start : start + MICRO_BATCH] for field in batch)) for start in starts]


def batch_losses(
    model: Any, batch: Batch, device: torch.device, teacher: AmodalNetwork | None = None
) -> dict[str, Tensor]:
    """Return the loss terms of a batch."""
    crop, context, memory, answer, unknown = to_tensors(batch, device)
    whole_target = make_target(crop, answer, unknown)
    target = make_target(crop, answer, _beyond_telling(batch, unknown))
    made = model.complete(crop, context, memory)
    logits, confidence = (field.float() for field in made)
    terms = {
        "silhouette": silhouette_loss(logits, target),
        "hidden_iou": hidden_iou_loss(logits, target),
        "whole_iou": 2 * whole_iou_loss(logits, target),
        "confidence": 0.1 * confidence_loss(confidence, logits, whole_target),
    }
    if teacher is not None:
        with torch.no_grad():
            said = teacher.complete(crop, context, memory)
        terms["taught"] = taught_loss(made, said, crop[:, 1] + crop[:, 2], target)
    return terms


def _beyond_telling(batch: Batch, unknown: Tensor) -> Tensor:
    """Return where answers are unknown, or such that nothing tells them: they teach no shapes."""
    carried = torch.as_tensor(batch.is_carried, dtype=unknown.dtype, device=unknown.device)
    return torch.maximum(unknown, carried[:, None, None])


def to_tensors(
    batch: Batch, device: torch.device
) -> tuple[Tensor, Tensor, MemoryState[Tensor], Tensor, Tensor]:
    """Return (crop, context, memory, answer, unknown) of a batch, coverage in [0, 1].

    The memory is that after the crop was written into it.
    """

    def image(array: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(array).to(device).float() / 255

    def plain(array: np.ndarray | Tensor) -> Tensor:
        return torch.as_tensor(array).to(device)

    crop, context = image(batch.crop), plain(batch.context)
    moved = MemoryState(image(batch.maps), plain(batch.scalars))
    memory = write(crop, context[:, 1], moved)
    return crop, context, memory, image(batch.answer), image(batch.unknown)


@torch.no_grad()
def follow_average(average: AmodalNetwork, network: AmodalNetwork, step: int) -> None:
    """Move the averaged weights towards the present ones; quickly in the first steps."""
    decay = min(AVERAGE_DECAY, (step + 1) / (step + 10))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for mean_buffer, buffer in zip(average.buffers(), network.buffers(), strict=True):
        if mean_buffer.is_floating_point():
            mean_buffer.lerp_(buffer, 1 - decay)  # averaged weights need averaged statistics
        else:
            mean_buffer.copy_(buffer)


Trained = tuple[AmodalNetwork, AmodalNetwork, torch.optim.Optimizer]


def _settings(network: AmodalNetwork, config: TrainConfig) -> dict[str, Any]:
    """Return what must not change between the sessions of a run."""
    kept = config._asdict() | {"paste": config.paste._asdict()}
    for name in ("workers", "save_every_s", "following"):
        kept.pop(name)
    if config.following is not None:
        kept["following"] = repr(config.following)
    seen = {"conditions": CONDITIONS}
    return {"network": network.config._asdict() | seen, "train": kept}


def _save(run: Path, trained: Trained, config: TrainConfig, spent: tuple[int, float]) -> None:
    network, average, optimizer = trained
    run.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": _settings(network, config),
        "step": spent[0],
        "seconds": spent[1],
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = run / "checkpoint.pt.partial"
    torch.save(content, partial)
    partial.replace(run / "checkpoint.pt")


def _restore(run: Path, trained: Trained, config: TrainConfig) -> tuple[int, float]:
    """Load the checkpoint of a run, if any, and return the step and the seconds it stands at."""
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    content = torch.load(path, weights_only=True)
    settings = _settings(trained[0], config)
    if content["settings"] != settings:
        raise InputError(
            f"{path} was trained with {content['settings']}, asked for {settings}; "
            "give another folder"
        )
    network, average, optimizer = trained
    network.load_state_dict(content["network"])
    average.load_state_dict(content["average"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"]), float(content["seconds"])


class Selection(NamedTuple):
    """The label-free measure of a network: synthetic occlusions of held-out clips.

    Attributes:
        hidden_iou: mean IoU of the hidden part, over objects with one.
        evidence_iou: the same of the memory alone, without the network.
        whole_iou: mean IoU of the whole silhouette.
        expected_hidden_iou: mean of the network's own expectation of ``hidden_iou``.
    """

    hidden_iou: float
    evidence_iou: float
    whole_iou: float
    expected_hidden_iou: float


def selection_batches(
    source: SequenceSource, count: int = 4, sequences: int = 32, frames: int = 24
) -> list[Batch]:
    """Return the fixed synthetic occlusions that selection is measured on."""
    return [
        draw_batch(np.random.default_rng([7, i]), source, PasteConfig(), (sequences, frames))
        for i in range(count)
    ]


@torch.no_grad()
def measure_selection(network: AmodalNetwork, batches: list[Batch]) -> Selection:
    """Return how well a network fills synthetic occlusions, without any amodal label."""
    network.eval()
    device = next(network.parameters()).device
    rows = []
    for batch in batches:
        crop, context, memory, answer, unknown = to_tensors(batch, device)
        target = make_target(crop, answer, _beyond_telling(batch, unknown))
        logits, confidence = network.complete(crop, context, memory)
        whole, hidden = measured_iou(logits, target)
        evidence = measured_iou(evidence_logits(crop, memory.maps), target)[1]
        counts = has_hidden_part(target)
        expected = confidence[:, 1].sigmoid()
        rows.append(torch.stack([hidden, evidence, whole, expected], 1)[counts])
    return Selection(*torch.cat(rows).mean(0).tolist())
