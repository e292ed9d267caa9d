"""What live streams cost: processor time a frame, many streams, idle ones, long ones, overload.

    python tests/faults/stream_bench.py --only cost many

A real server process on loopback; the load comes from this process. Its clips are bundled ones,
scaled. Processor time is the server process's, from request to result, from ``/proc``; what it is
compared with is taken in the same run, in turns. Latencies are by the wall clock, and tell nothing
on a machine that is busy with something else. Prints a table, then one JSON object; exit status 1
where a frame is unaccounted for or a result is wrong. A goal that is missed is said, and is no
error: another machine, another figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx2
import numpy as np
from faults.stream_load import (
    LoadClip,
    LoadStream,
    load_clip,
    open_all,
    percentile_ms,
    result_of,
    server_age_ms,
    server_wait_ms,
)
from measured_server import MEGABYTE, MeasuredServer, running_server
from small_clips import write_small_clip

import amodal_model
from amodal_client.stream_messages import ResultMeta
from amodal_model.masks import decode_crop_rle, encode_crop_rle
from amodal_model.results import FrameResult
from amodal_model.stream import AmodalSegmenter

VGA = (480, 640)
SMALL = (96, 128)
OBJECTS = 5
MANY = 16
OVERLOADED = 12
OVERLOAD = 3.0
LEAST_DEADLINE_MS = 300
_SETTINGS = {"AMODAL_CHUNK_FRAMES": "4"}
"""So that the progress of a slow job shows."""
SMALL_STREAM = {"masks": "given", "max_objects": 4, "max_message_bytes": 65536}


class Goal(NamedTuple):
    """A figure that is to be at most, or at least, something."""

    figure: str
    limit: float
    is_most: bool = True


GOALS = (
    Goal("jpeg_cpu_ms_a_frame", 12.0),
    Goal("masks_only_cpu_ms_a_frame", 6.0),
    Goal("jpeg_p50_ms", 15.0),
    Goal("jpeg_p99_ms", 40.0),
    Goal("many_over_one", 0.9, is_most=False),
    Goal("slowest_over_median_p95", 1.5),
    Goal("idle_streams_served", 1.0, is_most=False),
    Goal("idle_memory_growth", 0.02),
    Goal("long_memory_growth", 0.01),
    Goal("long_results_that_differ", 0),
    Goal("overload_late_starts", 0),
    Goal("overload_late_share", 0.0),
    Goal("overload_memory_growth", 0.05),
    Goal("overload_results_beside_job", 0.9, is_most=False),
)


class Plan(NamedTuple):
    """How long the runs take.

    Attributes:
        turns: comparisons of the costs.
        idle_streams: at once.
        idle_s: seconds that they last.
        long_frames: of the long stream.
        overload_s: seconds of each overload.
    """

    turns: int
    idle_streams: int
    idle_s: float
    long_frames: int
    overload_s: float


Report = dict[str, Any]
Part = Callable[[MeasuredServer, Plan, Report], Coroutine[Any, Any, None]]


def main() -> None:
    """Measure and print."""
    arguments = _arguments()
    plan = Plan(
        arguments.turns,
        arguments.idle_streams,
        arguments.idle_seconds,
        arguments.long_frames,
        arguments.overload_seconds,
    )
    report: Report = {"amiss": []}
    for name in arguments.only:
        part, options = _PARTS[name]
        with (
            tempfile.TemporaryDirectory(prefix="amodal-streams-") as folder,
            running_server(Path(folder), *options, settings=_SETTINGS) as server,
        ):
            report["folder"] = folder
            asyncio.run(part(server, plan, report))
    del report["folder"]
    _print(report)
    sys.exit(1 if report["amiss"] else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What live streams cost.")
    parser.add_argument("--only", nargs="+", choices=sorted(_PARTS), default=list(_PARTS))
    parser.add_argument("--turns", type=int, default=5, help="comparisons of the costs")
    parser.add_argument("--idle-streams", type=int, default=300)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--long-frames", type=int, default=10_000)
    parser.add_argument("--overload-seconds", type=float, default=20.0)
    return parser.parse_args()


def _print(report: Report) -> None:
    for name, value in report.items():
        goal = next((each for each in GOALS if each.figure == name), None)
        verdict = "" if goal is None else _verdict(goal, value)
        print(f"{name:36} {_text(value):>24}  {verdict}".rstrip())  # noqa: T201  its output
    print(json.dumps(report))  # noqa: T201


def _verdict(goal: Goal, value: float) -> str:
    is_met = value <= goal.limit if goal.is_most else value >= goal.limit
    sign = "<=" if goal.is_most else ">="
    return f"goal {sign} {goal.limit:g}  {'met' if is_met else 'MISSED'}"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# What a frame costs -----------------------------------------------------------------------------


async def _cost(server: MeasuredServer, plan: Plan, report: Report) -> None:
    """Compare a stream with the library's step on the same masks, in turns."""
    clip = load_clip("tabletop", VGA, OBJECTS)
    segmenter = amodal_model.load()
    streams = {
        "jpeg": LoadStream([server.url], clip, {"mode": "lossless"}),
        "masks_only": LoadStream([server.url], clip, {"mode": "lossless"}, with_images=False),
    }
    for stream in streams.values():
        await stream.open()
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.turns + 1):  # the first warms up
        costs = {"library_step": _library_cpu_s(clip, segmenter)}
        costs["library_step_and_rle"] = _library_cpu_s(clip, segmenter, with_rle=True)
        for kind, stream in streams.items():
            costs[kind] = await _stream_cpu_s(server, stream, clip.lap)
        for kind, cost in costs.items():
            taken[kind] += [1000 * cost / clip.lap] if turn else []
    medians = {kind: statistics.median(costs) for kind, costs in taken.items()}
    report |= {f"{kind}_cpu_ms_a_frame": cost for kind, cost in medians.items()}
    for kind in streams:
        report[f"{kind}_over_library_step"] = medians[kind] / medians["library_step"]
        report[f"{kind}_over_step_and_rle"] = medians[kind] / medians["library_step_and_rle"]
    report["frame_kilobytes"] = statistics.mean(map(len, clip.images)) / 1000
    await _end(streams.values(), report)
    await _unloaded(server, clip, report)


async def _unloaded(server: MeasuredServer, clip: LoadClip, report: Report) -> None:
    for kind, with_images in (("jpeg", True), ("masks_only", False)):
        stream = LoadStream([server.url], clip, {"mode": "realtime"}, with_images, keep=True)
        await stream.open()
        started_s = server.cpu_s()
        await stream.send_at(10.0, 20.0)
        await stream.settle()
        report[f"{kind}_cpu_ms_a_frame_at_10_fps"] = (
            1000 * (server.cpu_s() - started_s) / max(len(stream.latency_s), 1)
        )
        latency_s = list(stream.latency_s.values())
        ages = [server_age_ms(packet) for packet in stream.packets.values()]
        for percent in (50, 99):
            report[f"{kind}_p{percent}_ms"] = percentile_ms(latency_s, percent)
            report[f"{kind}_p{percent}_ms_in_server"] = float(np.percentile(ages, percent))
        await _end([stream], report)


def _library_cpu_s(clip: LoadClip, segmenter: AmodalSegmenter, *, with_rle: bool = False) -> float:
    """Return the processor time of a lap in this process, without or with RLE in and out."""
    coded = [{key: encode_crop_rle(mask) for key, mask in each.items()} for each in clip.visible]
    state = segmenter.start(clip.size)
    started_s = time.process_time()
    for number in range(clip.lap):
        at = clip.at(number)
        visible = dict(clip.visible[at])
        if with_rle:
            visible = {key: decode_crop_rle(*each, clip.size) for key, each in coded[at].items()}
        result, state = segmenter.step(None, visible, state)
        if with_rle:
            _silhouettes(result)
    return time.process_time() - started_s


def _silhouettes(result: FrameResult) -> dict[int, Any]:
    """Return both masks of each object, coded as a stream codes them."""
    return {
        each.track_id: tuple(
            (box, rle["counts"])
            for box, rle in map(
                encode_crop_rle, [mask for mask in (each.visible, each.amodal) if mask.area]
            )
        )
        for each in result.objects
    }


async def _stream_cpu_s(server: MeasuredServer, stream: LoadStream, frames: int) -> float:
    started_s = server.cpu_s()
    await stream.send_flat_out(frames)
    return server.cpu_s() - started_s


# Many streams -----------------------------------------------------------------------------------


async def _many(server: MeasuredServer, plan: Plan, report: Report) -> None:
    """Compare as many frames of many streams with those of one, in turns."""
    clip = load_clip("tabletop", VGA, OBJECTS)
    one = LoadStream([server.url], clip, {"mode": "lossless"})
    options = {"mode": "lossless", "max_objects": 8, "max_message_bytes": 1 << 20}
    many = [LoadStream([server.url], clip, options, shift=7 * n) for n in range(MANY)]
    await open_all([one, *many])
    each = -(-2 * clip.lap // MANY)
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(plan.turns + 1):
        spent = {"one": await _stream_cpu_s(server, one, each * MANY)}
        started_s = server.cpu_s()
        await asyncio.gather(*(stream.send_flat_out(each) for stream in many))
        spent["many"] = server.cpu_s() - started_s
        for kind, cpu_s in spent.items():
            rates[kind] += [each * MANY * OBJECTS / cpu_s] if turn else []
    report["object_steps_a_cpu_second_one"] = statistics.median(rates["one"])
    report["object_steps_a_cpu_second_many"] = statistics.median(rates["many"])
    ratios = [many / one for one, many in zip(rates["one"], rates["many"], strict=True)]
    report["many_over_one"] = statistics.median(ratios)
    p95 = [percentile_ms(list(stream.latency_s.values())[each:], 95) for stream in many]
    report["slowest_over_median_p95"] = max(p95) / statistics.median(p95)
    await _end([one, *many], report)


# Idle streams -----------------------------------------------------------------------------------


async def _idle(server: MeasuredServer, plan: Plan, report: Report) -> None:
    """Keep many streams at 1 fps: all are served, and their memory stays what it is."""
    clip = load_clip("teaduck", VGA, 3)
    options = {**SMALL_STREAM, "mode": "realtime"}
    before = server.memory_bytes()
    streams = [
        LoadStream([server.url], clip, options, with_images=False, shift=n)
        for n in range(plan.idle_streams)
    ]
    await open_all(streams)
    started_s, began_s = server.cpu_s(), time.monotonic()
    samples: list[int] = []
    sampling = asyncio.create_task(_sample(server, samples))
    await asyncio.gather(
        *(_later(n / len(streams), stream, plan.idle_s) for n, stream in enumerate(streams))
    )
    spent_s = server.cpu_s() - started_s
    report["idle_cpu_ms_a_second"] = 1000 * spent_s / (time.monotonic() - began_s)
    sampling.cancel()
    for stream in streams:
        await stream.settle()
    planned = round(plan.idle_s) * len(streams)
    report["idle_streams"] = len(streams)
    report["idle_streams_served"] = sum(1 for each in streams if each.latency_s) / len(streams)
    report["idle_frames_with_result"] = sum(len(each.latency_s) for each in streams) / planned
    welcome = streams[0].welcome
    assert welcome is not None
    report["idle_kilobytes_a_stream_reserved"] = welcome.memory_bytes / 1000
    settled = samples[len(samples) // 3 :]
    report["idle_kilobytes_a_stream_measured"] = (max(settled) - before) / len(streams) / 1000
    report["idle_memory_growth"] = _growth(settled)
    await _end(streams, report)


async def _later(wait_s: float, stream: LoadStream, seconds: float) -> None:
    await asyncio.sleep(wait_s)
    await stream.send_at(1.0, seconds)


async def _sample(server: MeasuredServer, samples: list[int], every_s: float = 1.0) -> None:
    while True:
        samples.append(server.memory_bytes())
        await asyncio.sleep(every_s)


def _growth(samples: list[int]) -> float:
    """Return by how much of itself the memory grew from the first third to the last."""
    third = max(len(samples) // 3, 1)
    early, late = (statistics.median(part) for part in (samples[:third], samples[-third:]))
    return float(late / early - 1)


# A long stream ----------------------------------------------------------------------------------


async def _long(server: MeasuredServer, plan: Plan, report: Report) -> None:
    """Run one stream for long; its last lap is that of the library, which has run as long."""
    clip = load_clip("teaduck", SMALL, 2, frames=40)
    options = {**SMALL_STREAM, "mode": "lossless"}
    stream = LoadStream([server.url], clip, options, with_images=False, clock=False)
    await stream.open()
    memory: list[int] = []
    seqs: list[int] = []
    laps = max(plan.long_frames // clip.lap, 8)
    started_s = server.cpu_s()
    for lap in range(laps):
        stream.keep = lap == laps - 1
        await stream.send_flat_out(clip.lap)
        memory.append(server.memory_bytes())
        seqs.append(stream.next_seq)
    frames = laps * clip.lap
    report["long_frames"] = frames
    report["long_cpu_ms_a_frame"] = 1000 * (server.cpu_s() - started_s) / frames
    half = laps // 2
    slope, error = _slope(seqs[half:], memory[half:])
    report["long_bytes_a_frame"] = slope
    report["long_bytes_a_frame_error"] = error
    report["long_memory_growth"] = _growth(memory[half:])
    report["long_megabytes"] = memory[-1] / MEGABYTE
    packets = stream.packets
    await _end([stream], report)
    wanted = _library_lap(clip, frames)
    found = {seq: _of_wire(result_of(packet)) for seq, packet in packets.items()}
    differ = [seq for seq in wanted if found.get(seq) != wanted[seq]]
    report["long_results_that_differ"] = len(differ)
    if differ:
        report["amiss"].append(f"results differ from a fresh run's: frames {differ[:8]}")


def _slope(x: list[int], y: list[int]) -> tuple[float, float]:
    """Return slope and its standard error."""
    if len(x) < 4:
        return 0.0, 0.0
    fit, covariance = np.polyfit(np.asarray(x, float), np.asarray(y, float), 1, cov=True)
    return float(fit[0]), float(np.sqrt(covariance[0, 0]))


def _library_lap(clip: LoadClip, frames: int) -> dict[int, Any]:
    """Return the silhouettes of the last lap of a run in this process."""
    segmenter = amodal_model.load()
    state = segmenter.start(clip.size)
    kept = {}
    for seq in range(frames):
        result, state = segmenter.step(None, clip.visible[clip.at(seq)], state)
        if seq >= frames - clip.lap:
            kept[seq] = _silhouettes(result)
    return kept


def _of_wire(result: ResultMeta) -> dict[int, Any]:
    return {
        each.track_id: tuple(
            (mask.bbox, mask.rle.counts) for mask in (each.visible, each.amodal) if mask
        )
        for each in result.objects
    }


# Overload ---------------------------------------------------------------------------------------


async def _overload(server: MeasuredServer, plan: Plan, report: Report) -> None:
    """Send three times what can be done, without and with a job beside it, in turns.

    The deadline is what half the streams take, where that is longer: on a machine on which a step
    takes longer than the deadline nothing could be in time.
    """
    clip = load_clip("tabletop", VGA, OBJECTS)
    job = _Job(server, Path(report["folder"]))
    report["overload_job_fps_alone"] = await job.rate_alone()  # loads what a job needs, too
    capacity = await _capacity(server, clip, report)
    deadline_ms = max(LEAST_DEADLINE_MS, round(1000 * OVERLOADED / capacity / 2))
    runs: dict[str, list[_Overrun]] = {"alone": [], "beside_job": []}
    for _ in range(2):
        for kind, done in runs.items():
            beside = job if kind == "beside_job" else None
            load = OVERLOAD * capacity, deadline_ms, plan.overload_s
            done.append(await _overrun(server, clip, load, beside, report))
    every = [run for done in runs.values() for run in done]
    ages = [age for run in every for age in run.ages_ms]
    report["overload_capacity_fps"] = capacity
    report["overload_streams"] = OVERLOADED
    report["overload_frames_left_out_by_client"] = sum(run.skipped for run in every)
    report["overload_frames_dropped"] = dict(sum((run.causes for run in every), Counter()))
    report["overload_results"] = len(ages)
    report["overload_deadline_ms"] = deadline_ms
    report["overload_age_p50_ms"] = float(np.percentile(ages, 50))
    report["overload_age_max_ms"] = max(ages)
    waits = [wait for run in every for wait in run.waits_ms]
    report["overload_late_starts"] = sum(wait > deadline_ms + 1 for wait in waits)
    report["overload_late_share"] = sum(age > deadline_ms for age in ages) / len(ages)
    first, last = (run.memory_bytes for run in runs["alone"])
    report["overload_memory_growth"] = last / first - 1
    alone, beside_job = (statistics.mean(run.results_fps for run in done) for done in runs.values())
    report["overload_results_beside_job"] = beside_job / alone
    report["overload_job_fps_beside"] = statistics.mean(run.job_fps for run in runs["beside_job"])
    if not report["overload_job_fps_beside"]:
        report["amiss"].append("the job made no progress beside the streams")


class _Overrun(NamedTuple):
    """What came of an overload."""

    results_fps: float
    job_fps: float
    ages_ms: list[float]
    waits_ms: list[float]
    causes: Counter[str]
    skipped: int
    memory_bytes: int


async def _capacity(server: MeasuredServer, clip: LoadClip, report: Report) -> float:
    """Return the frames a second that streams get done when flat out."""
    options = {"mode": "lossless", "max_objects": 8, "max_message_bytes": 1 << 20}
    streams = [LoadStream([server.url], clip, options, shift=7 * n) for n in range(OVERLOADED)]
    await open_all(streams)
    await asyncio.gather(*(stream.send_flat_out(4) for stream in streams))
    began_s = time.monotonic()
    await asyncio.gather(*(stream.send_flat_out(20) for stream in streams))
    passed_s = time.monotonic() - began_s
    await _end(streams, report)
    return 20 * OVERLOADED / passed_s


async def _overrun(
    server: MeasuredServer,
    clip: LoadClip,
    load: tuple[float, int, float],
    job: _Job | None,
    report: Report,
) -> _Overrun:
    fps, deadline_ms, seconds = load
    options: dict[str, Any] = {"mode": "realtime", "max_objects": 8, "max_message_bytes": 1 << 20}
    options["deadline_ms"] = deadline_ms
    streams = [
        LoadStream([server.url], clip, options, shift=7 * n, keep=True) for n in range(OVERLOADED)
    ]
    await open_all(streams)
    if job is not None:
        job.start()
    began_s, done = time.monotonic(), job.frames_done() if job else 0
    await asyncio.gather(*(stream.send_at(fps / OVERLOADED, seconds) for stream in streams))
    passed_s = time.monotonic() - began_s
    results = sum(len(stream.latency_s) for stream in streams)
    job_fps = (job.frames_done() - done) / passed_s if job else 0.0
    for stream in streams:
        await stream.settle()
    memory = server.memory_bytes()
    if job is not None:
        job.stop()
    await _end(streams, report)
    packets = [packet for stream in streams for packet in stream.packets.values()]
    return _Overrun(
        results / passed_s,
        job_fps,
        [server_age_ms(packet) for packet in packets],
        [server_wait_ms(packet) for packet in packets],
        sum((stream.causes() for stream in streams), Counter()),
        sum(stream.skipped for stream in streams),
        memory,
    )


class _Job:
    """A job of a long clip, made again for each comparison."""

    def __init__(self, server: MeasuredServer, folder: Path) -> None:
        self._url = f"{server.url}/v1/jobs"
        clip = write_small_clip(folder, "job.mp4", 4000, (96, 128), objects=2)
        self._files = {
            "video": (clip.video.name, clip.video.read_bytes()),
            "visible": ("visible.json", clip.visible.read_bytes()),
        }
        self._id = ""

    def start(self) -> None:
        """Begin; it runs when this returns."""
        answer = httpx2.post(self._url, files=self._files, timeout=120).raise_for_status()
        self._id = answer.json()["id"]
        deadline_s = time.monotonic() + 60
        while not self.frames_done() and time.monotonic() < deadline_s:
            time.sleep(0.1)

    def frames_done(self) -> int:
        """Return how far it is."""
        if not self._id:
            return 0
        answer = httpx2.get(f"{self._url}/{self._id}", timeout=60)
        return int(answer.raise_for_status().json()["frames_done"])

    def stop(self) -> None:
        """End it."""
        httpx2.post(f"{self._url}/{self._id}/cancel", timeout=60).raise_for_status()
        self._id = ""

    async def rate_alone(self) -> float:
        """Return the frames a second that it gets done with nothing beside it."""
        self.start()
        done, began_s = self.frames_done(), time.monotonic()
        await asyncio.sleep(8)
        rate = (self.frames_done() - done) / (time.monotonic() - began_s)
        self.stop()
        return rate


async def _end(streams: Iterable[LoadStream], report: Report) -> None:
    """End streams, and note what is wrong with the outcomes of their frames."""
    for stream in streams:
        await stream.end()
        report["amiss"] += stream.amiss()


_PARTS: dict[str, tuple[Part, tuple[str, ...]]] = {
    "cost": (_cost, ("--no-worker",)),
    "many": (_many, ("--no-worker",)),
    "idle": (_idle, ("--no-worker",)),
    "long": (_long, ("--no-worker",)),
    "overload": (_overload, ()),
}

if __name__ == "__main__":
    main()
