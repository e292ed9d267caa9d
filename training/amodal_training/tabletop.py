"""Rendered tabletop clips: a robot arm among objects, exact visible and whole silhouettes.

Needs the ``[sim]`` extra and an off-screen OpenGL (on Linux ``MUJOCO_GL=egl``, set before mujoco
is imported). One thread, software rendering: about a quarter of a second a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Bool, Int, UInt8

from amodal_model.errors import LimitError
from amodal_model.masks import BoxedMask, box_mask
from amodal_training.labeled_clip import LabeledClip
from amodal_training.tabletop_assets import TabletopAssets
from amodal_training.tabletop_plan import FPS, CameraPath, plan_tabletop
from amodal_training.tabletop_scene import SHOWN_GROUP, TabletopScene, advance, build_scene

MAX_SEED = 999
"""Seeds above are kept for others' held-out tests; clips of them must never be trained on."""

FRAME_SIZE = (240, 320)
MIN_PIXELS = 6
"""Masks below are left out: no segmenter delivers a speck, and its shape says nothing."""

_MAX_GEOMS = 400


def tabletop_name(seed: int) -> str:
    """Return the name of a clip.

    Raises:
        LimitError: a seed that is not ours to use.
    """
    if not 0 <= seed <= MAX_SEED:
        raise LimitError(f"tabletop seed {seed}, limit 0 to {MAX_SEED}")
    return f"tabletop-{seed:03d}"


def make_tabletop(
    seed: int,
    frames: int,
    assets: TabletopAssets,
    *,
    with_amodal: bool,
    frame_size: tuple[int, int] = FRAME_SIZE,
) -> LabeledClip:
    """Return one rendered clip.

    Args:
        seed: 0 to 999; decides everything in the scene.
        frames: length of the clip, at 12 frames a second.
        assets: meshes and textures.
        with_amodal: whether whole silhouettes are rendered too; training needs none.
        frame_size: ``(height, width)`` in pixels.

    Raises:
        LimitError: a seed that is not ours to use.
    """
    name = tabletop_name(seed)
    plan = plan_tabletop(seed, frames)
    scene = build_scene(plan, assets)
    painter = _painter(scene, frame_size)
    images, shown, whole = [], [], []
    try:
        for index in range(frames):
            advance(scene, plan, index)
            _look(painter, plan.camera, index)
            images.append(_render(painter, scene, as_ids=False).copy())
            shown.append(_visible_masks(painter, scene))
            if with_amodal:
                whole.append(_amodal_masks(painter, scene, shown[-1]))
    finally:
        painter.context.free()
        painter.gl.free()
    return LabeledClip(name, name, np.stack(images), FPS, _by_track(shown), _by_track(whole))


def _by_track(frames: list[list[BoxedMask]]) -> dict[int, tuple[BoxedMask, ...]]:
    """Return masks by track id, from masks by frame and track."""
    return dict(enumerate(zip(*frames, strict=True), start=1))


def _boxed(mask: Bool[np.ndarray, "H W"]) -> BoxedMask:
    """Return a mask without the specks that are smaller than any segmenter's."""
    return box_mask(mask if np.count_nonzero(mask) >= MIN_PIXELS else np.zeros_like(mask))


@dataclass(frozen=True, eq=False)
class _Painter:
    """What MuJoCo renders with: contexts, the abstract scene, camera, and a pixel buffer."""

    gl: Any
    context: Any
    scene: Any
    camera: Any
    options: Any
    perturb: Any
    rect: Any
    pixels: UInt8[np.ndarray, "H W 3"]


def _painter(scene: TabletopScene, frame_size: tuple[int, int]) -> _Painter:
    height, width = frame_size
    scene.model.vis.global_.offwidth, scene.model.vis.global_.offheight = width, height
    gl = mujoco.GLContext(width, height)
    gl.make_current()
    context = mujoco.MjrContext(scene.model, mujoco.mjtFontScale.mjFONTSCALE_100)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
    options = mujoco.MjvOption()
    options.geomgroup[:] = [group == SHOWN_GROUP for group in range(6)]
    options.sitegroup[:] = 0
    return _Painter(
        gl=gl,
        context=context,
        scene=mujoco.MjvScene(scene.model, _MAX_GEOMS),
        camera=mujoco.MjvCamera(),
        options=options,
        perturb=mujoco.MjvPerturb(),
        rect=mujoco.MjrRect(0, 0, width, height),
        pixels=np.zeros((height, width, 3), np.uint8),
    )


def _look(painter: _Painter, path: CameraPath, frame_index: int) -> None:
    painter.camera.azimuth = path.azimuth_deg[frame_index]
    painter.camera.elevation = path.elevation_deg[frame_index]
    painter.camera.distance = path.distance_m[frame_index]
    painter.camera.lookat[:] = path.lookat_m[frame_index]


def _render(painter: _Painter, scene: TabletopScene, *, as_ids: bool) -> UInt8[np.ndarray, "H W 3"]:
    """Render into the pixel buffer and return it, the top row first."""
    mujoco.mjv_updateScene(
        scene.model,
        scene.data,
        painter.options,
        painter.perturb,
        painter.camera,
        mujoco.mjtCatBit.mjCAT_ALL,
        painter.scene,
    )
    painter.scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = as_ids
    painter.scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = as_ids
    mujoco.mjr_render(painter.rect, painter.scene, painter.context)
    mujoco.mjr_readPixels(painter.pixels, None, painter.rect, painter.context)
    return painter.pixels[::-1]


def _paint_labels(painter: _Painter, scene: TabletopScene) -> Int[np.ndarray, "H W"]:
    """Return the track id at every pixel, 0 where there is none."""
    colors = _render(painter, scene, as_ids=True).astype(np.int64)
    ids = colors @ np.array([1, 1 << 8, 1 << 16])
    tracks = np.zeros(painter.scene.ngeom + 1, int)
    for geom in painter.scene.geoms[: painter.scene.ngeom]:
        if geom.segid >= 0 and geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
            tracks[geom.segid + 1] = scene.geom_tracks[geom.objid]
    return np.asarray(tracks[np.minimum(ids, len(tracks) - 1)])


def _visible_masks(painter: _Painter, scene: TabletopScene) -> list[BoxedMask]:
    """Return what each track shows."""
    labels = _paint_labels(painter, scene)
    return [_boxed(labels == track) for track in range(1, len(scene.track_names) + 1)]


def _amodal_masks(
    painter: _Painter, scene: TabletopScene, shown: list[BoxedMask]
) -> list[BoxedMask]:
    """Return the silhouette of each track, rendered alone; it holds what the track shows."""
    groups = scene.model.geom_group.copy()
    masks = []
    for track, visible in enumerate(shown, start=1):
        scene.model.geom_group[:] = np.where(scene.geom_tracks == track, groups, 5)
        alone = np.asarray(_render(painter, scene, as_ids=True).any(axis=-1))
        masks.append(_boxed(alone | visible.full()))
    scene.model.geom_group[:] = groups
    return masks
