"""The node: images and visible masks in, whole silhouettes out. All of ROS is in this module."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import Any

import rclpy
from message_filters import ApproximateTimeSynchronizer, Subscriber
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from amodal_client import Client, ClientError
from amodal_client.stream_events import FramesDropped, Resumed, StreamResult
from amodal_ros import conversion
from amodal_ros.pending import Pending

QUEUE = 10
SLOP_S = 0.05
"""Difference of stamps at which an image and its detections still belong together."""


class AmodalNode(Node):
    """Sends what a camera sees to a live stream, and publishes what comes back."""

    def __init__(self) -> None:
        super().__init__("amodal")
        self._pending: Pending[tuple[dict[str, Any], Any]] = Pending()
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._detections = self.create_publisher(Detection2DArray, "amodal/detections", QUEUE)
        self._labels = self.create_publisher(Image, "amodal/labels", QUEUE)
        self._overlay = self.create_publisher(Image, "amodal/overlay", QUEUE)
        server = self._setting("server", "http://127.0.0.1:8420")
        client = self._held.enter_context(Client(server, api_key=os.environ.get("AMODAL_API_KEY")))
        self._stream = self._held.enter_context(
            client.stream(
                mode=self._setting("mode", "realtime"),
                masks=self._setting("masks", "given"),
                pictures=self._setting("pictures", False),
                max_objects=self._setting("max_objects", 16),
            )
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._subscribe()

    def _setting(self, name: str, default: Any) -> Any:
        return self.declare_parameter(name, default).value

    def _subscribe(self) -> None:
        """Listen to the camera, and to what gives the visible masks, paired by stamp."""
        image_topic = self._setting("image_topic", "/camera/image_raw")
        is_compressed = self._setting("transport", "raw") == "compressed"
        kind = CompressedImage if is_compressed else Image
        topic = f"{image_topic}/compressed" if is_compressed else image_topic
        sources = [
            (name, kind_of, convert)
            for name, kind_of, convert in (
                (
                    self._setting("detections_topic", ""),
                    Detection2DArray,
                    conversion.objects_of_detections,
                ),
                (self._setting("labels_topic", ""), Image, conversion.objects_of_labels),
            )
            if name
        ][:1]
        if not sources:
            self.create_subscription(kind, topic, self._send, qos_profile_sensor_data)
            return
        (name, kind_of, convert), *_ = sources
        pair = [
            Subscriber(self, kind, topic, qos_profile=qos_profile_sensor_data),
            Subscriber(self, kind_of, name),
        ]
        self._pairs = ApproximateTimeSynchronizer(pair, QUEUE, SLOP_S)
        self._pairs.registerCallback(lambda image, masks: self._send(image, convert(masks)))

    def _send(self, message: Any, objects: Any = None) -> None:
        try:
            image = conversion.image_of(message)
            header = conversion.header_fields(message.header)
            with self._lock:  # the result may come before `send` returns
                seq = self._stream.send(
                    image, objects, capture_ns=conversion.stamp_ns(message.header)
                )
                self._pending.keep(seq, (header, image))
        except (ValueError, ClientError) as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def _read(self) -> None:
        try:
            for event in self._stream:
                if isinstance(event, StreamResult):
                    self._publish(event)
                elif isinstance(event, FramesDropped):
                    with self._lock:
                        self._pending.drop(event.ranges)
                elif isinstance(event, Resumed):
                    self.get_logger().info(f"stream resumed, {event.kind}")
        except ClientError as error:
            self.get_logger().error(f"the stream is over: {error}")

    def _publish(self, result: StreamResult) -> None:
        with self._lock:
            kept = self._pending.take(result.seq)
        if kept is None:
            return
        header, image = kept
        self._detections.publish(_detection_array(conversion.detections_of(result, header)))
        if self._labels.get_subscription_count():
            self._labels.publish(_filled(Image(), conversion.labels_of(result, header)))
        if self._overlay.get_subscription_count():
            pixels = conversion.pixels_of(image)
            if pixels is not None:
                drawn = conversion.overlay_of(pixels, result, header)
                self._overlay.publish(_filled(Image(), drawn))

    def close(self) -> None:
        """End the stream: its last results are awaited."""
        try:
            self._held.close()
        except ClientError as error:
            self.get_logger().warning(str(error))


def _detection_array(fields: dict[str, Any]) -> Detection2DArray:
    array = _filled(Detection2DArray(), {"header": fields["header"]})
    for each in fields["detections"]:
        detection = _filled(Detection2D(), {key: each[key] for key in ("header", "bbox", "id")})
        detection.results = [
            _filled(ObjectHypothesisWithPose(), result) for result in each["results"]
        ]
        array.detections.append(detection)
    return array


def _filled(message: Any, fields: dict[str, Any]) -> Any:
    """Return a message with its fields set, those of its own messages among them."""
    for name, value in fields.items():
        if isinstance(value, dict):
            _filled(getattr(message, name), value)
        else:
            setattr(message, name, value)
    return message


def main() -> None:
    """Run the node until it is interrupted."""
    rclpy.init()
    node = AmodalNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
