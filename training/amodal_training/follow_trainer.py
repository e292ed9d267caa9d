"""The training loop of the following network, on rollouts of its own maps."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from amodal_model.follow_network import FollowNetwork, Remembered, coarse_keys, scaled
from amodal_training.follow_rollout import Batch, Score, Stream, batch_of
from amodal_training.follow_start import fix_norms


class FollowConfig(NamedTuple):
    """Settings of a training run.

    Attributes:
        minutes: of training.
        streams: objects followed at once.
        beginners: first masks learned beside them in each step.
        learning_rate: at its highest.
        warmup: steps until then.
        smoothing: of the averaged weights, which are kept.
        seed: of everything random.
        save_s: seconds between checkpoints.
        keeps_norms: batch norms stay as they are, see `follow_start`.
    """

    minutes: float = 60.0
    streams: int = 14
    beginners: int = 4
    learning_rate: float = 2e-3
    warmup: int = 200
    smoothing: float = 0.998
    seed: int = 0
    save_s: float = 120.0
    keeps_norms: bool = False


class Progress(NamedTuple):
    """Where a run is: means over the last steps."""

    step: int
    share: float
    loss: float
    first_iou: float
    iou: float


def train_follower(
    files: Callable[[], Sequence[Path]],
    run: Path,
    config: FollowConfig,
    watch: Callable[[Progress], None],
    *,
    start: FollowNetwork | None = None,
) -> FollowNetwork:
    """Train, going on from the run's last checkpoint; return the averaged network.

    Args:
        files: says which scenes there are by now.
        run: folder of the checkpoint.
        config: settings.
        watch: called every 50 steps.
        start: weights to begin with, where there is no checkpoint; changed in place.
    """
    torch.manual_seed(config.seed)
    network = start or FollowNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.01)
    step, spent_s = _resume(run, network, average, optimizer)
    known = list(files())
    rng = np.random.default_rng((config.seed, step))
    streams = [
        Stream(known, np.random.default_rng(rng.integers(2**63)), only_begins=i < config.beginners)
        for i in range(config.streams + config.beginners)
    ]
    began = saved = time.monotonic()
    recent: list[tuple[float, list[Score]]] = []
    budget_s = config.minutes * 60
    while (elapsed_s := spent_s + time.monotonic() - began) < budget_s:
        share = elapsed_s / budget_s
        rate = config.learning_rate * min(1, (step + 1) / config.warmup)
        rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        network.train()
        if config.keeps_norms:
            fix_norms(network)
        recent.append(_step(network, optimizer, streams))
        _smooth(average, network, min(config.smoothing, (1 + step) / (10 + step)))
        step += 1
        if step % 50 == 0:
            watch(_progress(step, share, recent))
            recent.clear()
            known[:] = files()
        if time.monotonic() - saved > config.save_s:
            saved = time.monotonic()
            _save(run, network, average, optimizer, (step, spent_s + saved - began))
    _save(run, network, average, optimizer, (step, budget_s))
    return average


def _step(
    network: FollowNetwork, optimizer: torch.optim.Optimizer, streams: Sequence[Stream]
) -> tuple[float, list[Score]]:
    batch = batch_of(streams)
    # half as dear as single precision where the CPU has bfloat16; the loss stays single
    with torch.autocast("cpu", torch.bfloat16):
        logits, keys = run_network(network, batch)
    logits, keys = logits.float(), keys.float()
    loss = following_loss(logits, torch.from_numpy(batch.truth), torch.from_numpy(batch.counts))
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach()), go_on(streams, logits.detach(), keys.detach())


class HeldOut(NamedTuple):
    """Means over held-out rollouts: IoU of first masks from boxes, and of those after."""

    first_iou: float
    iou: float


def measure_following(
    network: FollowNetwork, files: Sequence[Path], *, streams: int = 16, steps: int = 120
) -> HeldOut:
    """Return how well a network follows in scenes that it was not trained on."""
    network.eval()
    followed = [Stream(files, np.random.default_rng((1, i))) for i in range(streams)]
    scores: list[Score] = []
    for _ in range(steps):
        with torch.no_grad():
            logits, keys = run_network(network, batch_of(followed))
        scores += go_on(followed, logits, keys)
    return HeldOut(*_means(scores))


def go_on(
    streams: Sequence[Stream], logits: Float[Tensor, "B S S"], keys: Float[Tensor, "B C L"]
) -> list[Score]:
    """Let all streams take the network's answers; return the scores."""
    probs = torch.sigmoid(logits).numpy()
    taken = (
        stream.take(prob, key)
        for stream, prob, key in zip(streams, probs, keys.numpy(), strict=True)
    )
    return [score for score in taken if score is not None]


def run_network(
    network: FollowNetwork, batch: Batch
) -> tuple[Float[Tensor, "B S S"], Float[Tensor, "B C L"]]:
    """Return logits and keys; remembered pictures are encoded anew, so that keys are learned."""
    pictures = scaled(_channels_first(batch.pictures))
    count, slots = batch.remembered.shape[:2]
    old = scaled(_channels_first(batch.remembered.reshape(-1, *batch.remembered.shape[2:])))
    keys = coarse_keys(network.features(old)[1])
    remembered = Remembered(
        keys.reshape(count, slots, *keys.shape[1:]), torch.from_numpy(batch.weights)
    )
    cues = torch.from_numpy(batch.cues).contiguous(memory_format=torch.channels_last)
    logits, found = network(pictures, cues, remembered)
    return logits, found


def _channels_first(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float()


def following_loss(
    logits: Float[Tensor, "B S S"], truth: Float[Tensor, "B S S"], counts: Float[Tensor, " B"]
) -> Tensor:
    """Return cross entropy and one minus the soft IoU, means over what counts."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    prob = torch.sigmoid(logits)
    both = (prob * truth).sum((1, 2))
    either = (prob + truth - prob * truth).sum((1, 2))
    shows = (truth.sum((1, 2)) > 4).float()
    iou = (both + 1) / (either + 1)
    each = 2 * entropy.mean((1, 2)) + shows * (1 - iou)
    return (each * counts).sum() / counts.sum().clamp(min=1)


def _smooth(average: FollowNetwork, network: FollowNetwork, share: float) -> None:
    with torch.no_grad():
        for kept, new in zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - share)
            else:
                kept.copy_(new)


def _progress(step: int, share: float, recent: Sequence[tuple[float, list[Score]]]) -> Progress:
    loss = float(np.mean([loss for loss, _ in recent]))
    return Progress(step, share, loss, *_means([score for _, found in recent for score in found]))


def _means(scores: Sequence[Score]) -> tuple[float, float]:
    """Return the mean IoU of first masks and of later ones."""
    first = [score.iou for score in scores if score.is_first]
    later = [score.iou for score in scores if not score.is_first]
    first_iou, iou = (float(np.mean(each)) if each else math.nan for each in (first, later))
    return first_iou, iou


def _resume(
    run: Path, network: FollowNetwork, average: FollowNetwork, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    path = run / "checkpoint.pt"
    if not path.exists():
        return 0, 0.0
    stored = torch.load(path, weights_only=True)
    network.load_state_dict(stored["network"])
    average.load_state_dict(stored["average"])
    optimizer.load_state_dict(stored["optimizer"])
    return int(stored["step"]), float(stored["spent_s"])


def _save(
    run: Path,
    network: FollowNetwork,
    average: FollowNetwork,
    optimizer: torch.optim.Optimizer,
    at: tuple[int, float],
) -> None:
    run.mkdir(parents=True, exist_ok=True)
    partial = run / ".checkpoint.partial"
    stored = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": at[0],
        "spent_s": at[1],
    }
    torch.save(stored, partial)
    partial.replace(run / "checkpoint.pt")
