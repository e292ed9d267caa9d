"""The grid that remembered silhouettes are placed on: 48x48 pixels that span an object's window."""

from __future__ import annotations

TEMPLATE_SIDE = 48
"""Side of the remembered silhouette, pixels; it spans the window."""
SEARCH_SIDE = 72
"""Side of the searched crop, pixels of the same size; it spans 1.5 windows."""
SEARCH_RATIO = SEARCH_SIDE / TEMPLATE_SIDE
SEARCH_MARGIN = (SEARCH_SIDE - TEMPLATE_SIDE) // 2
"""Pixels of the searched crop around what a template sees of it before it is displaced."""
