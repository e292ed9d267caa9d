"""What the service costs: idle memory, and the processor time of POST /v1/segment.

    python tests/faults/service_cost.py

The clip is 3 s of 640x480 with five objects. The library's work on it is what the same functions
take when called in this process: reading the masks, decoding, the stream step, records. The
server's is the processor time from request to answer of its process and of those it started: the
decoding sandbox is a process of its own. It has no worker then. Memory is what they have resident,
before the first clip and after the last; pages that they share count twice. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx2
import msgspec
from measured_server import MEGABYTE, MeasuredServer, running_server
from small_clips import SmallClip, write_small_clip

import amodal_model
from amodal_model.stream import AmodalSegmenter
from amodal_service.records import Record
from amodal_service.segmentation import finished_frames
from amodal_service.sources import find_sources

FRAMES = 75
SIZE = (480, 640)
OBJECTS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the service costs.")
    parser.add_argument("--clips", type=int, default=5, help="clips of each kind")
    clips = parser.parse_args().clips
    with tempfile.TemporaryDirectory(prefix="amodal-cost-") as name:
        folder = Path(name)
        clip = write_small_clip(folder, "street.mp4", FRAMES, SIZE, objects=OBJECTS)
        print(json.dumps(_measure(folder, clip, clips)))  # noqa: T201  its output


def _measure(folder: Path, clip: SmallClip, clips: int) -> dict[str, float]:
    """Take library and server in turns: what slows the machine down slows down both."""
    segmenter = amodal_model.load()
    taken: dict[str, list[float]] = defaultdict(list)
    with running_server(folder) as server:
        report = {"idle_megabytes": server.memory_bytes() / MEGABYTE}
        report["idle_cpu_ms_a_second"] = _idle_cost(server)
    with running_server(folder, "--no-worker") as server:
        for turn in range(clips + 1):  # the first warms up
            costs = {"library": _library_cpu_s(clip, segmenter)}
            for kind, request in _requests(clip).items():
                costs[kind] = _request_cpu_s(server, request)
            for kind, cost in costs.items():
                taken[kind] += [cost] if turn else []
        report["after_clips_megabytes"] = server.memory_bytes() / MEGABYTE
        report["processes_after_clips"] = len(server.family())
    median = {kind: statistics.median(costs) for kind, costs in taken.items()}
    report |= {f"{kind}_cpu_ms_a_frame": 1000 * cost / FRAMES for kind, cost in median.items()}
    ratios = {kind: cost / median["library"] - 1 for kind, cost in median.items()}
    report |= {f"overhead_{kind}": ratios[kind] for kind in ratios if kind != "library"}
    return {name: round(value, 3) for name, value in report.items()}


def _library_cpu_s(clip: SmallClip, segmenter: AmodalSegmenter) -> float:
    started_s = time.process_time()
    _segment(clip, segmenter)
    return time.process_time() - started_s


def _request_cpu_s(server: MeasuredServer, request: dict[str, Any]) -> float:
    started_s = server.cpu_s()
    httpx2.post(f"{server.url}/v1/segment", timeout=600, **request).raise_for_status()
    time.sleep(0.1)  # for the decoder to end and be counted
    return server.cpu_s() - started_s


def _segment(clip: SmallClip, segmenter: AmodalSegmenter) -> list[Record]:
    source = find_sources(clip.video, clip.visible, lambda line: None).clips[0]
    return [frame.record for frame in finished_frames(source, segmenter, "causal")]


def _requests(clip: SmallClip) -> dict[str, dict[str, Any]]:
    files = {
        "video": (clip.video.name, clip.video.read_bytes()),
        "visible": ("visible.json", clip.visible.read_bytes()),
    }
    content = json.loads(clip.visible.read_text())
    tracks = content["annotations"]
    frames = [
        {
            "objects": [
                {"track_id": each["id"], "rle": each["segmentations"][index]}
                for each in tracks
                if each["segmentations"][index]
            ]
        }
        for index in range(FRAMES)
    ]
    masks = {"height": SIZE[0], "width": SIZE[1], "fps": 25, "frames": frames}
    return {
        "json": {"files": files},
        "msgpack": {"files": files, "headers": {"accept": "application/msgpack"}},
        "masks_only_json": {
            "content": msgspec.json.encode(masks),
            "headers": {"content-type": "application/json"},
        },
    }


def _idle_cost(server: MeasuredServer) -> float:
    started_s = server.cpu_s()
    time.sleep(10)
    return round(1000 * (server.cpu_s() - started_s) / 10, 2)


if __name__ == "__main__":
    main()
