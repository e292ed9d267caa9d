"""MCAP recordings made with the format's own writer and ROS 2's message definitions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mcap.writer import CompressionType
from mcap_ros2.writer import Writer

_HEADER = """
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
DEFINITIONS = {
    "sensor_msgs/msg/Image": (
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
        "uint8 is_bigendian\nuint32 step\nuint8[] data" + _HEADER
    ),
    "sensor_msgs/msg/CompressedImage": (
        "std_msgs/Header header\nstring format\nuint8[] data" + _HEADER
    ),
    "foxglove_msgs/msg/CompressedImage": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format" + _HEADER
    ),
    "std_msgs/msg/String": "string data",
}


class Sent(NamedTuple):
    """A message as it is recorded."""

    topic: str
    kind: str
    content: dict[str, Any]
    log_ns: int


def stamp(ns: int) -> dict[str, int]:
    return {"sec": ns // 1_000_000_000, "nanosec": ns % 1_000_000_000}


def header(ns: int, frame_id: str = "camera") -> dict[str, Any]:
    return {"stamp": stamp(ns), "frame_id": frame_id}


def raw_image(
    image: np.ndarray, ns: int, encoding: str = "rgb8", padding: int = 0
) -> dict[str, Any]:
    """Return a ``sensor_msgs/Image`` whose rows end with ``padding`` bytes."""
    height, width = image.shape[:2]
    rows = image.reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return {
        "header": header(ns),
        "height": height,
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": padded.shape[1],
        "data": padded.tobytes(),
    }


def coded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def compressed_image(image: np.ndarray, ns: int, suffix: str = ".png") -> dict[str, Any]:
    return {
        "header": header(ns),
        "format": f"rgb8; {suffix[1:]} compressed bgr8",
        "data": coded(image, suffix),
    }


def write_recording(
    path: Path,
    messages: Iterable[Sent],
    compression: CompressionType = CompressionType.ZSTD,
    definitions: dict[str, str] = DEFINITIONS,
) -> Path:
    with path.open("wb") as out, Writer(out, compression=compression) as writer:
        schemas = {kind: writer.register_msgdef(kind, text) for kind, text in definitions.items()}
        for each in messages:
            writer.write_message(each.topic, schemas[each.kind], each.content, each.log_ns)
    return path
