"""Installs the node as ROS 2 expects it (ament_python)."""

from setuptools import setup

setup(
    name="amodal_ros",
    version="0.1.0",
    packages=["amodal_ros"],
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/amodal_ros"]),
        ("share/amodal_ros", ["package.xml"]),
        ("share/amodal_ros/launch", ["launch/amodal.launch.py"]),
    ],
    install_requires=["setuptools", "amodal"],
    entry_points={"console_scripts": ["amodal_node = amodal_ros.node:main"]},
)
