"""``amodal doctor``: what is installed and what really runs."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any, Literal

import av
import numpy as np

import amodal_model
from amodal_model.errors import AmodalError
from amodal_model.follower_learned import LearnedFollower
from amodal_model.masks import box_mask
from amodal_model.model_files import find_helper
from amodal_service.version import amodal_version, distribution_version

PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "av",
    "pycocotools",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "lightning-fabric",
    "onnx",
    "mujoco",
)
DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "ffv1")
ENCODERS = ("libx264",)
PARTS = {
    "serving (annotate)": ("onnxruntime",),
    "training (train, evaluate, export)": ("torch", "lightning_fabric", "onnx"),
    "simulation (tabletop)": ("mujoco", "resvg_py"),
}
"""What each part of the project needs, as import names; found without importing them."""


@dataclass(frozen=True)
class Examination:
    """What `examine` found.

    Attributes:
        versions: of the distributions this project uses, ``None`` where not installed.
        codecs: whether each video codec can be read, and those for writing be written.
        cpu_threads: threads this process may use.
        model: name, version, precision, providers asked for and running, milliseconds of a step;
            empty where it does not run.
        follower: name with version and provider running, of the network that follows
            prompted objects; empty where it does not run.
        parts: what each part of the project still misses.
        problems: what has to be put right, one line each.
    """

    versions: dict[str, str | None]
    codecs: dict[str, bool]
    cpu_threads: int
    model: dict[str, Any]
    follower: dict[str, str]
    parts: dict[str, list[str]]
    problems: list[str]


def examine() -> Examination:
    """Look at the installation, run the shipped model once and open the shipped follower."""
    model: dict[str, Any] = {}
    follower: dict[str, str] = {}
    problems: list[str] = []
    try:
        model = run_model("shipped")
        follower = open_follower("shipped")
    except AmodalError as error:
        problems.append(str(error))
    codecs = _codecs()
    problems += [f"PyAV here has no {name}" for name in ("h264", "libx264") if not codecs[name]]
    names = {name: distribution_version(name) for name in PACKAGES}
    versions = {"amodal": amodal_version(), "python": platform.python_version(), **names}
    missing = {part: [m for m in needs if not find_spec(m)] for part, needs in PARTS.items()}
    return Examination(versions, codecs, _cpu_threads(), model, follower, missing, problems)


def run_model(name: str) -> dict[str, Any]:
    """Run a model on one small object and return what ran and how long a step took.

    Raises:
        AmodalError: it is not there, or cannot run here.
    """
    segmenter = amodal_model.load(name)
    mask = np.zeros((240, 320), bool)
    mask[80:160, 100:200] = True
    visible = {1: box_mask(mask)}
    frame = np.zeros((240, 320, 3), np.uint8)
    _, state = segmenter.step(frame, visible, segmenter.start((240, 320)))
    start_s = time.perf_counter()
    segmenter.step(frame, visible, state)
    step_ms = round(1000 * (time.perf_counter() - start_s), 2)
    return {**segmenter.engine.info._asdict(), "step_ms": step_ms}


def open_follower(name: str) -> dict[str, str]:
    """Open the network that follows prompted objects, its file checked, and return what runs.

    Raises:
        AmodalError: it is not there, is not the file that its description says, or cannot run.
    """
    follower = LearnedFollower(find_helper("follower", name))
    return {"name": follower.name, "actual": follower.provider}


def _codecs() -> dict[str, bool]:
    return {name: _has_codec(name, "r") for name in DECODERS} | {
        name: _has_codec(name, "w") for name in ENCODERS
    }


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _cpu_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def report_lines(found: Examination, *, as_json: bool = False) -> list[str]:
    """Return the examination as lines to print."""
    if as_json:
        return [json.dumps(asdict(found), indent=2)]
    lines = [f"{name:24}{version or '-'}" for name, version in found.versions.items()]
    codecs = [name if there else f"no {name}" for name, there in found.codecs.items()]
    lines += ["", f"{'codecs':24}{', '.join(codecs)}", f"{'cpu threads':24}{found.cpu_threads}"]
    if found.model:
        model = found.model
        lines += [
            f"{'model':24}{model['model_name']} {model['model_version']}, {model['precision']}",
            f"{'provider asked for':24}{', '.join(model['requested'])}",
            f"{'provider running':24}{model['actual']}, {model['step_ms']} ms a step of one object",
        ]
    if found.follower:
        follower = found.follower
        lines.append(f"{'follower':24}{follower['name']}, {follower['actual']}")
    lines.append("")
    for part, missing in found.parts.items():
        lines.append(f"{part:40}{'missing: ' + ', '.join(missing) if missing else 'ready'}")
    lines += ["", *(f"problem: {line}" for line in found.problems)]
    return lines if found.problems else [*lines, "no problems found"]
