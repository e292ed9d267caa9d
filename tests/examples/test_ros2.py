"""The ROS 2 example without ROS: recorded messages in, messages as they would be published out."""

from __future__ import annotations

import ast
import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from killable_server import Served
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from robot_recordings import (
    DEFINITIONS,
    Sent,
    coded,
    compressed_image,
    header,
    raw_image,
    write_recording,
)

from amodal_client import Client
from amodal_client.stream_events import StreamedObject, StreamResult
from amodal_client.stream_messages import (
    MaskRle,
    ModelName,
    PlacedMask,
    StreamObject,
    StreamObjectState,
    Timings,
)
from amodal_model.masks import box_mask, encode_crop_rle

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "ros2" / "amodal_ros"
SIZE = (48, 64)
RULE = "=" * 80
DETECTIONS = "vision_msgs/msg/Detection2DArray"
DETECTION_DEFINITION = f"""std_msgs/Header header
vision_msgs/Detection2D[] detections
{RULE}
MSG: vision_msgs/Detection2D
std_msgs/Header header
vision_msgs/ObjectHypothesisWithPose[] results
vision_msgs/BoundingBox2D bbox
string id
{RULE}
MSG: vision_msgs/ObjectHypothesisWithPose
vision_msgs/ObjectHypothesis hypothesis
geometry_msgs/PoseWithCovariance pose
{RULE}
MSG: vision_msgs/ObjectHypothesis
string class_id
float64 score
{RULE}
MSG: geometry_msgs/PoseWithCovariance
geometry_msgs/Pose pose
float64[36] covariance
{RULE}
MSG: geometry_msgs/Pose
geometry_msgs/Point position
geometry_msgs/Quaternion orientation
{RULE}
MSG: geometry_msgs/Point
float64 x
float64 y
float64 z
{RULE}
MSG: geometry_msgs/Quaternion
float64 x 0
float64 y 0
float64 z 0
float64 w 1
{RULE}
MSG: vision_msgs/BoundingBox2D
vision_msgs/Pose2D center
float64 size_x
float64 size_y
{RULE}
MSG: vision_msgs/Pose2D
vision_msgs/Point2D position
float64 theta
{RULE}
MSG: vision_msgs/Point2D
float64 x
float64 y
{RULE}
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
{RULE}
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
ALL = {**DEFINITIONS, DETECTIONS: DETECTION_DEFINITION}
START_NS = 1_700_000_000_000_000_123


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The modules of the example that do not need ROS."""
    sys.path.insert(0, str(PACKAGE))
    try:
        yield SimpleNamespace(
            conversion=importlib.import_module("amodal_ros.conversion"),
            pending=importlib.import_module("amodal_ros.pending"),
        )
    finally:
        sys.path.remove(str(PACKAGE))


def played(path: Path) -> list[tuple[str, Any]]:
    """Return topic and message of a recording, as a foreign reader decodes them."""
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return [
            (each.channel.topic, each.decoded_message) for each in reader.iter_decoded_messages()
        ]


def detection(track_id: str, box: tuple[float, float, float, float]) -> dict[str, Any]:
    x, y, width, height = box
    center = {"position": {"x": x + width / 2, "y": y + height / 2}, "theta": 0.0}
    return {"id": track_id, "bbox": {"center": center, "size_x": width, "size_y": height}}


def picture(index: int) -> np.ndarray:
    image = np.full((*SIZE, 3), 40, np.uint8)
    image[10:30, 2 * index : 2 * index + 12] = (200, 90, 30)
    return image


def placed(rows: slice, columns: slice) -> PlacedMask:
    mask = np.zeros(SIZE, bool)
    mask[rows, columns] = True
    bbox, rle = encode_crop_rle(box_mask(mask))
    return PlacedMask(bbox, MaskRle((rle["size"][0], rle["size"][1]), rle["counts"]))


def result() -> StreamResult:
    """Object 7, in front, over the right half of object 300; object 9 is lost."""

    def thing(
        track_id: int, state: StreamObjectState, visible: PlacedMask, amodal: PlacedMask
    ) -> StreamedObject:
        return StreamedObject(SIZE, StreamObject(track_id, state, 0.5, visible, amodal))

    front = placed(slice(10, 30), slice(20, 40))
    whole = placed(slice(12, 20), slice(10, 30))
    shows = placed(slice(12, 20), slice(10, 20))
    objects = (
        thing(7, "visible", front, front),
        StreamedObject(SIZE, StreamObject(9, "lost")),
        thing(300, "partial", shows, whole),
    )
    timings = Timings(0, 0, 0, 0)
    return StreamResult(
        5, START_NS, SIZE, objects, ((7, 300),), timings, 0, 1.0, ModelName("m", "1"), 1.0
    )


def test_stamps_frames_and_images_are_kept(parts: SimpleNamespace, tmp_path: Path) -> None:
    sent = [
        Sent("/raw", "sensor_msgs/msg/Image", raw_image(picture(1), START_NS, padding=5), 1),
        Sent("/bgr", "sensor_msgs/msg/Image",
             raw_image(np.ascontiguousarray(picture(1)[..., ::-1]), START_NS, "bgr8"), 2),
        Sent("/jpg", "sensor_msgs/msg/CompressedImage",
             compressed_image(picture(1), START_NS, ".png"), 3),
    ]  # fmt: skip
    for topic, message in played(write_recording(tmp_path / "r.mcap", sent)):
        assert parts.conversion.stamp_ns(message.header) == START_NS
        kept = parts.conversion.header_fields(message.header)
        assert kept == header(START_NS)
        image = parts.conversion.image_of(message)
        if topic == "/jpg":
            assert image == coded(picture(1))
        assert np.array_equal(parts.conversion.pixels_of(image), picture(1))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"encoding": "bayer_rggb8"}, "not known"),
        ({"height": 1000}, "rows of"),
        ({"step": 3}, "rows"),
    ],
)
def test_images_that_lie_are_refused(
    parts: SimpleNamespace, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    content = {**raw_image(picture(0), START_NS), **change}
    sent = [Sent("/raw", "sensor_msgs/msg/Image", content, 1)]
    ((_, message),) = played(write_recording(tmp_path / "r.mcap", sent))
    with pytest.raises(ValueError, match=reason):
        parts.conversion.image_of(message)


def test_detections_become_boxes_with_their_ids(parts: SimpleNamespace, tmp_path: Path) -> None:
    given = [
        detection("12", (3.0, 4.0, 10.0, 6.0)),
        detection("car-1", (1.0, 2.0, 3.0, 4.0)),
        detection("99999999999", (1.0, 2.0, 3.0, 4.0)),
        detection("4", (1.0, 2.0, 0.0, 4.0)),
    ]
    content = {"header": header(START_NS), "detections": given}
    path = write_recording(
        tmp_path / "r.mcap", [Sent("/d", DETECTIONS, content, 1)], definitions=ALL
    )
    ((_, message),) = played(path)
    found = parts.conversion.objects_of_detections(message)
    assert [(each.track_id, each.box) for each in found] == [
        (12, (3.0, 4.0, 10.0, 6.0)),
        (None, (1.0, 2.0, 3.0, 4.0)),
        (None, (1.0, 2.0, 3.0, 4.0)),
    ]


@pytest.mark.parametrize(("kind", "encoding"), [(np.uint8, "mono8"), (np.uint16, "mono16")])
def test_labels_become_masks(
    parts: SimpleNamespace, tmp_path: Path, kind: type, encoding: str
) -> None:
    labels: np.ndarray = np.zeros(SIZE, kind)
    labels[3:9, 4:20] = 2
    labels[20:30, 40:60] = 250
    raw = labels.view(np.uint8).reshape(*SIZE, -1)
    content = {**raw_image(raw, START_NS, encoding), "width": SIZE[1]}
    sent = [Sent("/l", "sensor_msgs/msg/Image", content, 1)]
    ((_, message),) = played(write_recording(tmp_path / "r.mcap", sent))
    masks = parts.conversion.objects_of_labels(message)
    assert set(masks) == {2, 250}
    for label, mask in masks.items():
        assert np.array_equal(mask, labels == label)


def test_a_result_is_published_with_the_stamp_of_its_image(
    parts: SimpleNamespace, tmp_path: Path
) -> None:
    """What goes out has the fields of the ROS types: a foreign writer takes it."""
    kept = header(START_NS, "left_camera")
    sent = [
        Sent("/detections", DETECTIONS, parts.conversion.detections_of(result(), kept), 1),
        Sent("/labels", "sensor_msgs/msg/Image", parts.conversion.labels_of(result(), kept), 2),
        Sent("/overlay", "sensor_msgs/msg/Image",
             parts.conversion.overlay_of(picture(0), result(), kept), 3),
    ]  # fmt: skip
    back = dict(played(write_recording(tmp_path / "r.mcap", sent, definitions=ALL)))
    for message in back.values():
        assert parts.conversion.header_fields(message.header) == kept
    front, behind = back["/detections"].detections
    assert (front.id, behind.id) == ("7", "300")
    assert behind.results[0].hypothesis.class_id == "partial"
    assert behind.results[0].hypothesis.score == 0.5
    corners = (behind.bbox.center.position.x, behind.bbox.center.position.y)
    assert (*corners, behind.bbox.size_x, behind.bbox.size_y) == (20, 16, 20, 8)
    labels = back["/labels"]
    assert (labels.encoding, labels.step) == ("mono16", 2 * SIZE[1])
    found = np.frombuffer(labels.data, "<u2").reshape(SIZE)
    assert found[15, 15] == 300
    assert found[15, 25] == 300  # hidden by 7: those behind lie on top
    assert found[25, 25] == 7
    assert found[0, 0] == 0
    overlay = parts.conversion.image_of(back["/overlay"])
    assert np.array_equal(overlay[:10], picture(0)[:10])
    assert (overlay[15, 15] != picture(0)[15, 15]).any()


def test_order_in_a_circle_ends(parts: SimpleNamespace) -> None:
    circle = SimpleNamespace(
        objects=[SimpleNamespace(track_id=i) for i in (1, 2, 3)], order=((1, 2), (2, 3), (3, 1))
    )
    assert len(parts.conversion._front_to_back(circle)) == 3


def test_what_is_pending_is_bounded(parts: SimpleNamespace) -> None:
    pending = parts.pending.Pending(limit=3)
    for seq in range(5):
        pending.keep(seq, f"frame {seq}")
    assert (len(pending), pending.take(0), pending.take(3)) == (3, None, "frame 3")
    pending.drop([(0, 2), (9, 9)])
    assert (len(pending), pending.take(4)) == (1, "frame 4")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("served"))
    served.wait_until_up()
    yield served
    served.process.stop()


def test_a_recording_goes_through_a_server_and_back(
    parts: SimpleNamespace, tmp_path: Path, served: Served
) -> None:
    conversion, sent = parts.conversion, []
    for index in range(10):
        ns = START_NS + 40_000_000 * index
        boxes = [
            detection("2", (28.0, 5.0, 8.0, 40.0)),
            detection("1", (3.0 * index, 10.0, 12.0, 20.0)),
        ]
        content = {"header": header(ns), "detections": boxes}
        sent += [
            Sent("/image", "sensor_msgs/msg/Image", raw_image(picture(index), ns), ns),
            Sent("/detections", DETECTIONS, content, ns + 1),
        ]
    messages = played(write_recording(tmp_path / "in.mcap", sent, definitions=ALL))
    pending, out = parts.pending.Pending(), []
    with Client(served.url) as client, client.stream(mode="lossless") as stream:
        for (_, image), (_, found) in zip(messages[::2], messages[1::2], strict=True):
            seq = stream.send(
                conversion.image_of(image),
                conversion.objects_of_detections(found),
                capture_ns=conversion.stamp_ns(image.header),
            )
            pending.keep(seq, conversion.header_fields(image.header))
        stream.end()
        for each in stream.results():
            kept = pending.take(each.seq)
            assert each.capture_ns == conversion.stamp_ns(
                SimpleNamespace(stamp=SimpleNamespace(**kept["stamp"]))
            )
            out.append(Sent("/out", DETECTIONS, conversion.detections_of(each, kept), each.seq))
    assert len(pending) == 0
    back = played(write_recording(tmp_path / "out.mcap", out, definitions=ALL))
    stamps = [conversion.stamp_ns(message.header) for _, message in back]
    assert stamps == [START_NS + 40_000_000 * index for index in range(10)]
    assert all({each.id for each in message.detections} == {"1", "2"} for _, message in back)


def test_the_package_says_the_same_everywhere() -> None:
    package = ElementTree.parse(PACKAGE / "package.xml").getroot()  # noqa: S314  our own file
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package.findtext("version") == project["version"]
    assert (PACKAGE / "resource" / str(package.findtext("name"))).exists()
    needed = {each.text for each in package.findall("exec_depend")}
    for module in ("node", "conversion", "pending"):
        tree = ast.parse((PACKAGE / "amodal_ros" / f"{module}.py").read_text())
        names = {
            (each.module or "").split(".")[0] if isinstance(each, ast.ImportFrom) else alias.name
            for each in ast.walk(tree)
            if isinstance(each, ast.Import | ast.ImportFrom)
            for alias in each.names
        }
        ros = names - set(sys.stdlib_module_names) - {"numpy", "cv2", "amodal_client", "amodal_ros"}
        assert ros <= needed, module
        assert not ros or module == "node"
