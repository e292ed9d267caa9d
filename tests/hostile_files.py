"""Files that a service must survive, made by seed: broken, lying, or something else altogether.

    python tests/hostile_files.py 500 --seed 0

decodes so many of them in the sandbox and says how each kind ended, how long the slowest took, and
what was left behind.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import io
import json
import os
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from amodal_model.errors import InputError
from amodal_model.video import ClipLimits
from amodal_service.decoding_sandbox import DecodingLimits, DecodingSandbox

LIMITS = DecodingLimits(
    ClipLimits(max_pixels=1 << 20, max_frames=100, max_duration_s=20.0),
    memory_bytes=512 << 20,
    cpu_s=5,
    frame_timeout_s=8.0,
)
_CONTAINERS = {"mp4": "libx264", "mkv": "libvpx-vp9", "avi": "mpeg4", "mjpeg": "mjpeg"}
_JSON = json.dumps({"videos": [{"id": 1, "file_name": "a.mp4", "width": 64}], "annotations": []})


@dataclass(frozen=True)
class HostileFile:
    """One file: a name with its ending, what was done to it, and its bytes."""

    name: str
    kind: str
    content: bytes


def good_files() -> dict[str, bytes]:
    """Return a small good file by ending; encoding them takes a quarter of a second."""
    files = {ending: _video(ending, codec) for ending, codec in _CONTAINERS.items()}
    jpeg = files["mjpeg"]
    return {**files, "jpeg": jpeg[: jpeg.index(b"\xff\xd9") + 2], "json": _JSON.encode()}


def hostile_files(count: int, seed: int) -> Iterator[HostileFile]:
    """Yield files, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  (not a secret)
    good = good_files()
    kinds = list(_CHANGES)
    for index in range(count):
        ending = chance.choice(list(good))
        kind = kinds[index % len(kinds)]
        content = _CHANGES[kind](good[ending], chance)
        yield HostileFile(f"{index:04d}.{ending}", f"{ending} {kind}", content)


def _video(ending: str, codec: str) -> bytes:
    out = io.BytesIO()
    formats = {"mkv": "matroska"}
    with av.open(out, "w", format=formats.get(ending, ending)) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        grain = np.random.default_rng(0).integers(0, 60, (48, 64, 3))
        for index in range(8):
            image = (grain + 20 * index).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return out.getvalue()


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 4, 16, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    length = chance.choice((2, 8, 64, 512))
    filling = chance.choice((b"\0", b"\xff", chance.randbytes(1))) * length
    return content[:start] + filling + content[start + length :]


def _head_lies(content: bytes, chance: random.Random) -> bytes:
    """Put huge numbers where a header keeps sizes and counts."""
    changed = bytearray(content)
    for _ in range(chance.choice((1, 3))):
        at = chance.randrange(min(len(changed), 1200))
        value = chance.choice((0x7FFFFFFF, 0xFFFFFFFF, 0x00FFFFFF, 65535, 1 << 24))
        changed[at : at + 4] = struct.pack(">I", value)
    return bytes(changed)


def _size_lies(content: bytes, chance: random.Random) -> bytes:
    """Claim pictures of 65535 pixels a side wherever 64x48 is written."""
    wide = chance.choice((65535, 16000, 4096, 17))
    for layout in (">HH", "<II", ">II", "<HH"):
        for pair in ((64, 48), (48, 64)):
            content = content.replace(struct.pack(layout, *pair), struct.pack(layout, wide, wide))
    for name in (b"tkhd", b"mvhd", b"mdhd"):
        at = content.find(name)
        if at >= 0 and chance.random() < 0.5:
            content = content[: at + 20] + b"\x7f\xff\xff\xff" + content[at + 24 :]
    return content


def _repeat(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    piece = content[start : start + chance.choice((16, 256, 4096))]
    return content[:start] + piece * chance.choice((2, 50)) + content[start:]


def _disguise(content: bytes, chance: random.Random) -> bytes:
    """Return another kind of thing: playlists, archives, scripts, noise, nothing."""
    bomb = gzip.compress(b"\0" * (1 << 20))
    return chance.choice(
        (
            b"#EXTM3U\n#EXTINF:1,\nhttp://169.254.169.254/latest/meta-data\n",
            b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
            b"ffconcat version 1.0\nfile /etc/passwd\n",
            b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
            b"PK\x03\x04" + bomb,
            bomb,
            b"<svg xmlns='http://www.w3.org/2000/svg' width='99999999' height='99999999'/>",
            b"[" * 100_000,
            chance.randbytes(3000),
            b"",
            content[:64] + content,
        )
    )


_CHANGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "cut": _cut,
    "flipped": _flip,
    "overwritten": _overwrite,
    "head lies": _head_lies,
    "size lies": _size_lies,
    "repeated": _repeat,
    "disguised": _disguise,
}


def open_descriptors() -> int:
    """Return the number of this process's open file descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def memory_bytes() -> int:
    """Return this process's own (not shared) resident memory."""
    gc.collect()
    fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def decode(sandbox: DecodingSandbox, file: HostileFile, folder: Path) -> str:
    """Return how the decoding of a file ended: ``good``, or the error's class.

    Raises:
        AssertionError: an error of more than one line, or one that tells the path.
    """
    is_image = file.name.endswith(".jpeg")
    path = folder / (file.name + ".frames" if is_image else file.name)
    target = path / "0.jpeg" if is_image else path
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(file.content)
    try:
        for _ in sandbox.open_clip(path, shown_as="clip").frames():
            pass
    except InputError as error:
        message = str(error)
        if "\n" in message or str(folder) in message or len(message) > 500:
            raise AssertionError(f"{file.kind}: {message!r}") from error
        return type(error).__name__
    finally:
        target.unlink()
        if is_image:
            path.rmdir()
    return "good"


def main() -> None:
    """Decode many files and print what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    outcomes: Counter[tuple[str, str]] = Counter()
    slowest_s = 0.0
    before = (0, 0)
    with DecodingSandbox(LIMITS) as sandbox, tempfile.TemporaryDirectory() as folder:
        for index, file in enumerate(hostile_files(options.count, options.seed)):
            start_s = time.monotonic()
            outcomes[file.kind, decode(sandbox, file, Path(folder))] += 1
            slowest_s = max(slowest_s, time.monotonic() - start_s)
            if index == min(50, options.count // 2):
                before = (open_descriptors(), memory_bytes())
        after = (open_descriptors(), memory_bytes())
    for (kind, outcome), number in sorted(outcomes.items()):
        sys.stdout.write(f"{kind:24} {outcome:14} {number}\n")
    sys.stdout.write(
        f"slowest {slowest_s:.2f} s; descriptors {before[0]} -> {after[0]}; "
        f"memory {before[1] >> 10} -> {after[1] >> 10} KiB\n"
    )


if __name__ == "__main__":
    main()
