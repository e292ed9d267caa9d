"""The training of the judge of veils, in rounds: follow with the present network, then learn.

Each round draws sequences afresh and follows them by the truth, by the network of the rounds
before, and by nobody (`veil_examples`); the network then learns from the examples of the last
rounds. A network that learned from the truth's frames alone believes every veil that is there.
Source: DAgger, Ross et al. 2011.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor
from torch.nn import functional

from amodal_model.veil_judge import MAPS, SCALARS, inputs_of, seen_inputs_of
from amodal_model.veil_network import CHANNELS, PICTURE_CHANNELS, VeilNetwork
from amodal_model.veils import Sighting, VeilJudge
from amodal_training.follow_scenes import scene_files
from amodal_training.occluders import PasteConfig, PastedSequence, paste_occluders
from amodal_training.sequences import SequenceSource, flip
from amodal_training.veil_examples import Guide, VeilExamples, draw_examples
from amodal_training.veil_scenes import pasted_of, read_veil_scene


class VeilConfig(NamedTuple):
    """Settings of a training run.

    Attributes:
        rounds: how often sequences are followed anew.
        sequences: followed in a round.
        frames: lengths of sequences.
        steps: of learning in a round.
        batch: examples of a step.
        learning_rate: at the beginning of each round.
        kept_rounds: whose examples are learned from.
        kept_share: of a sequence's examples.
        unseen_share: occluders in front that have no mask.
        offsets: of the network's logits, from and to, see `veil_examples.Guide`.
        shares: of sequences followed by the truth, by the network, by nobody.
        seed: of everything random.
    """

    rounds: int = 4
    sequences: int = 1000
    frames: tuple[int, ...] = (36, 72)
    steps: int = 1500
    batch: int = 64
    learning_rate: float = 4e-3
    kept_rounds: int = 2
    kept_share: float = 0.4
    unseen_share: float = 0.7
    offsets: tuple[float, float] = (-0.7, 0.7)
    shares: tuple[float, float, float] = (0.3, 0.5, 0.2)
    seed: int = 0


class Round(NamedTuple):
    """What a round came to: examples, and of the last steps the loss, precision and recall."""

    number: int
    examples: int
    loss: float
    precision: float
    recall: float


_TOGETHER = 16
"""Sequences followed side by side."""
_WATCHED = 200
"""Steps whose figures are told."""


class SequenceDraw(NamedTuple):
    """Gives sequences of one length, with occluders that have no mask; with pictures, or without.

    Attributes:
        draw: gives so many.
        has_pictures: all of them or none.
    """

    draw: Callable[[np.random.Generator, int], list[PastedSequence]]
    has_pictures: bool = False


def train_judge(
    source: SequenceDraw, run: Path, config: VeilConfig, watch: Callable[[Round], None]
) -> VeilNetwork:
    """Train, going on from the run's last round; return the network.

    Args:
        source: of sequences.
        run: folder of the checkpoint.
        config: settings.
        watch: called after each round.
    """
    torch.manual_seed(config.seed)
    network, done, kept = _resume(run, source.has_pictures)
    for index in range(done, config.rounds):
        rng = np.random.default_rng((config.seed, index))
        torch.manual_seed(int(rng.integers(2**31)))
        judge = None if index == 0 else torch_judge(network)
        kept = [*kept, _draw(rng, source, judge, config)][-config.kept_rounds :]
        watch(_learn(network, kept, index, config))
        _save(run, network, index + 1, kept)
    return network.eval()


def torch_judge(network: VeilNetwork) -> VeilJudge:
    """Return the judge of a network in training."""
    served = copy.deepcopy(network).eval()
    inputs = seen_inputs_of if network.sees_pictures else inputs_of

    def judge(sighting: Sighting) -> Float32[np.ndarray, "N 48 48"]:
        with torch.no_grad():
            logits: Tensor = served(torch.from_numpy(inputs(sighting)))
        return np.asarray(logits.numpy(), np.float32)

    return judge


def drawn_over(source: SequenceSource, config: VeilConfig) -> SequenceDraw:
    """Return sequences of masks alone: occluders drawn over targets of a source."""
    paste = PasteConfig(unseen_share=config.unseen_share)

    def draw(rng: np.random.Generator, count: int) -> list[PastedSequence]:
        frames = int(rng.choice(config.frames))
        return [_sequence(rng, source, frames, paste) for _ in range(count)]

    return SequenceDraw(draw)


def from_scenes(folder: Path) -> SequenceDraw:
    """Return sequences with pictures: things of scenes of `veil_scenes`, each kind as often.

    Raises:
        DatasetError: there is no scene in the folder.
    """
    scene_files(folder)

    def draw(rng: np.random.Generator, count: int) -> list[PastedSequence]:
        kinds: dict[str, list[Path]] = {}
        for path in scene_files(folder):
            kinds.setdefault(path.stem.rpartition("-")[0], []).append(path)
        found: list[PastedSequence] = []
        while len(found) < count:
            files = kinds[str(rng.choice(list(kinds)))]
            scene = read_veil_scene(files[int(rng.integers(len(files)))])
            pasted = pasted_of(scene, rng)
            if pasted is not None and (not found or len(pasted.own) == len(found[0].own)):
                found.append(pasted)
        return found

    return SequenceDraw(draw, has_pictures=True)


def _draw(
    rng: np.random.Generator, source: SequenceDraw, judge: VeilJudge | None, config: VeilConfig
) -> VeilExamples:
    """Return the examples of a round."""
    parts = []
    for _ in range(0, config.sequences, _TOGETHER):
        sequences = source.draw(rng, _TOGETHER)
        guides = [_guide(rng, judge, config) for _ in sequences]
        parts.append(draw_examples(rng, sequences, guides, config.kept_share))
    return VeilExamples(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _sequence(
    rng: np.random.Generator, source: SequenceSource, frames: int, paste: PasteConfig
) -> PastedSequence:
    sequence = source.sample(rng, frames)
    if rng.random() < 0.5:
        sequence = flip(sequence)
    return paste_occluders(rng, sequence, source, paste)


def _guide(rng: np.random.Generator, judge: VeilJudge | None, config: VeilConfig) -> Guide:
    by_truth, by_network, _ = config.shares
    chance, offset = rng.random(), float(rng.uniform(*config.offsets))
    if chance < by_truth:
        return Guide(knows=True)
    if chance < by_truth + by_network:
        return Guide(judge, offset)
    return Guide()


def _learn(
    network: VeilNetwork, kept: Sequence[VeilExamples], index: int, config: VeilConfig
) -> Round:
    """Let the network learn from examples."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps
    )
    examples = [len(one.maps) for one in kept]
    scores = np.zeros(4)
    for step in range(config.steps):
        maps, hidden, counts = (
            torch.cat(fields)
            for fields in zip(
                *(_sample(one, config.batch // len(kept)) for one in kept), strict=True
            )
        )
        logits = network(maps)
        loss = veil_loss(logits, hidden, counts)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step >= config.steps - _WATCHED:
            said = (logits > 0) & counts
            both, right = (said & hidden).sum(), (hidden & counts).sum()
            scores += [float(loss.detach()), float(both), float(said.sum()), float(right)]
    loss_sum, both_sum, said_sum, right_sum = scores.tolist()
    steps = min(_WATCHED, config.steps)
    return Round(
        index + 1,
        sum(examples),
        loss_sum / steps,
        both_sum / max(said_sum, 1),
        both_sum / max(right_sum, 1),
    )


def _sample(
    examples: VeilExamples, count: int
) -> tuple[Float[Tensor, "B C 48 48"], Bool[Tensor, "B 48 48"], Bool[Tensor, "B 48 48"]]:
    """Return some examples, mirrored and transposed at random."""
    rows = torch.randint(len(examples.maps), (count,)).numpy()
    maps = torch.from_numpy(examples.maps[rows]).float() / 255
    scalars = torch.from_numpy(examples.scalars[rows])
    looks = _relit(torch.from_numpy(examples.looks[rows]).float() / 255)
    maps = torch.cat([maps, scalars[:, :, None, None].expand(-1, -1, *maps.shape[2:]), looks], 1)
    fields = [
        maps,
        torch.from_numpy(examples.hidden[rows]),
        torch.from_numpy(examples.counts[rows]),
    ]
    across, down = (len(MAPS) + SCALARS.index(name) for name in ("velocity_x", "velocity_y"))
    mirrored, turned_over, transposed = (torch.rand(3) < 0.5).tolist()
    if mirrored:
        fields = [field.flip(-1) for field in fields]
        fields[0][:, across] *= -1
    if turned_over:
        fields = [field.flip(-2) for field in fields]
        fields[0][:, down] *= -1
    if transposed:
        fields = [field.transpose(-1, -2) for field in fields]
        order = list(range(maps.shape[1]))
        order[across], order[down] = down, across
        fields[0] = fields[0][:, order]
    return fields[0], fields[1], fields[2]


def _relit(looks: Float[Tensor, "B L 48 48"]) -> Float[Tensor, "B L 48 48"]:
    """Return looks with colours mixed, brightened and darkened at random, all pictures alike."""
    if not looks.shape[1]:
        return looks
    order = torch.randperm(3)
    gain = torch.exp(0.3 * torch.randn(len(looks), 3, 1, 1))
    lift = 0.15 * torch.randn(len(looks), 3, 1, 1)
    looks = looks.clone()
    for first in (0, 3, 7):
        lit = looks[:, first : first + 3][:, order] * gain + lift
        looks[:, first : first + 3] = lit.clamp(0, 1)
    return looks


def veil_loss(
    logits: Float[Tensor, "B 48 48"],
    hidden: Bool[Tensor, "B 48 48"],
    counts: Bool[Tensor, "B 48 48"],
) -> Tensor:
    """Return the cross entropy of the pixels that count."""
    entropy = functional.binary_cross_entropy_with_logits(logits, hidden.float(), reduction="none")
    return (entropy * counts).sum() / counts.sum().clamp(min=1)


def _resume(run: Path, has_pictures: bool) -> tuple[VeilNetwork, int, list[VeilExamples]]:
    channels = PICTURE_CHANNELS if has_pictures else CHANNELS
    network = VeilNetwork(sees_pictures=has_pictures, channels=channels)
    path = run / "checkpoint.pt"
    if not path.exists():
        return network, 0, []
    stored = torch.load(path, weights_only=True)
    network.load_state_dict(stored["network"])
    kept = [VeilExamples(*(field.numpy() for field in one)) for one in stored["kept"]]
    return network, int(stored["rounds"]), kept


def _save(run: Path, network: VeilNetwork, rounds: int, kept: Sequence[VeilExamples]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    partial = run / ".checkpoint.partial"
    stored = {
        "network": network.state_dict(),
        "rounds": rounds,
        "kept": [[torch.from_numpy(field) for field in one] for one in kept],
    }
    torch.save(stored, partial)
    partial.replace(run / "checkpoint.pt")
