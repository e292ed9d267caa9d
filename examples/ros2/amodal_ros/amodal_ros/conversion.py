"""ROS 2 messages to what the client sends, and its results to messages; without ROS.

Messages that come in are anything with the fields of the ROS types: those of rclpy, or those that
a reader of recordings makes. Messages that go out are dicts with the names of the types' fields.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from amodal_client.stream_messages import GivenObject

_CHANNELS = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}
_LABELS = {"mono8": np.uint8, "8UC1": np.uint8, "mono16": np.uint16, "16UC1": np.uint16}
MAX_LABEL = 65535
_MAX_ID = 2**31 - 1


def stamp_ns(header: Any) -> int:
    """Return the stamp of a header in nanoseconds; 0: not set."""
    return max(0, int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec))


def header_fields(header: Any) -> dict[str, Any]:
    """Return stamp and frame of a header, for the messages that answer it."""
    stamp = {"sec": int(header.stamp.sec), "nanosec": int(header.stamp.nanosec)}
    return {"stamp": stamp, "frame_id": str(header.frame_id)}


def image_of(message: Any) -> bytes | np.ndarray:
    """Return what a ``sensor_msgs`` Image or CompressedImage is sent as.

    Returns:
        The JPEG or PNG file of a compressed image, else RGB uint8 (H, W, 3).

    Raises:
        ValueError: an encoding that is not known, or too few bytes.
    """
    if not hasattr(message, "encoding"):
        return bytes(message.data)
    channels = _CHANNELS.get(message.encoding)
    if channels is None:
        known = ", ".join(_CHANNELS)
        raise ValueError(f"image encoding {message.encoding[:40]!r} is not known: {known}")
    image = _rows(message, np.uint8, channels)
    conversion = _TO_RGB.get(message.encoding)
    return image if conversion is None else np.asarray(cv2.cvtColor(image, conversion))


def pixels_of(image: bytes | np.ndarray) -> np.ndarray | None:
    """Return an image as RGB uint8 (H, W, 3), to draw on; None where it cannot be read."""
    if isinstance(image, np.ndarray):
        return image
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)


def _rows(message: Any, kind: type, channels: int) -> np.ndarray:
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(bytes(message.data), np.uint8)
    row_bytes = width * channels * np.dtype(kind).itemsize
    if step < row_bytes or data.size < step * height or not height or not width:
        raise ValueError(f"image of {width}x{height} has {data.size} bytes in rows of {step}")
    rows = np.ascontiguousarray(data[: step * height].reshape(height, step)[:, :row_bytes])
    order = ">" if message.is_bigendian else "<"
    values = rows.view(np.dtype(kind).newbyteorder(order)).astype(kind)
    return values.reshape((height, width, channels))


def objects_of_detections(message: Any) -> list[GivenObject]:
    """Return the boxes of a ``vision_msgs/Detection2DArray``; a whole number as id is kept."""
    return [
        GivenObject(
            _track_id(each.id),
            box=(
                each.bbox.center.position.x - each.bbox.size_x / 2,
                each.bbox.center.position.y - each.bbox.size_y / 2,
                each.bbox.size_x,
                each.bbox.size_y,
            ),
        )
        for each in message.detections
        if each.bbox.size_x > 0 and each.bbox.size_y > 0
    ]


def _track_id(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) < 11
    return int(text) if is_number and int(text) <= _MAX_ID else None


def objects_of_labels(message: Any) -> dict[int, np.ndarray]:
    """Return the visible masks of a label image (mono8 or mono16), bool (H, W), by label; 0: none.

    Raises:
        ValueError: another encoding, or too few bytes.
    """
    kind = _LABELS.get(message.encoding)
    if kind is None:
        raise ValueError(f"labels are {message.encoding[:40]!r}, must be {', '.join(_LABELS)}")
    labels = _rows(message, kind, 1)[..., 0]
    return {int(label): labels == label for label in np.unique(labels) if label}


def detections_of(result: Any, header: dict[str, Any]) -> dict[str, Any]:
    """Return a result as a ``vision_msgs/Detection2DArray`` of amodal boxes.

    The state is the class of the hypothesis, the score that of the amodal mask; objects without a
    pixel are left out.
    """
    detections = []
    for each in result.objects:
        if each.said.amodal is None:
            continue
        x, y, width, height = each.said.amodal.bbox
        center = {"position": {"x": x + width / 2, "y": y + height / 2}, "theta": 0.0}
        hypothesis = {"class_id": each.state, "score": float(each.score)}
        detections.append(
            {
                "header": header,
                "results": [{"hypothesis": hypothesis}],
                "bbox": {"center": center, "size_x": float(width), "size_y": float(height)},
                "id": str(each.track_id),
            }
        )
    return {"header": header, "detections": detections}


def labels_of(result: Any, header: dict[str, Any]) -> dict[str, Any]:
    """Return a result as a label image (mono16): every pixel of a silhouette has its track id.

    Where silhouettes overlap, those behind lie on top: the hidden parts are what no other image
    shows. Ids outside 1 to 65535 are left out.
    """
    labels = np.zeros(result.frame_size, np.uint16)
    for each in _front_to_back(result):
        mask = each.amodal_mask
        if mask is not None and 1 <= each.track_id <= MAX_LABEL:
            labels[mask] = each.track_id
    return _image(labels.astype("<u2"), "mono16", header)


def _front_to_back(result: Any) -> list[Any]:
    """Return the objects so that none comes before one that is in front of it, where that is so."""
    left = {each.track_id: each for each in result.objects}
    found = []
    while left:
        behind = {back for front, back in result.order if front in left and front != back}
        free = [track_id for track_id in left if track_id not in behind] or [min(left)]
        found += [left.pop(track_id) for track_id in sorted(free)]
    return found


def overlay_of(image: np.ndarray, result: Any, header: dict[str, Any]) -> dict[str, Any]:
    """Return an ``rgb8`` image: what shows of each object tinted, what is hidden hatched."""
    drawn = image.astype(np.float32)
    rows, columns = np.indices(image.shape[:2])
    hatch = (rows + columns) % 8 < 3
    for each in result.objects:
        colour = np.array(_colour(each.track_id), np.float32)
        for mask, weight in (
            (each.visible_mask, 0.45),
            (None if each.occluded_mask is None else each.occluded_mask & hatch, 0.8),
        ):
            if mask is not None and mask.shape == drawn.shape[:2]:
                drawn[mask] += weight * (colour - drawn[mask])
    return _image(drawn.round().astype(np.uint8), "rgb8", header)


def _colour(track_id: int) -> tuple[int, int, int]:
    hue = np.array([[[track_id * 67 % 180, 200, 255]]], np.uint8)
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _image(values: np.ndarray, encoding: str, header: dict[str, Any]) -> dict[str, Any]:
    height, width = values.shape[:2]
    data = np.ascontiguousarray(values).tobytes()
    return {
        "header": header,
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": len(data) // height,
        "data": data,
    }
