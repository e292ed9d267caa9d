"""Robot recordings as clips."""

from __future__ import annotations

import resource
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Run
from mcap.writer import CompressionType, Writer
from robot_recordings import (
    DEFINITIONS,
    Sent,
    coded,
    compressed_image,
    raw_image,
    stamp,
    write_recording,
)

from amodal_client.stream_wire import Codec
from amodal_model.errors import AmodalError, DatasetError, InputError, LimitError
from amodal_service.live_sources import open_source
from amodal_service.mcap_recording import RecordedImage, open_recording, read_images
from amodal_service.recorded_images import ImageMessage
from amodal_service.sources import open_clip

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 40_000_000
RAW, PRESSED, FOXGLOVE = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/CompressedImage",
    "foxglove_msgs/msg/CompressedImage",
)


def picture(index: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0] = np.arange(size[1])
    image[..., 1] = 10 * index % 256
    image[10:20, 5:15] = (200, 100, 50)
    return image


def at(index: int) -> int:
    return START_NS + index * PERIOD_NS


def raw_camera(count: int = 5, topic: str = "/camera/image_raw") -> list[Sent]:
    return [
        Sent(topic, RAW, raw_image(picture(i), at(i), padding=3), at(i) + 7) for i in range(count)
    ]


@pytest.mark.parametrize("compression", list(CompressionType))
def test_raw_images_come_back_with_their_own_times(
    tmp_path: Path, compression: CompressionType
) -> None:
    path = write_recording(tmp_path / "r.mcap", raw_camera(), compression)
    images = list(read_images(path))
    assert [each.stamp_ns for each in images] == [at(i) for i in range(5)]
    assert {each.message.frame_id for each in images} == {"camera"}
    clip = open_recording(path)
    assert (clip.topic, clip.frame_size, clip.count()) == ("/camera/image_raw", (48, 64), 5)
    assert clip.fps == pytest.approx(25.0)
    frames = list(clip.frames())
    assert [frame.pts_s for frame in frames] == pytest.approx([0.04 * i for i in range(5)])
    for index, frame in enumerate(frames):
        assert np.array_equal(frame.image, picture(index))
    assert [frame.index for frame in clip.frames(3)] == [3, 4]


@pytest.mark.parametrize(
    ("encoding", "channels"),
    [("bgr8", (2, 1, 0)), ("rgba8", (0, 1, 2, 0)), ("bgra8", (2, 1, 0, 1)), ("8UC3", (2, 1, 0))],
)
def test_channels_are_put_in_order(
    tmp_path: Path, encoding: str, channels: tuple[int, ...]
) -> None:
    stored = np.ascontiguousarray(picture(1)[..., list(channels)])
    message = raw_image(stored, at(0), encoding)
    path = write_recording(tmp_path / "r.mcap", [Sent("/c", RAW, message, at(0))])
    (frame,) = open_recording(path).frames()
    assert np.array_equal(frame.image, picture(1))


def test_grey_images_are_spread(tmp_path: Path) -> None:
    message = raw_image(picture(1)[..., :1], at(0), "mono8")
    path = write_recording(tmp_path / "r.mcap", [Sent("/c", RAW, message, at(0))])
    (frame,) = open_recording(path).frames()
    assert np.array_equal(frame.image, np.repeat(picture(1)[..., :1], 3, axis=2))


def test_compressed_images_are_passed_on_as_they_are(tmp_path: Path) -> None:
    sent = [
        Sent("/c", PRESSED, compressed_image(picture(i), at(i), suffix), at(i))
        for i, suffix in enumerate((".png", ".jpg"))
    ]
    images = list(read_images(write_recording(tmp_path / "r.mcap", sent)))
    assert [each.message.codec for each in images] == [Codec.PNG, Codec.JPEG]
    assert images[0].message.data == coded(picture(0))
    assert np.array_equal(images[0].message.pixels(), picture(0))
    assert images[1].message.size() == (48, 64)


def test_foxglove_images_of_ros_and_of_protobuf(tmp_path: Path) -> None:
    content = {
        "timestamp": stamp(at(2)),
        "frame_id": "eye",
        "data": coded(picture(2)),
        "format": "png",
    }
    ros = write_recording(tmp_path / "ros.mcap", [Sent("/c", FOXGLOVE, content, 5)])
    protobuf = _write_protobuf(tmp_path / "protobuf.mcap", at(2), coded(picture(2)))
    for path in (ros, protobuf):
        (image,) = read_images(path)
        assert (image.stamp_ns, image.message.frame_id) == (at(2), "eye")
        assert np.array_equal(image.message.pixels(), picture(2))


def _write_protobuf(path: Path, ns: int, image: bytes) -> Path:
    """Write a foxglove.CompressedImage, encoded by hand."""

    def field(number: int, content: bytes) -> bytes:
        return _varint(number << 3 | 2) + _varint(len(content)) + content

    time = b"\x08" + _varint(ns // 10**9) + b"\x10" + _varint(ns % 10**9)
    body = field(1, time) + field(2, image) + field(3, b"png") + field(4, b"eye")
    with path.open("wb") as out:
        writer = Writer(out)
        writer.start()
        schema = writer.register_schema("foxglove.CompressedImage", "protobuf", b"")
        channel = writer.register_channel("/c", "protobuf", schema)
        writer.add_message(channel, 5, body, 5)
        writer.finish()  # type: ignore[no-untyped-call]
    return path


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def test_a_message_without_stamp_has_the_time_of_its_log(tmp_path: Path) -> None:
    sent = [Sent("/c", RAW, raw_image(picture(0), 0), 1234)]
    (image,) = read_images(write_recording(tmp_path / "r.mcap", sent))
    assert image.stamp_ns == 1234


def test_times_move_forward_where_stamps_do_not(tmp_path: Path) -> None:
    stamps = [at(0), at(1), at(1), at(4)]
    sent = [Sent("/c", RAW, raw_image(picture(0), ns), ns) for ns in stamps]
    clip = open_recording(write_recording(tmp_path / "r.mcap", sent))
    times = [frame.pts_s for frame in clip.frames()]
    assert times == sorted(set(times))
    assert times[3] == pytest.approx(0.16)


def test_other_topics_are_passed_over_and_several_must_be_chosen_from(tmp_path: Path) -> None:
    words = [Sent("/words", "std_msgs/msg/String", {"data": "hi"}, at(i)) for i in range(3)]
    both = [*raw_camera(3, "/left"), *raw_camera(2, "/right"), *words]
    path = write_recording(tmp_path / "r.mcap", both)
    with pytest.raises(DatasetError, match=r"--topic: /left \(3\), /right \(2\)"):
        open_recording(path)
    assert open_recording(path, "/right").count() == 2
    with pytest.raises(DatasetError, match="no images on topic '/words'"):
        open_recording(path, "/words")


def test_only_recordings_have_topics(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.mcap", raw_camera(2))
    assert open_clip(path, topic="/camera/image_raw").count() == 2
    with pytest.raises(InputError, match="no MCAP recording"):
        open_clip(tmp_path, topic="/x")


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    sent = [
        *raw_camera(2),
        Sent("/camera/image_raw", RAW, raw_image(picture(0, (32, 32)), at(2)), 9),
    ]
    clip = open_recording(write_recording(tmp_path / "r.mcap", sent))
    with pytest.raises(DatasetError, match="image 2: is 32x32, the first is 64x48"):
        list(clip.frames())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding 'bayer_rggb8' is not known"),
        ({"height": 4000}, "too few"),
        ({"step": 10}, "too few"),
        ({"width": 2**32 - 1}, "too few"),
        ({"width": 0, "height": 0}, "0x0, limit"),
    ],
)
def test_messages_that_lie_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    message = {**raw_image(picture(0), at(0)), **change}
    path = write_recording(tmp_path / "r.mcap", [Sent("/c", RAW, message, 1)])
    with pytest.raises(InputError, match=reason):
        open_recording(path)


def test_a_picture_that_says_it_is_huge_is_refused_unread() -> None:
    png = bytearray(coded(picture(0)))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(LimitError, match="60000x60000"):
        ImageMessage(0, "", "", 0, 0, 0, bytes(png)).size()


def test_what_comes_before_the_damage_is_given_out(tmp_path: Path) -> None:
    whole = write_recording(tmp_path / "r.mcap", raw_camera(200)).read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole[: len(whole) * 2 // 3])
    images: list[RecordedImage] = []
    with pytest.raises(DatasetError, match="damaged or truncated"):
        images.extend(read_images(cut))
    assert 0 < len(images) < 200


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    zeros = np.zeros((2000, 2000, 3), np.uint8)
    for compression in (CompressionType.ZSTD, CompressionType.LZ4):
        sent = [Sent("/c", RAW, raw_image(zeros, at(0)), 1)]
        path = write_recording(tmp_path / "bomb.mcap", sent, compression)
        content = path.read_bytes()
        at_chunk = _first_chunk(content)
        size = struct.unpack_from("<Q", content, at_chunk + 25)[0]
        assert size > zeros.nbytes
        for lie in (1000, 1 << 40):
            path.write_bytes(
                content[: at_chunk + 25] + struct.pack("<Q", lie) + content[at_chunk + 33 :]
            )
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(InputError):
                list(read_images(path))
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def _first_chunk(content: bytes) -> int:
    at = 8
    while content[at] != 6:
        at += 9 + struct.unpack_from("<Q", content, at + 1)[0]
    return at


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    whole = write_recording(tmp_path / "r.mcap", raw_camera(3)).read_bytes()
    random = np.random.default_rng(0)
    broken = tmp_path / "broken.mcap"
    contents = [b"", b"\x89MCAP0\r\n", b"no recording at all" * 10]
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(8, len(damaged), 4):
            damaged[place] = random.integers(256)
        contents.append(bytes(damaged))
    refusals = []
    for content in contents:
        broken.write_bytes(content)
        try:
            list(open_recording(broken).frames())
        except AmodalError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert [each for each in refusals if "\n" in each] == []


def test_a_recording_is_annotated(tmp_path: Path, amodal: Run) -> None:
    path = write_recording(tmp_path / "r.mcap", raw_camera(4))
    prompts = tmp_path / "p.json"
    prompts.write_text(
        '{"objects": [{"track_id": 1, "frame_index": 0, "bbox_xyxy": [5, 10, 15, 20]}]}'
    )
    out = tmp_path / "out"
    ran = amodal("annotate", path, "-o", out, "--prompts", prompts, "--overlay")
    assert ran.code == 0, ran.err
    rows = (out / "frames.csv").read_text().split()
    assert rows[0] == "frame_index,pts_s"
    assert float(rows[4].split(",")[1]) == pytest.approx(0.12)
    assert (out / "overlay.mp4").stat().st_size > 0
    ran = amodal("annotate", path, "-o", tmp_path / "o2", "--prompts", prompts, "--topic", "/none")
    assert (ran.code, "no images on topic '/none'" in ran.err) == (2, True)


def test_definitions_of_a_recording_are_not_followed(tmp_path: Path) -> None:
    """The schema tells of a field of 4 GB; the message has the layout that its name has."""
    message = raw_image(picture(1), at(1))
    honest = write_recording(tmp_path / "r.mcap", [Sent("/c", RAW, message, 1)],
                             CompressionType.NONE).read_bytes()  # fmt: skip
    lie = b"uint8[4000000000] data"
    text = DEFINITIONS[RAW].encode()
    wrong = lie + b"#" + b" " * (len(text) - len(lie) - 1)
    path = tmp_path / "lie.mcap"
    path.write_bytes(honest.replace(text, wrong))
    assert path.read_bytes() != honest
    (image,) = read_images(path)
    assert np.array_equal(image.message.pixels(), picture(1))


def test_a_recording_is_streamed_with_its_own_stamps(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "r.mcap", raw_camera(6))
    source = open_source(str(path), None)
    frames = list(source.frames())
    assert [frame.stamp_ns for frame in frames] == [at(i) for i in range(6)]
    assert np.array_equal(frames[5].image, picture(5))


def test_a_stream_of_a_topic_that_is_not_there_is_one_line(tmp_path: Path, amodal: Run) -> None:
    path = write_recording(tmp_path / "r.mcap", raw_camera(2))
    ran = amodal("stream", path, "--masks", "motion", "--topic", "/none")
    assert (ran.code, len(ran.err.strip().splitlines())) == (2, 1)
    assert "no images on topic '/none'" in ran.err
