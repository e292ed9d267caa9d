"""The tabletop world in MuJoCo: built from a plan, stepped frame by frame.

Needs the ``[sim]`` extra; nothing imports this module before it is known to be there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int

from amodal_training.tabletop_assets import TabletopAssets
from amodal_training.tabletop_plan import ARM_HOME, FPS, Placement, Screen, TabletopPlan

TIMESTEP_S = 0.002
SHOWN_GROUP = 1
_SETTLING_STEPS = 400
_STIFFNESS = np.array([400.0] * 4 + [120.0] * 3)
_DAMPING = np.array([40.0] * 4 + [12.0] * 3)
_WALLS = (
    ((-1.6, 0, 1), (0.02, 2.5, 2)),
    ((0, 1.8, 1), (2.5, 0.02, 2)),
    ((0, -1.8, 1), (2.5, 0.02, 2)),
    ((1.8, 0, 1), (0.02, 2.5, 2)),
)


@dataclass(frozen=True, eq=False)
class TabletopScene:
    """A compiled scene. MuJoCo's data is the one thing in it that changes.

    Attributes:
        model: mujoco.MjModel.
        data: mujoco.MjData.
        track_names: names of objects, screens and arm; track ids count from 1 in this order.
        geom_tracks: track id of every geom, 0 for the room.
        object_qpos: where in ``qpos`` each object's free joint starts.
        object_dofs: where in ``qvel`` each object's free joint starts.
        arm_qpos: where the seven arm joints are in ``qpos``.
        arm_dofs: where they are in ``qvel``.
    """

    model: Any
    data: Any
    track_names: tuple[str, ...]
    geom_tracks: Int[np.ndarray, " G"]
    object_qpos: tuple[int, ...]
    object_dofs: tuple[int, ...]
    arm_qpos: Int[np.ndarray, " 7"]
    arm_dofs: Int[np.ndarray, " 7"]


def build_scene(plan: TabletopPlan, assets: TabletopAssets) -> TabletopScene:
    """Return the scene of a plan, settled: objects lie, the arm is at home."""
    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP_S
    spec.visual.quality.shadowsize = 1024
    spec.visual.quality.offsamples = 4
    _add_room(spec, plan, assets)
    arm = _add_arm(spec, assets)
    models = [_drawn(assets.object_models, p.model_draw) for p in plan.placements]
    objects = [
        _add_object(spec, path, placement, index)
        for index, (path, placement) in enumerate(zip(models, plan.placements, strict=True))
    ]
    screens = [_add_screen(spec, s, assets, index) for index, s in enumerate(plan.screens)]
    model = spec.compile()
    names = [path.parent.name for path in models] + [s.shape for s in plan.screens] + ["arm"]
    roots = [body.id for body in (*objects, *screens, arm)]
    scene = _scene(model, tuple(names), roots, len(objects))
    scene.data.qpos[scene.arm_qpos] = ARM_HOME
    _place_screens(scene, plan, 0.0)
    _step(scene, _SETTLING_STEPS, ARM_HOME, {})
    return scene


def advance(scene: TabletopScene, plan: TabletopPlan, frame_index: int) -> None:
    """Move the scene to a frame, from the one before it."""
    data = scene.data
    for shove in plan.shoves:
        if shove.frame_index == frame_index:
            dof = scene.object_dofs[shove.object_index]
            data.qvel[dof : dof + 2] += shove.velocity_m_s
    slides = {slide.object_index: slide.path_m[frame_index] for slide in plan.slides}
    parts = 4  # screens jump between steps: small jumps push what they touch, large ones eject it
    for part in range(1, parts + 1):
        _place_screens(scene, plan, max(frame_index - 1 + part / parts, 0.0))
        steps = round(1 / FPS / TIMESTEP_S / parts)
        _step(scene, steps, plan.arm_path_rad[frame_index], slides)


def _scene(model: Any, names: tuple[str, ...], roots: list[int], objects: int) -> TabletopScene:
    track_of_root = {root: track for track, root in enumerate(roots, start=1)}
    tracks = [track_of_root.get(int(model.body_rootid[body]), 0) for body in model.geom_bodyid]
    joints = [model.joint(f"arm_joint{index}") for index in range(1, 8)]
    free = [model.body(root).jntadr[0] for root in roots[:objects]]
    return TabletopScene(
        model=model,
        data=mujoco.MjData(model),
        track_names=names,
        geom_tracks=np.array(tracks),
        object_qpos=tuple(int(model.jnt_qposadr[joint]) for joint in free),
        object_dofs=tuple(int(model.jnt_dofadr[joint]) for joint in free),
        arm_qpos=np.array([int(joint.qposadr[0]) for joint in joints]),
        arm_dofs=np.array([int(joint.dofadr[0]) for joint in joints]),
    )


def _step(
    scene: TabletopScene,
    steps: int,
    arm_rad: Float[np.ndarray, " 7"],
    slides: dict[int, Float[np.ndarray, " 2"]],
) -> None:
    """Step with the arm held by springs and the sliding objects drawn to where they should be."""
    model, data = scene.model, scene.data
    for _ in range(steps):
        for index, wanted in slides.items():
            place, dof = scene.object_qpos[index], scene.object_dofs[index]
            data.qvel[dof : dof + 2] = np.clip((wanted - data.qpos[place : place + 2]) / 0.1, -1, 1)
            data.qvel[dof + 3 : dof + 6] *= 0.9
        force = _STIFFNESS * (arm_rad - data.qpos[scene.arm_qpos])
        force -= _DAMPING * data.qvel[scene.arm_dofs]
        data.qfrc_applied[scene.arm_dofs] = force + data.qfrc_bias[scene.arm_dofs]
        mujoco.mj_step(model, data)


def _place_screens(scene: TabletopScene, plan: TabletopPlan, frame: float) -> None:
    for index, screen in enumerate(plan.screens):
        low = min(int(frame), len(screen.path_m) - 1)
        high = min(low + 1, len(screen.path_m) - 1)
        spot = screen.path_m[low] + (frame - low) * (screen.path_m[high] - screen.path_m[low])
        scene.data.mocap_pos[index, :2] = spot


def _drawn(paths: tuple[Path, ...], draw: float) -> Path:
    return paths[int(draw * len(paths))]


def _add_material(spec: Any, name: str, texture: Path, repeat: float) -> None:
    spec.add_texture(name=name, file=str(texture), type=mujoco.mjtTexture.mjTEXTURE_2D)
    material = spec.add_material(name=name, texrepeat=[repeat, repeat], texuniform=True)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name


def _add_box(spec: Any, center: Any, half_size: Any, material: str) -> None:
    spec.worldbody.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=half_size,
        pos=center,
        material=material,
        group=SHOWN_GROUP,
        friction=[0.6, 0.01, 0.001],
    )


def _add_room(spec: Any, plan: TabletopPlan, assets: TabletopAssets) -> None:
    surfaces = zip(("table", "wall", "floor"), plan.texture_draws, (2.0, 1.0, 1.0), strict=True)
    for name, draw, repeat in surfaces:
        _add_material(spec, name, _drawn(assets.textures, draw), repeat)
    world = spec.worldbody
    world.add_light(pos=[*plan.light_xy_m, 2.2], dir=[0, 0, -1], diffuse=[0.7] * 3, castshadow=True)
    world.add_light(pos=[1, 1, 2], dir=[-0.5, -0.5, -1], diffuse=[0.4] * 3, castshadow=False)
    _add_box(spec, [0, 0, -0.02], [0.8, 0.8, 0.02], "table")
    _add_box(spec, [0, 0, -0.8], [3, 3, 0.02], "floor")
    for center, half_size in _WALLS:
        _add_box(spec, center, half_size, "wall")


def _add_arm(spec: Any, assets: TabletopAssets) -> Any:
    arm = mujoco.MjSpec.from_file(str(assets.arm_model))
    gripper = mujoco.MjSpec.from_file(str(assets.gripper_model))
    hand = arm.body("right_hand").add_frame()
    hand.attach_body(gripper.body("right_gripper"), "gripper_", "")
    frame = spec.worldbody.add_frame(pos=[-0.62, 0, 0])
    return frame.attach_body(arm.worldbody.bodies[0], "arm_", "")


def _add_object(spec: Any, path: Path, placement: Placement, index: int) -> Any:
    lying = "scanned" in path.parent.parent.name  # groceries are modelled with y up
    frame = spec.worldbody.add_frame(
        pos=[placement.x_m, placement.y_m, 0.11],
        euler=[0 if lying else np.pi / 2, 0, placement.yaw_rad],
    )
    source = mujoco.MjSpec.from_file(str(path))
    body = frame.attach_body(source.worldbody.bodies[0], f"object{index}_", "")
    body.add_freejoint()
    return body


def _add_screen(spec: Any, screen: Screen, assets: TabletopAssets, index: int) -> Any:
    name = f"screen{index}"
    _add_material(spec, name, _drawn(assets.textures, screen.texture_draw), 4.0)
    across, along, up = screen.half_size_m
    body = spec.worldbody.add_body(
        name=name,
        mocap=True,
        pos=[*screen.path_m[0], up],
        quat=[np.cos(screen.yaw_rad / 2), 0, 0, np.sin(screen.yaw_rad / 2)],
    )
    box = screen.shape == "box"
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX if box else mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[across, along, up] if box else [(across + along) / 2, up, 0],
        material=name,
        group=SHOWN_GROUP,
    )
    return body
