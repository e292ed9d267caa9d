"""Training follows pasted sequences exactly as the stream follows the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from amodal_model.engine import Engine, EngineInfo  # noqa: E402
from amodal_model.masks import BoxedMask, box_mask, empty_mask  # noqa: E402
from amodal_model.memory import MemoryState, StepInputs, StepOutputs  # noqa: E402
from amodal_model.network import remember  # noqa: E402
from amodal_model.stream import AmodalSegmenter  # noqa: E402
from amodal_training.occluders import PasteConfig, PastedSequence, paste_occluders  # noqa: E402
from amodal_training.rollout import roll_out  # noqa: E402
from amodal_training.sequences import MaskSequence  # noqa: E402

SIZE = (100, 150)
FRAMES = 16


class RecordingEngine:
    """Passes everything on, and keeps what went in, the memory moved into its window."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.steps: list[tuple[StepInputs[np.ndarray], MemoryState[np.ndarray]]] = []

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        outputs, after = self._engine.step(inputs, memory)
        held = self._engine.to_host(memory)
        given = StepInputs(*(torch.from_numpy(np.asarray(field)) for field in inputs))
        moved = remember(given, MemoryState(*(torch.from_numpy(field) for field in held))).moved
        self.steps.append((inputs, MemoryState(*(field.numpy() for field in moved))))
        return outputs, after

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        return self._engine.to_host(memory)


class Ellipses:
    """A source of ellipses that move, one a sequence."""

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
        x, y = rng.uniform(40, 110), rng.uniform(35, 65)
        speed = rng.uniform(-2, 2, 2)
        radii = rng.uniform(10, 26, 2)
        target: list[BoxedMask | None] = []
        for index in range(frames):
            across = (columns - x - speed[0] * index) / radii[0]
            down = (rows - y - speed[1] * index) / radii[1]
            target.append(box_mask(across**2 + down**2 < 1))
        return MaskSequence(SIZE, target, [np.zeros(SIZE, np.uint8)] * frames)


def pasted(seed: int) -> PastedSequence:
    rng = np.random.default_rng(seed)
    source = Ellipses()
    config = PasteConfig(
        none_share=0, behind_share=0.2, noise_share=0.5, drop_rate=0.2, soft_share=0
    )
    return paste_occluders(rng, source.sample(rng, FRAMES), source, config)


def stepped(
    segmenter: AmodalSegmenter, sequence: PastedSequence
) -> list[tuple[StepInputs[np.ndarray], MemoryState[np.ndarray]]]:
    """Return what the stream gives the network of the target, frame by frame."""
    recorder = RecordingEngine(segmenter.engine)
    stream = AmodalSegmenter(recorder, segmenter.config)
    state = stream.start(SIZE)
    rows = []
    for own, coverage in zip(sequence.own, sequence.coverage, strict=True):
        others = box_mask((coverage > own.full()).astype(bool))
        _, state = stream.step(None, {1: own, 2: others}, state)
        if 1 not in state.track_ids:
            continue
        row = state.track_ids.index(1)
        inputs, memory = recorder.steps[-1]
        rows.append(
            (
                StepInputs(*(field[row] for field in inputs)),
                MemoryState(*(field[row] for field in memory)),
            )
        )
        # training follows the target alone: an occluder that is gone must not be stood in for
        state = stream.forget(state, {2})
    return rows


@pytest.mark.parametrize("seed", range(6))
def test_rollout_sees_what_the_stream_sees(tiny_segmenter: AmodalSegmenter, seed: int) -> None:
    sequence = pasted(seed)
    batch = roll_out([sequence])
    rows = stepped(tiny_segmenter, sequence)
    assert len(batch.crop) == len(rows)
    for index, (inputs, memory) in enumerate(rows):
        np.testing.assert_array_equal(batch.crop[index], np.rint(inputs.crop * 255))
        np.testing.assert_allclose(batch.context[index], inputs.context, atol=1e-6)
        np.testing.assert_allclose(batch.maps[index] / 255, memory.maps, atol=0.51 / 255)
        np.testing.assert_allclose(batch.scalars[index], memory.scalars, atol=1e-6)


def test_target_that_never_shows_gives_nothing() -> None:
    sequence = pasted(0)
    nothing = [empty_mask(SIZE)] * FRAMES
    batch = roll_out([sequence._replace(own=nothing)])
    assert [len(field) for field in batch] == [0] * len(batch)


def test_sequences_side_by_side_equal_each_alone() -> None:
    sequences = [pasted(seed) for seed in range(3)]
    together = roll_out(sequences)
    singles = [roll_out([sequence]) for sequence in sequences]
    assert len(together.crop) == sum(len(single.crop) for single in singles)
    everything = sorted(field.tobytes() for field in together.crop)
    assert everything == sorted(field.tobytes() for single in singles for field in single.crop)


def test_answer_is_cropped_where_the_network_looks() -> None:
    """The visible mask lies inside the answer wherever neither was disturbed."""
    rng = np.random.default_rng(5)
    source = Ellipses()
    config = PasteConfig(none_share=0, noise_share=0)
    sequence = paste_occluders(rng, source.sample(rng, FRAMES), source, config)
    batch = roll_out([sequence])
    own, answer = batch.crop[:, 0].astype(int), batch.answer.astype(int)
    assert (own <= answer).all()
    assert own.sum() > 0
