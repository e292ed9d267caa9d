"""``amodal bench``: CPU time of a frame by stage, next to a named alternative, in one run.

A 640x480 clip with five moving, overlapping objects is drawn, encoded and worked through as
annotation does. Times are CPU time of one thread; compare their ratios, not the numbers of two
machines. The alternative is the dense optical flow of the frame (OpenCV's DIS at half
resolution), which methods that follow objects by flow pay before they complete anything.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from amodal_model import AmodalSegmenter, load
from amodal_model.composition import complete
from amodal_model.engine import Engine, EngineInfo
from amodal_model.engine_onnx import OnnxEngine
from amodal_model.masks import Rle, box_mask, decode_rle, encode_rle
from amodal_model.memory import (
    CROP_SIDE,
    MAP_NAMES,
    MemoryState,
    StepInputs,
    StepOutputs,
)
from amodal_model.model_files import find_model
from amodal_model.stream_state import StreamState
from amodal_model.video import open_clip
from amodal_model.video_writer import VideoWriter

FRAME_SIZE = (480, 640)
OBJECTS = 5
WARM_UP_FRAMES = 5
STAGES = (
    "decode video",
    "decode RLE",
    "place and crop",
    "network",
    "paste and order",
    "encode RLE",
)
ALTERNATIVE = "DIS optical flow, half resolution (OpenCV)"


class BenchResult(NamedTuple):
    """CPU milliseconds a frame of each stage and of the alternative, and objects a frame.

    ``steps_ms`` holds CPU milliseconds of the network for one object in one frame, five at a
    time, for each precision the model has on the CPU; ``precision`` is that of the stages.
    """

    stages_ms: dict[str, float]
    alternative_ms: float
    objects: int
    frames: int
    provider: str
    precision: str
    steps_ms: dict[str, float]

    @property
    def total_ms(self) -> float:
        """CPU milliseconds of a frame, all stages together."""
        return sum(self.stages_ms.values())

    @property
    def object_steps_per_s(self) -> float:
        """Objects completed in one second of CPU time, everything included."""
        return 1000 * self.objects / self.total_ms


class _Stopwatch:
    """Adds up CPU time by stage."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys((*STAGES, ALTERNATIVE), 0.0)

    def reset(self) -> None:
        """Forget what was spent, after warming up."""
        self.spent_s = dict.fromkeys(self.spent_s, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.spent_s[name] += time.process_time() - began


def run_bench(model: str = "shipped", frames: int = 60) -> BenchResult:
    """Return the CPU time of a frame of a 640x480 clip with five objects.

    Args:
        model: ``shipped`` or a folder.
        frames: frames to measure, after a few to warm up.
    """
    cv2.setNumThreads(1)
    segmenter = load(model, provider="cpu", threads=1)
    watch = _Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.mp4"
        masks = _draw_clip(path, frames + WARM_UP_FRAMES)
        _measure(segmenter, path, masks, watch)
    per_frame = {name: 1000 * spent / frames for name, spent in watch.spent_s.items()}
    alternative_ms = per_frame.pop(ALTERNATIVE)
    info = segmenter.engine.info
    steps_ms = measure_steps(model, frames)
    return BenchResult(
        per_frame, alternative_ms, OBJECTS, frames, info.actual, info.precision, steps_ms
    )


def measure_steps(model: str, rounds: int) -> dict[str, float]:
    """Return CPU milliseconds of one object's step by precision: median over rounds, one thread.

    The precisions take turns, so that a busy machine slows them alike.
    """
    folder = find_model(model)
    engines = {
        precision: OnnxEngine(folder, "cpu", precision=precision)
        for precision in ("fp32", "int8")
        if folder.has(precision)
    }
    inputs, memory = _example_step()
    spent_s: dict[str, list[float]] = {precision: [] for precision in engines}
    for _ in range(WARM_UP_FRAMES + rounds):
        for precision, engine in engines.items():
            began = time.process_time()
            engine.step(inputs, memory)
            spent_s[precision].append(time.process_time() - began)
    return {
        precision: 1000 * float(np.median(spent[WARM_UP_FRAMES:])) / OBJECTS
        for precision, spent in spent_s.items()
    }


def _example_step() -> tuple[StepInputs[np.ndarray], MemoryState[np.ndarray]]:
    """Return five objects, each half covered by a box, remembered as a whole."""
    side = CROP_SIDE
    crop = np.zeros((OBJECTS, 3, side, side), np.float32)
    crop[:, 0, side // 4 : side // 2, side // 4 : -side // 4] = 1
    crop[:, 1, side // 2 :, side // 8 : -side // 8] = 1
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (OBJECTS, 1, 1))
    context = np.tile(np.array([0.02, 1, 0.01, 0, 0, 0.05], np.float32), (OBJECTS, 1))
    maps = np.zeros((OBJECTS, len(MAP_NAMES), side, side), np.float32)
    maps[:, :, side // 4 : -side // 4, side // 4 : -side // 4] = 0.9
    scalars = np.tile(np.array([0.9, 0], np.float32), (OBJECTS, 1))
    return StepInputs(crop, theta, context), MemoryState(maps, scalars)


def _draw_clip(path: Path, frames: int) -> list[dict[int, Rle]]:
    """Write the clip and return the visible masks of its frames: later ellipses lie on top."""
    height, width = FRAME_SIZE
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (width, height))
    masks = []
    with VideoWriter(path, fps=25.0) as writer:
        for index in range(frames):
            labels, image = np.zeros(FRAME_SIZE, np.uint8), ground.copy()
            for track_id in range(1, OBJECTS + 1):
                x = int(width * (0.15 + 0.14 * track_id + 0.1 * np.sin(index / 9 + track_id)))
                y = int(height * (0.5 + 0.12 * np.cos(index / 7 + 2 * track_id)))
                axes = (60 + 6 * track_id, 90 - 7 * track_id)
                cv2.ellipse(labels, (x, y), axes, 20 * track_id, 0, 360, (track_id,), -1)
            image[labels > 0] = image[labels > 0] // 3 + 25 * labels[labels > 0][:, None]
            writer.write(np.asarray(image, np.uint8), index / 25)
            found = {i: box_mask(labels == i) for i in range(1, OBJECTS + 1)}
            masks.append({i: encode_rle(mask) for i, mask in found.items() if mask.area})
    return masks


class _TimedEngine:
    """The engine, with its CPU time on the stopwatch."""

    def __init__(self, engine: Engine, watch: _Stopwatch) -> None:
        self._engine, self._watch = engine, watch

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def step(
        self, inputs: StepInputs[np.ndarray], memory: MemoryState[Any]
    ) -> tuple[StepOutputs[np.ndarray], MemoryState[Any]]:
        with self._watch.stage("network"):
            return self._engine.step(inputs, memory)

    def to_host(self, memory: MemoryState[Any]) -> MemoryState[np.ndarray]:
        return self._engine.to_host(memory)


def _measure(
    segmenter: AmodalSegmenter, path: Path, masks: list[dict[int, Rle]], watch: _Stopwatch
) -> None:
    segmenter = segmenter.with_engine(_TimedEngine(segmenter.engine, watch))
    state = segmenter.start(FRAME_SIZE)
    flow = cv2.DISOpticalFlow.create(cv2.DISOpticalFlow_PRESET_FAST)
    before = np.zeros((FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2), np.uint8)
    source = open_clip(path).frames()
    for index, rles in enumerate(masks):
        if index == WARM_UP_FRAMES:
            watch.reset()
        with watch.stage("decode video"):
            image = next(source).image
        state = _step(segmenter, rles, state, watch)
        half = cv2.resize(image, before.shape[::-1], interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(half, cv2.COLOR_RGB2GRAY), np.uint8)
        with watch.stage(ALTERNATIVE):
            flow.calc(before, grey, np.zeros((*grey.shape, 2), np.float32))
        before = grey


def _step(
    segmenter: AmodalSegmenter, rles: dict[int, Rle], state: StreamState, watch: _Stopwatch
) -> StreamState:
    with watch.stage("decode RLE"):
        visible = {track_id: decode_rle(rle) for track_id, rle in rles.items()}
    network_before = watch.spent_s["network"]
    with watch.stage("place and crop"):
        estimates, state = segmenter.advance(visible, state)
    watch.spent_s["place and crop"] -= watch.spent_s["network"] - network_before
    with watch.stage("paste and order"):
        result = complete(estimates, (), FRAME_SIZE, segmenter.config.least_overlap)
    with watch.stage("encode RLE"):
        for entry in result.objects:
            encode_rle(entry.amodal)
    return state


def report(result: BenchResult) -> str:
    """Return the figures as lines of text."""
    lines = [
        f"CPU time of a 640x480 frame, {result.objects} objects, {result.provider}, "
        f"{result.precision}, 1 thread"
    ]
    lines += [f"  {name:<18}{value:8.2f} ms" for name, value in result.stages_ms.items()]
    ratio = result.total_ms / result.alternative_ms
    network = result.stages_ms["network"] / result.objects
    lines += [
        f"  {'all':<18}{result.total_ms:8.2f} ms   {result.object_steps_per_s:.0f} object-steps/s",
        f"  network            {network:8.2f} ms an object",
        "network alone, ms an object-step, 5 at a time: "
        + ", ".join(f"{name} {value:.2f}" for name, value in result.steps_ms.items()),
        f"alternative: {ALTERNATIVE}: {result.alternative_ms:.2f} ms a frame",
        f"ratio, all stages / alternative: {ratio:.2f}",
    ]
    return "\n".join(lines)
