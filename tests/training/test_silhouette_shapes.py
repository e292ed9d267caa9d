"""The shape library: what is kept of an icon set, and what comes back from the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amodal_model.errors import DatasetError
from amodal_training.silhouette_icons import Icon, solid_silhouette
from amodal_training.silhouette_limbs import find_limbs
from amodal_training.silhouette_shapes import (
    SHAPE_SIDE,
    build_library,
    distinct_icons,
    read_library,
)

ICONS = {
    "hammer": {"body": '<path d="M2 2h12v4h-4v9h-4v-9h-4z"/>'},
    "hammer-copy": {"body": '<path d="M2 2h12v4h-4v9h-4v-9h-4z" fill="red"/>'},
    "pot": {"body": '<circle cx="8" cy="8" r="6"/><path d="M7 1h2v3h-2z"/>'},
    "flag-of-nowhere": {"body": '<path d="M1 4h14v6h-14z"/>'},
    "two-far-pieces": {"body": '<path d="M1 1h4v4h-4zM10 10h4v4h-4z"/>'},
    "broken": {"body": "<path"},
}


@pytest.fixture
def icon_set(tmp_path: Path) -> Path:
    pytest.importorskip("resvg_py", reason="drawing icons needs the extra [sim]")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "icons.json").write_text(
        json.dumps({"prefix": "toys", "width": 16, "height": 16, "icons": ICONS})
    )
    (folder / "package.json").write_text(
        json.dumps({"name": "@sets/toys", "version": "1.0.0", "license": "MIT"})
    )
    return folder


def test_a_library_keeps_whole_distinct_things_and_their_licence(
    icon_set: Path, tmp_path: Path
) -> None:
    build_library([icon_set], tmp_path / "library.npz")
    library = read_library(tmp_path / "library.npz")
    assert library.names == ("toys:hammer", "toys:pot")
    assert library.licences == ("@sets/toys 1.0.0: MIT",)


def test_a_stored_shape_is_centred_and_has_its_limbs(icon_set: Path, tmp_path: Path) -> None:
    library = build_library([icon_set / "icons.json"], tmp_path / "library.npz")
    hammer = library.shape(0)
    rows, columns = np.nonzero(hammer.pixels)
    assert hammer.pixels.shape == (SHAPE_SIDE, SHAPE_SIDE)
    assert abs(rows.min() + rows.max() - SHAPE_SIDE + 1) <= 2
    assert abs(columns.min() + columns.max() - SHAPE_SIDE + 1) <= 2
    assert rows.max() - rows.min() + 1 == pytest.approx(0.9 * SHAPE_SIDE, abs=2)
    assert any(limb.pixels[SHAPE_SIDE - 12, SHAPE_SIDE // 2] for limb in hammer.limbs)


def test_a_folder_without_icon_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no icons"):
        build_library([tmp_path], tmp_path / "library.npz")


@pytest.mark.parametrize("content", [b"", b"not an npz"])
def test_another_file_is_refused_as_a_library(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "library.npz"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="not a shape library"):
        read_library(path)


def test_pinholes_are_filled_and_handles_stay_open() -> None:
    alpha = np.zeros((160, 160), np.uint8)
    alpha[20:140, 20:140] = 255
    alpha[40:42, 40:42] = 0
    alpha[60:100, 60:100] = 0
    silhouette = solid_silhouette(alpha, 160, line_art=False)
    assert silhouette is not None
    assert not silhouette[80, 80]
    scale = 144 / 120
    assert silhouette.sum() == pytest.approx((120**2 - 40**2) * scale**2, rel=0.02)


def test_thin_lines_are_no_silhouette() -> None:
    alpha = np.zeros((160, 160), np.uint8)
    alpha[10:150:14] = alpha[:, 10:12] = 255
    assert solid_silhouette(alpha, 160, line_art=False) is None


def test_near_copies_are_dropped() -> None:
    square = np.zeros((160, 160), bool)
    square[20:140, 20:140] = True
    nearly, half = square.copy(), square.copy()
    nearly[20:23] = False
    half[80:] = False
    icons = [Icon(name, 0, mask) for name, mask in zip("abc", (square, nearly, half), strict=True)]
    assert [icon.name for icon in distinct_icons(icons)] == ["a", "c"]


def test_a_disc_with_two_arms_has_two_limbs_rooted_at_the_disc() -> None:
    y, x = np.mgrid[:160, :160]
    disc = (x - 80) ** 2 + (y - 80) ** 2 < 30**2
    arms = (abs(y - 80) < 6) & (x > 10) & (x < 150)
    limbs = sorted(find_limbs(disc | arms), key=lambda limb: limb.joint_x)
    assert len(limbs) == 2
    assert [limb.joint_x for limb in limbs] == pytest.approx([48, 112], abs=12)
    assert all(abs(limb.joint_y - 80) < 4 for limb in limbs)
    assert not (limbs[0].pixels & limbs[1].pixels).any()


def test_a_disc_has_no_limbs() -> None:
    y, x = np.mgrid[:160, :160]
    assert find_limbs((x - 80) ** 2 + (y - 80) ** 2 < 60**2) == []
