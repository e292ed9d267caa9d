"""A ROS 2 node for live streams of amodal: thin over the client."""
