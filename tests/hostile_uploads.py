"""Hostile files against a running service: no 5xx, no hang, nothing left open.

    python tests/hostile_uploads.py 500 --seed 0

starts ``amodal serve``, posts each file of `hostile_files` to /v1/segment and every tenth to
/v1/jobs as well (as the clip, and JSON as the visible masks), and says how they were answered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import httpx2
from hostile_files import HostileFile, hostile_files
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip


def post(client: httpx2.Client, path: str, file: HostileFile, visible: bytes) -> httpx2.Response:
    """Post one file as the clip, or as the masks where it is JSON."""
    if file.name.endswith("json"):
        video, visible = ("street.mp4", b"not reached"), file.content
    else:
        video = ("street." + file.name.rsplit(".", 1)[1], file.content)
    files = {"video": video, "visible": ("visible.json", visible)}
    return client.post(path, files=files, data={"request": '{"video_name": "street.mp4"}'})


def descriptors(pid: int) -> int:
    """Return the number of open file descriptors of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _settled(pid: int, enough: int, timeout_s: float = 10.0) -> int:
    """Return the number of descriptors once it is low enough, or after a while: a leak stays."""
    until_s = time.monotonic() + timeout_s
    while (count := descriptors(pid)) > enough and time.monotonic() < until_s:
        time.sleep(0.2)
    return count


def memory_bytes(pid: int) -> int:
    """Return the private resident memory of a process."""
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return (int(fields[1]) - int(fields[2])) * 4096


def run(count: int, seed: int, folder: Path) -> Mapping[str, object]:
    """Post the files and return what was seen."""
    visible = write_small_clip(folder, "street.mp4", 8).visible.read_bytes()
    port = free_port()
    settings = {"AMODAL_DATA": str(folder / "data"), "AMODAL_PORT": str(port)}
    server = ServiceProcess("serve", settings, folder / "log")
    answers: Counter[int] = Counter()
    ended: Counter[str] = Counter()
    slowest_s = 0.0
    before = after = (0, 0)
    job_urls = []
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until(lambda: _is_up(client))
            for index, file in enumerate(hostile_files(count, seed)):
                start_s = time.monotonic()
                answers[post(client, "/v1/segment", file, visible).status_code] += 1
                slowest_s = max(slowest_s, time.monotonic() - start_s)
                if index % 10 == 0:
                    made = post(client, "/v1/jobs", file, visible)
                    answers[made.status_code] += 1
                    job_urls += [made.headers["location"]] if made.status_code == 201 else []
                if index == count // 5:
                    before = descriptors(server.pid), memory_bytes(server.pid)
            for url in job_urls:
                wait_until(lambda url=url: _has_ended(client, url))  # type: ignore[misc]
                ended[client.get(url).json()["state"]] += 1
            after = _settled(server.pid, before[0] + 2), memory_bytes(server.pid)
    finally:
        server.stop()
    return {
        "answers": dict(sorted(answers.items())),
        "jobs": dict(ended),
        "slowest_s": round(slowest_s, 2),
        "descriptors": f"{before[0]} -> {after[0]}",
        "memory_MiB": f"{before[1] >> 20} -> {after[1] >> 20}",
    }


def _is_up(client: httpx2.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def _has_ended(client: httpx2.Client, url: str) -> bool:
    return client.get(url).json()["state"] not in ("queued", "running")


def main() -> None:
    """Print what was seen; fail on any 5xx."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = run(options.count, options.seed, Path(folder))
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in seen.items()))
    answers = seen["answers"]
    sys.exit(isinstance(answers, dict) and any(status >= 500 for status in answers))


if __name__ == "__main__":
    main()
