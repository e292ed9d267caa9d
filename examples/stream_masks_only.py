"""A robot with its own segmenter: masks go up, whole silhouettes come down, no image needed.

amodal serve &
python examples/stream_masks_only.py http://127.0.0.1:8420 examples/demo/teaduck/visible.json
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from amodal_client import Client, GivenObject, MaskRle, Stream


def segment_and_send(stream: Stream, tracks: list[dict[str, Any]], period_s: float) -> None:
    """Send the masks of each frame; those of a bundled clip stand in for the segmenter's."""
    for index in range(len(tracks[0]["segmentations"])):
        found = [(track["id"], track["segmentations"][index]) for track in tracks]
        stream.send(objects=[GivenObject(key, MaskRle(**rle)) for key, rle in found if rle])
        time.sleep(period_s)
    stream.end()


def main(server: str, path: str) -> None:
    """Print how much of each object is hidden, frame by frame."""
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    video, tracks = content["videos"][0], content["annotations"]
    size, fps = (video["height"], video["width"]), video["fps"]
    with Client(server) as client, client.stream(frame_size=size, fps=fps) as stream:
        threading.Thread(target=segment_and_send, args=(stream, tracks, 1 / fps)).start()
        for result in stream.results():
            hidden = [f"{each.track_id}: {each.occlusion_rate:.0%}" for each in result.objects]
            print(f"{result.seq} after {result.latency_ms:.1f} ms, hidden", *hidden)


if __name__ == "__main__":
    main(*sys.argv[1:])
