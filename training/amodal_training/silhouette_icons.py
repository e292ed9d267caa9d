"""Icons as silhouettes: reading an Iconify set, drawing it, keeping what is one solid outline."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from amodal_model.errors import DatasetError, MissingExtraError

MARGIN = 0.05
"""Empty rim of a silhouette's square, as a fraction of its side."""

LINE_ART = frozenset({"game-icons"})
"""Sets drawn in lines: gaps are closed and inner holes filled to find the outline."""

UNWANTED = re.compile(
    r"flag|keycap|letter|button|numeral|number|arrow|-sign$|symbol|-square|circle|-tone|-oclock"
    r"|-thirty|moon-(?!view)|japanese|input|digit|text|logo|abstract|perspective-dice|^dice|card-"
    r"|^[0-9a-z]$|playing-cards|-mark|[a-z]-hexagon|family|couple-with|kiss-|minimize|maximize"
    r"|battery|signal|stairs-goal|divided|checkbox|-texture|splash|explosion|spiral|wave-"
    r"|face-with|-eyes$|cards?$|square|hexagon|confus|smil|grin"
)
"""Names of icons that are signs, letters or variants rather than outlines of things."""

HOLE_LIMIT = 0.012
"""Holes smaller than this fraction of the shape are filled; in line art sixteen times as much."""

MAX_GAPS = 14
"""Pieces into which a silhouette may cut its background: what is around it, and its holes."""


@dataclass(frozen=True, eq=False)
class IconSource:
    """One Iconify set: its icons, the default size of their view box and its licence."""

    name: str
    version: str
    licence: str
    icons: dict[str, Any]
    size: tuple[float, float]

    def licence_line(self) -> str:
        """Return name, version and licence in one line."""
        return f"{self.name} {self.version}: {self.licence}"


@dataclass(frozen=True, eq=False)
class Icon:
    """One drawn icon: ``source:icon``, its set's index and a bool (S, S) silhouette, centred."""

    name: str
    source_index: int
    pixels: Bool[np.ndarray, "S S"]

    def preview(self, side: int) -> Float32[np.ndarray, "P P"]:
        """Return the silhouette at ``side`` pixels, float32 0 or 1."""
        small = cv2.resize(
            self.pixels.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA
        )
        return (small >= 0.5).astype(np.float32)


def read_source(path: Path) -> IconSource:
    """Read an Iconify JSON file; version and licence come from ``package.json`` beside it.

    Raises:
        DatasetError: missing, not JSON, or without icons.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such icon set")
    try:
        content = json.loads(path.read_bytes())
        package_file = path.with_name("package.json")
        package = json.loads(package_file.read_bytes()) if package_file.is_file() else {}
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON: {error}") from None
    icons = content.get("icons") if isinstance(content, dict) else None
    if not isinstance(icons, dict):
        raise DatasetError(f"{path}: 'icons' must be an object, got {type(icons).__name__}")
    width = float(content.get("width", 16))
    return IconSource(
        name=str(package.get("name", content.get("prefix", path.parent.name))),
        version=str(package.get("version", "")),
        licence=str(package.get("license", "unknown")),
        icons=icons,
        size=(width, float(content.get("height", width))),
    )


def draw_icons(source: IconSource, side: int, source_index: int) -> Iterator[Icon]:
    """Yield the icons of a set that are outlines of things, drawn at ``side`` pixels.

    ``source_index`` is kept with each icon.

    Raises:
        MissingExtraError: resvg_py is not installed.
    """
    prefix = source.name.rpartition("/")[2]
    for name, entry in source.icons.items():
        if entry.get("hidden") or UNWANTED.search(name):
            continue
        alpha = _draw(_svg(entry, source.size), side)
        if alpha is None:
            continue
        pixels = solid_silhouette(alpha, side, line_art=prefix in LINE_ART)
        if pixels is not None:
            yield Icon(f"{prefix}:{name}", source_index, pixels)


def solid_silhouette(
    alpha: np.ndarray, side: int, *, line_art: bool
) -> Bool[np.ndarray, "S S"] | None:
    """Return the one filled, centred outline of a drawing, or ``None`` where there is none.

    Args:
        alpha: uint8 (h, w), opacity.
        side: of the square to return, pixels.
        line_art: close gaps and fill holes more boldly.
    """
    mask = np.pad((alpha > 100).astype(np.uint8), side // 8)
    if line_art:
        radius = max(side // 30, 1)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc), np.uint8)
    total = int(mask.sum())
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2 or total < 0.05 * alpha.size:
        return None
    main = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area = int(stats[main, cv2.CC_STAT_AREA])
    if area < 0.92 * total or _cut_by_border(mask, side):
        return None
    piece = _fill_holes(labels == main, area * HOLE_LIMIT * (16 if line_art else 1))
    silhouette = _centred(piece, side)
    return silhouette if _is_solid(silhouette) else None


def _is_solid(silhouette: Bool[np.ndarray, "S S"]) -> bool:
    """Say whether the outline bounds a body: not made of thin lines, nor full of holes."""
    mask = silhouette.astype(np.uint8)
    radius = max(silhouette.shape[0] // 64, 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    body = int(np.count_nonzero(cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc)))
    pieces, _ = cv2.connectedComponents(1 - mask, connectivity=4)
    return body > 0.85 * int(mask.sum()) and pieces <= MAX_GAPS


def _cut_by_border(mask: np.ndarray, side: int) -> bool:
    """Say whether the drawing runs off its canvas on two sides or more, as patterns do."""
    inner = mask[side // 8 : -(side // 8), side // 8 : -(side // 8)]
    edges = (inner[0], inner[-1], inner[:, 0], inner[:, -1])
    return sum(float(edge.mean()) > 0.2 for edge in edges) >= 2


def _fill_holes(mask: Bool[np.ndarray, "h w"], limit: float) -> Bool[np.ndarray, "h w"]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~mask).astype(np.uint8), connectivity=4
    )
    small = np.zeros(count, bool)
    small[1:] = stats[1:, cv2.CC_STAT_AREA] < limit
    return np.asarray(mask | small[labels])


def _centred(mask: Bool[np.ndarray, "h w"], side: int) -> Bool[np.ndarray, "S S"]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    height, width = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    scale = side * (1 - 2 * MARGIN) / max(height, width)
    target_from_source = np.array(
        [
            [scale, 0, side / 2 - scale * (left + width / 2 - 0.5) - 0.5],
            [0, scale, side / 2 - scale * (top + height / 2 - 0.5) - 0.5],
        ]
    )
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)
    drawn = cv2.warpAffine(soft, target_from_source, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(drawn >= 0.5)


def _svg(entry: dict[str, Any], size: tuple[float, float]) -> str:
    width, height = entry.get("width", size[0]), entry.get("height", size[1])
    box = f"{entry.get('left', 0)} {entry.get('top', 0)} {width} {height}"
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{width}" height="{height}">{entry.get("body", "")}</svg>'
    )


def _draw(svg: str, side: int) -> np.ndarray | None:
    """Return the opacity of a drawing, uint8 (h, side), or ``None`` where it cannot be drawn."""
    try:
        renderer = importlib.import_module("resvg_py")
    except ImportError:
        raise MissingExtraError("resvg_py is missing: pip install 'amodal[sim]'") from None
    try:
        png = renderer.svg_to_bytes(svg_string=svg, width=side, skip_system_fonts=True)
    except ValueError:
        return None
    image = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_UNCHANGED)
    return image[..., 3] if image is not None and image.ndim == 3 and image.shape[2] == 4 else None
