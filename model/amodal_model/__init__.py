"""Amodal video segmentation: masks, geometry, the network and its engines, the stream step."""
