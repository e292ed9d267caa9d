"""A library of real outlines: icons of animals, people, vehicles and things as binary silhouettes.

Icon sets in Iconify JSON (``icons.json`` beside ``package.json``) are drawn with resvg, cleaned to
one filled piece, sorted out by name and by likeness, cut into limbs and stored in one npz file.
Reading the file needs numpy alone; building it needs the extra ``[sim]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from amodal_model.errors import DatasetError
from amodal_training.silhouette_icons import Icon, IconSource, draw_icons, read_source
from amodal_training.silhouette_limbs import Limb, find_limbs

SHAPE_SIDE = 160
"""Side of a stored silhouette, pixels."""

LIKENESS = 0.93
"""Two silhouettes whose IoU is above this, at 32 pixels, count as the same shape."""

_PREVIEW = 32


@dataclass(frozen=True, eq=False)
class Shape:
    """One silhouette.

    Attributes:
        name: ``source:icon``.
        pixels: bool (160, 160), one piece, its longer side about 144 pixels, centred.
        limbs: pieces that stick out and can turn about their joint; disjoint, maybe none.
    """

    name: str
    pixels: Bool[np.ndarray, "160 160"]
    limbs: tuple[Limb, ...]


@dataclass(frozen=True, eq=False)
class ShapeLibrary:
    """All silhouettes, packed: about 3 kB each in memory.

    Attributes:
        names: ``source:icon`` of each shape.
        licences: one line a source: name, version, licence.
        source_of: int32 (shapes,), the source each shape comes from, ascending.
        packed: uint8 (shapes, 160, 20), rows of bits.
        limb_shapes: int32 (limbs,), the shape each limb belongs to, ascending.
        limb_packed: uint8 (limbs, 160, 20), rows of bits.
        limb_joints: float32 (limbs, 3), the joint's x and y and the half width there, pixels.
    """

    names: tuple[str, ...]
    licences: tuple[str, ...]
    source_of: np.ndarray
    packed: np.ndarray
    limb_shapes: np.ndarray
    limb_packed: np.ndarray
    limb_joints: np.ndarray

    def __len__(self) -> int:
        """Return the number of shapes."""
        return len(self.names)

    def sample(self, rng: np.random.Generator) -> Shape:
        """Return a random shape; every source is as likely, however many shapes it has."""
        starts = np.append(np.unique(self.source_of, return_index=True)[1], len(self))
        source = int(rng.integers(starts.size - 1))
        return self.shape(int(rng.integers(starts[source], starts[source + 1])))

    def shape(self, index: int) -> Shape:
        """Return one shape, unpacked."""
        low, high = np.searchsorted(self.limb_shapes, [index, index + 1])
        limbs = tuple(
            Limb(_unpack(self.limb_packed[i]), *(float(v) for v in self.limb_joints[i]))
            for i in range(low, high)
        )
        return Shape(self.names[index], _unpack(self.packed[index]), limbs)


def build_library(json_files: Sequence[Path], output: Path) -> ShapeLibrary:
    """Draw every usable icon of the sets, write the library to ``output`` and return it.

    Args:
        json_files: Iconify ``icons.json`` files, or folders that hold them at any depth.
        output: the npz file to write.

    Raises:
        DatasetError: no icon set found, or one that cannot be read.
        MissingExtraError: resvg_py is not installed.
    """
    sources = [read_source(path) for path in _find_sets(json_files)]
    icons = [
        icon
        for index, source in enumerate(sources)
        for icon in draw_icons(source, SHAPE_SIDE, index)
    ]
    library = _pack(distinct_icons(icons), sources)
    _write(library, output)
    return library


def read_library(path: Path) -> ShapeLibrary:
    """Read a library that ``build_library`` wrote.

    Raises:
        DatasetError: no such file, or not a shape library.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such shape library")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return ShapeLibrary(
                names=tuple(stored["names"].tolist()),
                licences=tuple(stored["licences"].tolist()),
                source_of=stored["source_of"],
                packed=stored["packed"],
                limb_shapes=stored["limb_shapes"],
                limb_packed=stored["limb_packed"],
                limb_joints=stored["limb_joints"],
            )
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise DatasetError(f"{path}: not a shape library: {error}") from None


def distinct_icons(icons: Sequence[Icon]) -> list[Icon]:
    """Return the icons without near copies: skin tones, variants, plain discs and squares."""
    kept: list[Icon] = []
    previews = np.zeros((len(icons), _PREVIEW * _PREVIEW), np.float32)
    areas = np.zeros(len(icons), np.float32)
    for icon in icons:
        preview = icon.preview(_PREVIEW).ravel()
        area = preview.sum()
        count = len(kept)
        both = previews[:count] @ preview
        if count and np.max(both / (areas[:count] + area - both)) > LIKENESS:
            continue
        previews[count], areas[count] = preview, area
        kept.append(icon)
    return kept


def _find_sets(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(path.rglob("icons.json")) if path.is_dir() else [path]
    if not found:
        raise DatasetError(f"no icons.json in {', '.join(map(str, paths)) or 'no folder at all'}")
    return found


def _pack(icons: Sequence[Icon], sources: Sequence[IconSource]) -> ShapeLibrary:
    if not icons:
        raise DatasetError("no usable shape in the icon sets")
    owners: list[int] = []
    limbs: list[Limb] = []
    for index, icon in enumerate(icons):
        found = find_limbs(icon.pixels)
        owners += [index] * len(found)
        limbs += found
    width = SHAPE_SIDE // 8
    return ShapeLibrary(
        names=tuple(icon.name for icon in icons),
        licences=tuple(source.licence_line() for source in sources),
        source_of=np.array([icon.source_index for icon in icons], np.int32),
        packed=np.packbits(np.stack([icon.pixels for icon in icons]), axis=-1),
        limb_shapes=np.array(owners, np.int32),
        limb_packed=np.packbits(np.stack([limb.pixels for limb in limbs]), axis=-1)
        if limbs
        else np.zeros((0, SHAPE_SIDE, width), np.uint8),
        limb_joints=np.array([limb[1:] for limb in limbs], np.float32).reshape(-1, 3),
    )


def _unpack(rows: np.ndarray) -> Bool[np.ndarray, "160 160"]:
    return np.unpackbits(rows, axis=-1).astype(bool)


def _write(library: ShapeLibrary, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial.npz")
    np.savez_compressed(
        partial,
        names=np.array(library.names),
        licences=np.array(library.licences),
        source_of=library.source_of,
        packed=library.packed,
        limb_shapes=library.limb_shapes,
        limb_packed=library.limb_packed,
        limb_joints=library.limb_joints,
    )
    partial.replace(output)
