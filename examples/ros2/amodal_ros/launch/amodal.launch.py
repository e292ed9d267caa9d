"""Starts the node: ``ros2 launch amodal_ros amodal.launch.py image:=/camera/image_raw``."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

PARAMETERS = {
    "server": "http://127.0.0.1:8420",
    "mode": "realtime",
    "masks": "given",
    "transport": "raw",
    "max_objects": "16",
    "pictures": "false",
}
TYPES = {"max_objects": int, "pictures": bool}
TOPICS = {"image": "/camera/image_raw", "detections": "/detections", "labels": ""}


def generate_launch_description():
    """Return the node with its arguments."""
    defaults = PARAMETERS | TOPICS
    arguments = [DeclareLaunchArgument(name, default_value=each) for name, each in defaults.items()]
    parameters = {
        f"{name}_topic" if name in TOPICS else name: ParameterValue(
            LaunchConfiguration(name), value_type=TYPES.get(name, str)
        )
        for name in defaults
    }
    node = Node(package="amodal_ros", executable="amodal_node", parameters=[parameters])
    return LaunchDescription([*arguments, node])
