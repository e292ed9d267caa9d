"""Reading and writing clips: real files, good ones and bad ones."""

import os
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from amodal_model.errors import DatasetError, InputError, LimitError
from amodal_model.video import MIN_SIDE, ClipLimits, open_clip
from amodal_model.video_writer import VideoWriter

Encode = Callable[..., Path]


def _picture(index: int, height: int, width: int) -> np.ndarray:
    """A grainy picture, red in its top left corner, greener with every frame."""
    image = np.full((height, width, 3), 30, np.int64)
    image[: height // 3, : width // 3] = (150, 30, 30)
    image[..., 1] += 4 * index
    grain = np.random.default_rng(index).integers(0, 60, (height, width, 1))
    return (image + grain).astype(np.uint8)


@pytest.fixture
def encode(tmp_path: Path) -> Encode:
    def write(
        name: str,
        *,
        count: int = 6,
        size: tuple[int, int] = (48, 64),
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        pts_ms: Sequence[int] | None = None,
    ) -> Path:
        path = tmp_path / name
        options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", options=options) as container:
            stream = container.add_stream(codec, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = size
            stream.pix_fmt = pix_fmt
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(_picture(index, *size), format="rgb24")
                frame = frame.reformat(format=pix_fmt)
                frame.pts = pts_ms[index] if pts_ms else 40 * index
                frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return write


def _turn(path: Path, matrix: tuple[int, ...]) -> Path:
    """Write a display matrix into the track header of an MP4 file."""
    content = bytearray(path.read_bytes())
    start = content.find(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(bytes(content))
    return path


def test_frames_come_in_order_with_their_numbers_and_times(encode: Encode) -> None:
    clip = open_clip(encode("a.mp4"))
    frames = list(clip.frames())
    assert (clip.frame_size, clip.fps) == ((48, 64), 25.0)
    assert [f.index for f in frames] == list(range(6))
    assert [round(f.pts_s, 3) for f in frames] == [0, 0.04, 0.08, 0.12, 0.16, 0.2]
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image.dtype == np.uint8
    assert np.abs(frames[5].image.astype(int) - _picture(5, 48, 64)).mean() < 8


def test_a_clip_can_be_read_twice_and_from_any_frame(encode: Encode) -> None:
    clip = open_clip(encode("a.mp4"))
    whole, rest = list(clip.frames()), list(clip.frames(first=4))
    assert [f.index for f in rest] == [4, 5]
    assert [f.pts_s for f in rest] == [f.pts_s for f in whole[4:]]
    assert np.array_equal(rest[0].image, whole[4].image)


def test_frames_are_counted_as_they_decode(encode: Encode, tmp_path: Path) -> None:
    clip = open_clip(encode("a.mp4"))
    assert clip.count() == sum(1 for _ in clip.frames())
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((20, 30, 3), np.uint8))
    assert open_clip(tmp_path).count() == 3


def test_variable_frame_rate_keeps_the_true_times(encode: Encode) -> None:
    clip = open_clip(encode("vfr.mp4", count=5, pts_ms=[0, 40, 200, 220, 1000]))
    assert [round(f.pts_s, 3) for f in clip.frames()] == [0, 0.04, 0.2, 0.22, 1.0]


@pytest.mark.parametrize(
    ("matrix", "quarter_turns"),
    [
        ((0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30), 3),
        ((-65536, 0, 0, 0, -65536, 0, 64 << 16, 48 << 16, 1 << 30), 2),
        ((0, -65536, 0, 65536, 0, 0, 0, 64 << 16, 1 << 30), 1),
    ],
)
def test_rotation_metadata_is_applied(
    encode: Encode, matrix: tuple[int, ...], quarter_turns: int
) -> None:
    plain = next(open_clip(encode("a.mp4")).frames()).image
    clip = open_clip(_turn(encode("turned.mp4"), matrix))
    turned = next(clip.frames()).image
    assert clip.frame_size == turned.shape[:2]
    assert np.array_equal(turned, np.rot90(plain, quarter_turns))


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [("gray", (48, 64)), ("yuv444p", (47, 63)), ("yuv420p10le", (48, 64)), ("bgra", (48, 64))],
)
def test_grey_odd_deep_and_transparent_video_reads_as_rgb(
    encode: Encode, pix_fmt: str, size: tuple[int, int]
) -> None:
    image = next(
        open_clip(encode("a.mkv", codec="ffv1", pix_fmt=pix_fmt, size=size)).frames()
    ).image
    expected = _picture(0, *size).astype(int)
    if pix_fmt == "gray":
        expected = np.repeat(cv2.cvtColor(_picture(0, *size), cv2.COLOR_RGB2GRAY)[..., None], 3, 2)
    assert image.shape == (*size, 3)
    assert np.abs(image - expected).mean() < 3


def test_images_of_any_depth_read_as_rgb_in_natural_order(tmp_path: Path) -> None:
    plain = _picture(0, 48, 64)
    bgr = plain[..., ::-1]
    cv2.imwrite(str(tmp_path / "10.png"), bgr.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "9.png"), np.dstack([bgr, np.full((48, 64), 9, np.uint8)]))
    cv2.imwrite(str(tmp_path / "2.webp"), bgr)
    cv2.imwrite(str(tmp_path / "1.jpg"), bgr)
    cv2.imwrite(str(tmp_path / "11.png"), bgr[..., 2])
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = list(open_clip(tmp_path, folder_fps=10.0).frames())
    assert [f.pts_s for f in frames] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert np.abs(frames[0].image - plain.astype(int)).mean() < 8  # jpg
    assert np.array_equal(frames[2].image, plain)  # alpha dropped
    assert np.array_equal(frames[3].image, plain)  # 16 bits
    assert np.array_equal(frames[4].image, np.repeat(plain[..., :1], 3, 2))  # grey


def test_an_upright_photo_is_read_upright(tmp_path: Path) -> None:
    ok, jpeg = cv2.imencode(".jpg", _picture(0, 48, 64)[..., ::-1])
    assert ok
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    (tmp_path / "0.jpg").write_bytes(jpeg.tobytes()[:2] + segment + jpeg.tobytes()[2:])
    assert open_clip(tmp_path).frame_size == (64, 48)


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "0.png"), _picture(0, 48, 64))
    cv2.imwrite(str(tmp_path / "1.png"), _picture(0, 48, 60))
    with pytest.raises(DatasetError, match=r"1\.png: frame 1 is 60x48, the clip is 64x48"):
        list(open_clip(tmp_path).frames())


def test_a_truncated_file_gives_its_good_frames_and_names_the_last(encode: Encode) -> None:
    path = encode("long.mp4", count=30)
    whole = [f.image for f in open_clip(path).frames()]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    read: list[np.ndarray] = []
    with pytest.raises(DatasetError, match=r"truncated .* last good frame is \d+") as caught:
        read.extend(f.image for f in open_clip(path).frames())
    assert "\n" not in str(caught.value)
    assert 0 < len(read) < 30
    assert str(caught.value).endswith(f"last good frame is {len(read) - 1}")
    assert all(np.array_equal(a, b) for a, b in zip(read, whole, strict=False))


def test_a_file_without_its_index_is_refused(encode: Encode) -> None:
    path = encode("a.avi")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError, match=r"a\.avi: "):
        open_clip(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"hello, this is no video\n" * 50, "not a video that can be read"),
        ("empty.mp4", b"", r"empty file \(0 bytes\)"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nhttp://example.com/a.ts\n", "not a video"),
        ("join.txt", b"ffconcat version 1.0\nfile a.mp4\n", "not a video"),
        ("ansi.txt", b"\x1b[2Jhello\n" * 20, "not a video"),
    ],
)
def test_what_is_no_video_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        open_clip(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_places_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        open_clip(tmp_path / "absent.mp4")
    with pytest.raises(DatasetError, match="a folder without frames"):
        open_clip(tmp_path)


def test_a_broken_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"hello")
    with pytest.raises(DatasetError, match=r"0\.jpg: not an image that can be read \(5 bytes\)"):
        open_clip(tmp_path)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(DatasetError, match="no video stream"):
        open_clip(path)


def test_one_pixel_is_below_the_limit(encode: Encode) -> None:
    with pytest.raises(LimitError, match=f"frame is 1x1, limit {MIN_SIDE} to 16384"):
        open_clip(encode("dot.mkv", codec="ffv1", pix_fmt="gray", size=(1, 1)))


def test_a_huge_png_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIHDR" + header + b"\0" * 40)
    with pytest.raises(LimitError, match=r"60000x60000, limit 16 to 16384 pixels a side"):
        open_clip(tmp_path)
    header = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x0dIHDR" + header + b"\0" * 40)
    with pytest.raises(LimitError, match=r"81000000 pixels, limit 64000000"):
        open_clip(tmp_path)


def test_a_frame_larger_than_allowed_is_refused_by_its_header(encode: Encode) -> None:
    path = encode("a.mp4")
    assert open_clip(path, limits=ClipLimits(max_pixels=48 * 64)).frame_size == (48, 64)
    with pytest.raises(LimitError, match=r"64x48 = 3072 pixels, limit 3071 \(max_pixels\)"):
        open_clip(path, limits=ClipLimits(max_pixels=48 * 64 - 1))


def test_a_clip_longer_than_allowed_is_refused_by_its_header(encode: Encode) -> None:
    path = encode("a.mp4", count=3, pts_ms=[0, 2000, 4000])
    with pytest.raises(LimitError, match=r"4\.\d s by its header, limit 2\.5 s \(max_duration_s\)"):
        open_clip(path, limits=ClipLimits(max_duration_s=2.5))


@pytest.mark.parametrize("limits", [ClipLimits(max_frames=4), ClipLimits(max_duration_s=0.13)])
def test_a_clip_whose_header_is_silent_is_refused_at_the_limit(
    encode: Encode, limits: ClipLimits, tmp_path: Path
) -> None:
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), _picture(index, 48, 64))
    for path in (encode("a.mp4"), tmp_path):
        read: list[int] = []
        with pytest.raises(LimitError, match=r"more than 4 frames|at 0\.2 s, limit 0\.1 s"):
            read.extend(f.index for f in open_clip(path, limits=limits).frames())
        assert read == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_what_is_written_reads_back_at_its_times(tmp_path: Path, size: tuple[int, int]) -> None:
    times_s = [3.0, 3.04, 3.5, 3.52]
    with VideoWriter(tmp_path / "out.mp4", fps=25.0) as writer:
        for index, time_s in enumerate(times_s):
            writer.write(_picture(index, *size), time_s)
    frames = list(open_clip(tmp_path / "out.mp4").frames())
    assert [round(f.pts_s, 3) for f in frames] == [0, 0.04, 0.5, 0.52]
    assert frames[0].image.shape == (48, 64, 3)
    difference = frames[2].image[: size[0], : size[1]].astype(int) - _picture(2, *size)
    assert np.abs(difference).mean() < 8


def _write_sizes(path: Path, *sizes: tuple[int, int]) -> None:
    with VideoWriter(path, fps=25.0) as writer:
        for index, size in enumerate(sizes):
            writer.write(_picture(index, *size), index / 25)
            assert not path.exists()


def test_nothing_half_written_is_left_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"frame is \(48, 60\), the video is \(48, 64\)"):
        _write_sizes(tmp_path / "out.mp4", (48, 64), (48, 60))
    assert list(tmp_path.iterdir()) == []
    _write_sizes(tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []  # no frame, no file


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two processors to take one away",
)
def test_what_is_written_does_not_depend_on_the_number_of_processors(tmp_path: Path) -> None:
    processors = os.sched_getaffinity(0)
    sizes = [(240, 320)] * 24
    _write_sizes(tmp_path / "all.mp4", *sizes)
    os.sched_setaffinity(0, {min(processors)})
    try:
        _write_sizes(tmp_path / "one.mp4", *sizes)
    finally:
        os.sched_setaffinity(0, processors)
    assert (tmp_path / "all.mp4").read_bytes() == (tmp_path / "one.mp4").read_bytes()
