"""Live streams under fire: a killed server, a rolling restart, clients that break the protocol.

    python tests/faults/stream_faults.py --only kill restart clients

Streams are played by a camera's clock while it happens. What comes after a resume is compared with
an uninterrupted run of the same frames. A lossless stream must give the same silhouettes; one that
follows a camera has lost what came between its last snapshot and the kill, and where that costs it
more than the goal allows it is ``missed``, not ``amiss``. Prints one JSON object; exit status 1
where anything is amiss.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults.bad_stream_clients import KINDS
from faults.stream_load import LoadClip, LoadStream, load_clip, percentile_ms, result_of
from measured_server import MEGABYTE, MeasuredServer
from websockets.exceptions import ConnectionClosed, WebSocketException

from amodal_client.stream_messages import (
    MaskRle,
    PromptMessage,
    PromptObject,
    ResultMeta,
    encode_message,
)
from amodal_model.masks import BoxedMask, decode_crop_rle, encode_crop_rle, mask_iou

SIZE = (240, 320)
OBJECTS = 3
FPS = 2.0
LEAST_IOU = 0.98
AFTER_S = 8.0
"""How long streams go on after the last server is back."""
MOVED = 1.2
"""How much the others' p95 may rise beside a bad client."""
FAIR = 6
FAIR_FPS = 4.0
ROOM_BYTES = 384 << 20
SLACK_BYTES = 64 << 20
SLACK_FILES = 32
"""Connections that the pool of the database keeps."""
_LOST = (ConnectionClosed, WebSocketException, ConnectionError, OSError, TimeoutError)
_OPTIONS = {"max_objects": 4, "max_message_bytes": 1 << 18, "fps": FPS}
_UNHURRIED = {"AMODAL_STREAM_RESUME_S": "600"}

Report = dict[str, Any]
Results = dict[int, ResultMeta]
Part = Callable[[Path, argparse.Namespace, Report], Coroutine[Any, Any, None]]


class Role(NamedTuple):
    """How one of the streams runs."""

    mode: str
    masks: str
    shift: int


ROLES = (
    *(Role(mode, "given", 9 * n) for n in range(5) for mode in ("lossless", "realtime", "paced")),
    *(Role(mode, "prompted", 9 * n) for n in range(2) for mode in ("lossless", "realtime")),
    Role("lossless", "motion", 0),
)


def main() -> None:
    """Run the parts and say how they went."""
    parser = argparse.ArgumentParser(description="Live streams under fire.")
    parser.add_argument("--only", nargs="+", choices=sorted(_PARTS), default=list(_PARTS))
    parser.add_argument("--frames", type=int, default=60, help="of each stream")
    parser.add_argument("--rounds", type=int, default=3, help="beside each kind of bad client")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each round")
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=list(KINDS))
    options = parser.parse_args()
    report: Report = {"amiss": [], "missed": []}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="amodal-stream-faults-") as folder:
            asyncio.run(_PARTS[name](Path(folder), options, report))
    print(json.dumps(report))  # noqa: T201  its output
    sys.exit(1 if report["amiss"] else 0)


# A server that is killed --------------------------------------------------------------------------


async def _kill(folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Kill the server in the middle of all streams, and start it again."""
    clip = load_clip("tabletop", SIZE, OBJECTS)
    server = MeasuredServer(folder, _UNHURRIED, "--no-worker")
    server.wait()
    try:
        streams = [_stream([server.url], clip, role) for role in ROLES]
        is_over = asyncio.Event()
        running = [asyncio.create_task(_live(each, options.frames, is_over)) for each in streams]
        await asyncio.sleep(options.frames / FPS / 2)
        server.process.kill()
        killed_s = time.monotonic()
        at_kill = [each.last_result for each in streams]
        server = MeasuredServer(folder, _UNHURRIED, "--no-worker", port=server.port)
        await asyncio.to_thread(server.wait)
        report["kill_seconds_without_server"] = round(time.monotonic() - killed_s, 1)
        await asyncio.sleep(AFTER_S)
        is_over.set()
        lost = await asyncio.gather(*running)
        for stream in streams:
            await stream.end()
        same = await _same_frames([server.url], clip, streams)
        whole = await _all_frames([server.url], clip, streams)
    finally:
        server.process.stop()
    _judge("kill", streams, same, at_kill, report)
    for label, scores in _scores(streams, whole, at_kill).items():
        report[f"kill_iou_with_run_without_outage {label}"] = _shown(scores)
    report["kill_frames_lost_by_mode"] = _by_mode(lost)
    _expect_warm("kill", streams, report, ("warm",))


async def _same_frames(
    urls: Sequence[str], clip: LoadClip, streams: Sequence[LoadStream]
) -> list[Results]:
    """Return the results of uninterrupted runs of the frames that each stream got done."""
    played: dict[tuple[str, int, tuple[int, ...]], Results] = {}
    results = []
    for stream, role in zip(streams, ROLES, strict=True):
        run = (role.masks, role.shift, tuple(sorted(stream.packets)))
        if run not in played:
            played[run] = await _played(urls, clip, *run)
        results.append(played[run])
    return results


async def _all_frames(
    urls: Sequence[str], clip: LoadClip, streams: Sequence[LoadStream]
) -> list[Results]:
    """Return the results of runs of all frames, those too that a stream missed."""
    last: dict[tuple[str, int], int] = {}
    for stream, role in zip(streams, ROLES, strict=True):
        kind = role.masks, role.shift
        last[kind] = max(last.get(kind, 0), stream.next_seq)
    played = {kind: await _played(urls, clip, *kind, range(end)) for kind, end in last.items()}
    return [played[role.masks, role.shift] for role in ROLES]


async def _played(
    urls: Sequence[str], clip: LoadClip, masks: str, shift: int, seqs: Iterable[int]
) -> Results:
    stream = _stream(urls, clip, Role("lossless", masks, shift))
    await stream.open()
    await _prompt(stream)
    for seq in seqs:
        stream.next_seq = seq
        while not await stream.send(_capture_ns(seq)):
            await stream.changed()
    await stream.settle()
    await stream.end()
    return {seq: result_of(each) for seq, each in stream.packets.items()}


def _stream(urls: Sequence[str], clip: LoadClip, role: Role) -> LoadStream:
    options = {**_OPTIONS, "mode": role.mode, "masks": role.masks}
    has_image = role.masks != "given"
    return LoadStream(urls, clip, options, has_image, shift=role.shift, keep=True)


def _capture_ns(seq: int) -> int:
    return round((seq + 1) * 1e9 / FPS)


async def _prompt(stream: LoadStream) -> None:
    """Tell a stream whose masks are prompted of its objects, once."""
    if stream.options["masks"] != "prompted":
        return
    objects = []
    for track_id, mask in stream.clip.visible[stream.clip.at(stream.shift)].items():
        bbox, rle = encode_crop_rle(mask)
        coded = MaskRle((rle["size"][0], rle["size"][1]), rle["counts"])
        objects.append(PromptObject(track_id, rle=coded, bbox=bbox))
    await stream.say(encode_message(PromptMessage(tuple(objects))))


async def _live(stream: LoadStream, frames: int, is_over: asyncio.Event) -> int:
    """Play a camera's frames, coming back whenever the connection is lost; return the lost ones.

    It goes on until all is over, and for so many frames at least.
    """
    begun_s, lost = time.perf_counter(), 0
    deadline_s = time.monotonic() + 300
    while time.monotonic() < deadline_s:
        try:
            if not stream.is_connected:
                lost += await _come_back(stream)
            if is_over.is_set() and stream.next_seq >= frames:
                await stream.settle()
                return lost
            await _shoot(stream, begun_s)
        except _LOST:
            await asyncio.sleep(0.2)
    raise TimeoutError(f"a stream got no further than frame {stream.next_seq}: {stream.errors}")


async def _come_back(stream: LoadStream) -> int:
    """Connect; return how many frames on their way are lost."""
    is_first = stream.welcome is None
    welcome = await stream.open()
    if is_first:
        await _prompt(stream)
        return 0
    if stream.options["mode"] == "lossless":
        stream.rewind()
        return 0
    if welcome.session == "hot":
        return 0
    lost = stream.forget_outstanding()
    if stream.options["masks"] != "given":
        await stream.repeat()
    return lost


async def _shoot(stream: LoadStream, begun_s: float) -> None:
    """Send the frame that is due, once it is."""
    wait_s = begun_s + stream.next_seq / FPS - time.perf_counter()
    if wait_s > 0:
        await asyncio.sleep(wait_s)
    is_lossless = stream.options["mode"] == "lossless"
    while not is_lossless and (time.perf_counter() - begun_s) * FPS > stream.next_seq + 1:
        stream.skip()
    if not await stream.send(_capture_ns(stream.next_seq)):
        if is_lossless:
            await stream.changed()
        else:
            stream.skip()


def _judge(
    name: str,
    streams: Sequence[LoadStream],
    wanted: Sequence[Results],
    after: Sequence[int],
    report: Report,
) -> None:
    """Compare what came after a frame with runs of the same frames, and the outcomes."""
    for stream, role in zip(streams, ROLES, strict=True):
        label = f"{name}: {role.masks} {role.mode}"
        report["amiss"] += [f"{label}: {line}" for line in stream.amiss()]
        missing = set(range(stream.next_seq)) - set(stream.packets)
        if role.mode == "lossless" and missing:
            report["amiss"].append(f"{label} has no result of {sorted(missing)[:8]}")
    scores = _scores(streams, wanted, after)
    for label, each in scores.items():
        report[f"{name}_iou {label}"] = _shown(each)
        if min(each) < LEAST_IOU:
            is_amiss = label.endswith("lossless")
            text = f"{name}: IoU of {label} is {min(each):.4f}, least {LEAST_IOU}"
            report["amiss" if is_amiss else "missed"].append(text)


def _scores(
    streams: Sequence[LoadStream], wanted: Sequence[Results], after: Sequence[int]
) -> dict[str, list[float]]:
    """Return the mean IoU of each stream's results after a frame, by kind of stream."""
    scores: dict[str, list[float]] = defaultdict(list)
    for stream, role, theirs, first in zip(streams, ROLES, wanted, after, strict=True):
        overlaps = [
            overlap
            for seq, packet in stream.packets.items()
            if seq > first
            for overlap in _overlaps(result_of(packet), theirs[seq], stream.clip.size)
        ]
        scores[f"{role.masks} {role.mode}"].append(statistics.mean(overlaps) if overlaps else 0.0)
    return scores


def _shown(scores: Sequence[float]) -> dict[str, float]:
    return {"mean": round(statistics.mean(scores), 4), "least": round(min(scores), 4)}


def _overlaps(a: ResultMeta, b: ResultMeta, size: tuple[int, int]) -> list[float]:
    """Return the IoU of each object's silhouette; 0 for one that only one of the results has."""
    ours, theirs = _masks(a, size), _masks(b, size)
    return [
        mask_iou(ours[key], theirs[key]) if key in ours and key in theirs else 0.0
        for key in ours.keys() | theirs.keys()
    ]


def _masks(result: ResultMeta, size: tuple[int, int]) -> dict[int, BoxedMask]:
    return {
        each.track_id: decode_crop_rle(
            each.amodal.bbox,
            {"size": list(each.amodal.rle.size), "counts": each.amodal.rle.counts},
            size,
        )
        for each in result.objects
        if each.amodal is not None
    }


def _by_mode(counts: Sequence[int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for role, count in zip(ROLES, counts, strict=True):
        total[f"{role.masks} {role.mode}"] += count
    return dict(total)


def _expect_warm(
    name: str, streams: Sequence[LoadStream], report: Report, kinds: tuple[str, ...]
) -> None:
    found = Counter(kind for stream in streams for kind in stream.kinds[1:])
    report[f"{name}_streams"] = len(streams)
    report[f"{name}_resumes"] = dict(found)
    for stream, role in zip(streams, ROLES, strict=True):
        if len(stream.kinds) < 2 or set(stream.kinds[1:]) - set(kinds):
            report["amiss"].append(f"{name}: {role.masks} {role.mode} came back {stream.kinds}")


# Two replicas, restarted one after the other ------------------------------------------------------


async def _restart(folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Restart two replicas on one database, one after the other."""
    clip = load_clip("tabletop", SIZE, OBJECTS)
    first = MeasuredServer(folder, _UNHURRIED, "--no-worker")
    first.wait()
    replicas = [first, MeasuredServer(folder, _UNHURRIED, "--no-worker")]
    replicas[1].wait()
    urls = [each.url for each in replicas]
    try:
        streams = [_stream(urls[:: -1 if n % 2 else 1], clip, role) for n, role in enumerate(ROLES)]
        is_over = asyncio.Event()
        running = [asyncio.create_task(_live(each, options.frames, is_over)) for each in streams]
        for number in range(2):
            await asyncio.sleep(options.frames / FPS / 4)
            status = await asyncio.to_thread(replicas[number].process.stop)
            if status not in (0, -signal.SIGTERM):
                report["amiss"].append(f"restart: a replica ended with status {status}")
            replicas[number] = MeasuredServer(
                folder, _UNHURRIED, "--no-worker", port=replicas[number].port
            )
            await asyncio.to_thread(replicas[number].wait)
        await asyncio.sleep(AFTER_S)
        is_over.set()
        lost = await asyncio.gather(*running)
        for stream in streams:
            await stream.end()
        same = await _same_frames(urls, clip, streams)
    finally:
        for each in replicas:
            each.process.stop()
    _judge("restart", streams, same, [-1] * len(streams), report)
    report["restart_frames_lost_by_mode"] = _by_mode(lost)
    _expect_warm("restart", streams, report, ("warm", "hot"))


# Clients that break the protocol ------------------------------------------------------------------


async def _clients(folder: Path, options: argparse.Namespace, report: Report) -> None:
    """Run each kind of bad client beside streams that keep to the rules, in turns with none."""
    clip = load_clip("tabletop", SIZE, OBJECTS)
    settings = {"AMODAL_STREAM_MEMORY_BYTES": str(ROOM_BYTES), "AMODAL_STREAM_HOT_S": "3"}
    server = MeasuredServer(folder, settings, "--no-worker")
    server.wait()
    choice = {"mode": "realtime", "max_objects": 4, "max_message_bytes": 65536}
    try:
        fair = [LoadStream([server.url], clip, choice, False, shift=9 * n) for n in range(FAIR)]
        for stream in fair:
            await stream.open()
        await _window(fair, 3.0)  # warms up
        quiet = server.memory_bytes(), server.open_files()
        report["clients_megabytes_before"] = round(quiet[0] / MEGABYTE)
        for kind in options.kinds:
            await _beside(kind, server, fair, options, report)
            _check_server(kind, server, quiet, report)
        for stream in fair:
            await stream.end()
            report["amiss"] += [f"clients: a fair stream: {line}" for line in stream.amiss()]
    finally:
        status = server.process.stop()
    if status not in (0, -signal.SIGTERM):
        report["amiss"].append(f"clients: the server ended with status {status}")


async def _beside(
    kind: str,
    server: MeasuredServer,
    fair: Sequence[LoadStream],
    options: argparse.Namespace,
    report: Report,
) -> None:
    script = Path(__file__).parent / "bad_stream_clients.py"
    quiet_s: list[float] = []
    busy_s: list[float] = []
    ratios, worst, spent = [], 0, []
    for _ in range(options.rounds):
        without_s = await _window(fair, options.seconds)
        started_s = server.cpu_s()
        bad = subprocess.Popen(  # noqa: S603  our own command
            [sys.executable, str(script), kind, "127.0.0.1", str(server.port), str(options.seconds)]
        )
        with_s = await _window(fair, options.seconds)
        worst = max(worst, server.memory_bytes())
        await asyncio.to_thread(bad.wait)
        spent.append(server.cpu_s() - started_s)
        ratios.append(percentile_ms(with_s, 95) / percentile_ms(without_s, 95))
        quiet_s += without_s
        busy_s += with_s
    # of all rounds together: ten frames decide the p95 of one
    quiet_ms, busy_ms = percentile_ms(quiet_s, 95), percentile_ms(busy_s, 95)
    ratio = busy_ms / quiet_ms
    report[f"clients_{kind}"] = {
        "p95_ratio": round(ratio, 3),
        "p95_ratios": [round(each, 3) for each in ratios],
        "p95_ms": [round(quiet_ms, 1), round(busy_ms, 1)],
        "megabytes": round(worst / MEGABYTE),
        "server_cpu_s": round(statistics.mean(spent), 2),
    }
    if ratio > MOVED:
        report["amiss"].append(f"clients: {kind} moved the others' p95 to {ratio:.2f} of itself")


async def _window(fair: Sequence[LoadStream], seconds: float) -> list[float]:
    """Return the latencies of the streams over some seconds."""
    firsts = [stream.next_seq for stream in fair]
    await asyncio.gather(*(stream.send_at(FAIR_FPS, seconds) for stream in fair))
    for stream in fair:
        await stream.settle()
    return [
        latency_s
        for stream, first in zip(fair, firsts, strict=True)
        for seq, latency_s in stream.latency_s.items()
        if seq >= first
    ]


def _check_server(
    kind: str, server: MeasuredServer, quiet: tuple[int, int], report: Report
) -> None:
    deadline_s = time.monotonic() + 20
    while server.open_files() > quiet[1] + SLACK_FILES and time.monotonic() < deadline_s:
        time.sleep(0.5)
    grown, files = server.memory_bytes() - quiet[0], server.open_files()
    report[f"clients_{kind}"] |= {"open_files": [quiet[1], files]}
    if files > quiet[1] + SLACK_FILES:
        report["amiss"].append(f"clients: after {kind} {files} files are open, {quiet[1]} before")
    if grown > ROOM_BYTES + SLACK_BYTES:
        report["amiss"].append(f"clients: after {kind} memory has grown by {grown} bytes")


_PARTS: dict[str, Part] = {"kill": _kill, "restart": _restart, "clients": _clients}

if __name__ == "__main__":
    main()
