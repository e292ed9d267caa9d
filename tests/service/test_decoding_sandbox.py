"""Hostile and ordinary clips in the sandbox: real files, real processes, real limits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import hostile_files
import numpy as np
import pytest

from amodal_model.errors import DatasetError, InputError, LimitError
from amodal_model.video import ClipLimits, open_clip
from amodal_model.video_writer import VideoWriter
from amodal_service.decoding_sandbox import DecodingLimits, DecodingSandbox

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[DecodingSandbox]:
    with DecodingSandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "a.mp4"
    with VideoWriter(path, fps=25.0) as writer:
        for index in range(12):
            image = np.random.default_rng(index).integers(0, 255, (48, 64, 3))
            writer.write(image.astype(np.uint8), index * 0.04 + (index > 5))
    return path


def test_frames_are_counted_where_they_are_decoded(
    sandbox: DecodingSandbox, video: Path, tmp_path: Path
) -> None:
    told: list[int] = []
    assert sandbox.open_clip(video).count(told.append) == 12
    assert told == [12]
    long = write_repeated(tmp_path / "long.avi", size=(48, 64), count=40)
    told.clear()
    assert sandbox.open_clip(long).count(told.append) == 40
    assert told == [16, 32, 40]


def test_counting_ends_at_a_limit_and_where_its_caller_ends_it(
    sandbox: DecodingSandbox, endless: Path
) -> None:
    limits = DecodingLimits(ClipLimits(max_frames=20))
    with pytest.raises(LimitError, match=r"more than 20 frames \(max_frames\)"):
        sandbox.open_clip(endless, limits=limits).count()

    def stop(count: int) -> None:
        raise InputError(f"enough at {count}")

    with pytest.raises(InputError, match="enough at 16"):
        sandbox.open_clip(endless).count(stop)


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Many seconds of decoding in a few megabytes."""
    return write_repeated(tmp_path / "endless.avi", size=(1080, 1920), count=1500)


def write_repeated(path: Path, size: tuple[int, int], count: int) -> Path:
    """Write a video of one picture, encoded once."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = "yuvj420p"
        image = np.full((*size, 3), 90, np.uint8)
        packets = stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24"))
        content = bytes((packets or stream.encode(None))[0])
        for index in range(count):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 25)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            container.mux(packet)
    return path


def children(pid: int | str) -> list[int]:
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in listed for child in path.read_text().split()]


def fork_server() -> int:
    """Return the process that decoders are forked from; the latest where there are several."""
    servers = [
        pid
        for pid in children("self")
        if b"amodal_service.decoding_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return max(servers, key=_started)


def _started(pid: int) -> int:
    """Return when a process started, in ticks; process numbers begin again after the highest."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_the_frames_are_those_of_the_decoder_without_a_sandbox(
    sandbox: DecodingSandbox, video: Path, frames: Callable[..., Path], tmp_path: Path
) -> None:
    for path in (video, frames(tmp_path / "folder", count=7)):
        plain, clip = open_clip(path), sandbox.open_clip(path)
        assert (clip.path, clip.frame_size, clip.fps) == (path, plain.frame_size, plain.fps)
        for first in (0, 5):
            pairs = list(zip(clip.frames(first), plain.frames(first), strict=True))
            assert all((a.index, a.pts_s) == (b.index, b.pts_s) for a, b in pairs)
            assert all(np.array_equal(a.image, b.image) for a, b in pairs)


def test_frames_that_are_kept_do_not_change(sandbox: DecodingSandbox, video: Path) -> None:
    kept = list(sandbox.open_clip(video).frames())
    again = [frame.image for frame in open_clip(video).frames()]
    assert all(np.array_equal(a.image, b) for a, b in zip(kept, again, strict=True))


def test_two_clips_can_be_read_at_once(sandbox: DecodingSandbox, video: Path) -> None:
    clip = sandbox.open_clip(video)
    pairs = list(zip(clip.frames(), clip.frames(), strict=True))
    assert len(pairs) == 12
    assert all(np.array_equal(a.image, b.image) for a, b in pairs)


def test_errors_are_those_of_the_decoder_without_a_sandbox(
    sandbox: DecodingSandbox, video: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    text = tmp_path / "text.mp4"
    text.write_text("hello\n" * 100)
    for path in (cut, text, tmp_path / "absent.mp4", tmp_path):
        with pytest.raises(DatasetError) as plain:
            list(open_clip(path).frames())
        with pytest.raises(DatasetError) as caught:
            list(sandbox.open_clip(path).frames())
        assert str(caught.value) == str(plain.value)


def test_a_message_names_the_clip_as_the_caller_does(
    sandbox: DecodingSandbox, tmp_path: Path
) -> None:
    (tmp_path / "secret-place.mp4").write_text("hello")
    with pytest.raises(DatasetError, match=r"^upload\.mp4: not a video") as caught:
        sandbox.open_clip(tmp_path / "secret-place.mp4", shown_as="upload.mp4")
    assert "secret-place" not in str(caught.value)


@pytest.mark.parametrize(
    ("clip_limits", "message"),
    [
        (ClipLimits(max_pixels=3000), r"64x48 = 3072 pixels, limit 3000"),
        (ClipLimits(max_frames=4), r"more than 4 frames"),
        (ClipLimits(max_duration_s=0.2), r"s by its header, limit 0\.2 s"),
    ],
)
def test_the_limits_of_a_clip_hold(
    sandbox: DecodingSandbox, video: Path, clip_limits: ClipLimits, message: str
) -> None:
    with pytest.raises(LimitError, match=message):
        list(sandbox.open_clip(video, limits=DecodingLimits(clip_limits)).frames())


def test_processor_time_is_limited(sandbox: DecodingSandbox, endless: Path) -> None:
    clip = sandbox.open_clip(endless, limits=DecodingLimits(cpu_s=1))
    with pytest.raises(LimitError, match=r"too much processor time, limit 1 s \(cpu_s\)"):
        list(clip.frames(first=1400))


def test_memory_is_limited(sandbox: DecodingSandbox, tmp_path: Path) -> None:
    path = write_repeated(tmp_path / "0.avi", size=(4000, 6000), count=1)
    cv2.imwrite(str(tmp_path / "0.jpg"), np.zeros((4000, 6000, 3), np.uint8))
    # OpenCV does not say why it has read no image
    reasons = {
        path: r"allocate memory|needs more memory",
        tmp_path: "not an image that can be read",
    }
    for large, reason in reasons.items():
        assert sandbox.open_clip(large).frame_size == (4000, 6000)
        with pytest.raises(InputError, match=reason) as caught:
            sandbox.open_clip(large, limits=DecodingLimits(memory_bytes=16 << 20))
        assert "\n" not in str(caught.value)


def test_a_decoder_that_hangs_is_killed(sandbox: DecodingSandbox, video: Path) -> None:
    limits = replace(sandbox.limits, frame_timeout_s=0.3)
    stream = sandbox.open_clip(video, limits=limits).frames()
    next(stream)
    [decoder] = children(fork_server())
    os.kill(decoder, signal.SIGSTOP)
    start_s = time.monotonic()
    with pytest.raises(LimitError, match=r"no frame within 0\.3 s"):
        list(stream)
    assert time.monotonic() - start_s < 2
    wait_until(lambda: not children(fork_server()))


def test_a_decoder_that_crashes_is_an_error_of_the_clip(
    sandbox: DecodingSandbox, video: Path
) -> None:
    stream = sandbox.open_clip(video).frames()
    next(stream)
    [decoder] = children(fork_server())
    os.kill(decoder, signal.SIGSEGV)
    with pytest.raises(DatasetError, match=r"damaged; it crashes its decoder \(11\)"):
        list(stream)


def test_a_clip_not_read_to_its_end_leaves_no_decoder(
    sandbox: DecodingSandbox, video: Path
) -> None:
    stream = sandbox.open_clip(video).frames()
    next(stream)
    assert len(children(fork_server())) == 1
    stream.close()  # type: ignore[attr-defined]  # a generator, which the seam does not promise
    wait_until(lambda: not children(fork_server()))


def test_a_lost_fork_server_is_replaced(video: Path, endless: Path) -> None:
    with DecodingSandbox() as sandbox:
        stream = sandbox.open_clip(endless).frames()  # its decoder cannot be done before the kill
        next(stream)
        os.kill(fork_server(), signal.SIGKILL)
        with pytest.raises(InputError, match="ended without a word"):
            list(stream)
        assert len(list(sandbox.open_clip(video).frames())) == 12


def test_closing_ends_every_process(video: Path) -> None:
    sandbox = DecodingSandbox()
    stream = sandbox.open_clip(video).frames()
    next(stream)
    server = fork_server()
    [decoder] = children(server)
    sandbox.close()
    assert server not in children("self")
    wait_until(lambda: not Path(f"/proc/{decoder}").exists())
    with pytest.raises(InputError):
        list(stream)


def test_decoders_see_no_secrets(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMODAL_DATABASE_URL", "postgresql://user:hunter2@db/amodal")
    with DecodingSandbox() as sandbox:
        sandbox.open_clip(video)
        assert b"hunter2" not in Path(f"/proc/{fork_server()}/environ").read_bytes()


def test_hostile_files_end_in_one_line_and_leave_nothing(tmp_path: Path) -> None:
    outcomes = set()
    with DecodingSandbox(hostile_files.LIMITS) as sandbox:
        files = list(hostile_files.hostile_files(84, seed=1))
        for file in files[:28]:
            outcomes.add(hostile_files.decode(sandbox, file, tmp_path))
        before = hostile_files.open_descriptors(), hostile_files.memory_bytes()
        for file in files[28:]:
            outcomes.add(hostile_files.decode(sandbox, file, tmp_path))
        after = hostile_files.open_descriptors(), hostile_files.memory_bytes()
        wait_until(lambda: not children(fork_server()))
        assert len(list(Path(f"/proc/{fork_server()}/fd").iterdir())) < 12
    assert after[0] <= before[0]  # less where other tests' garbage goes meanwhile
    assert after[1] < before[1] + (4 << 20)
    assert outcomes == {"good", "DatasetError", "LimitError"}
