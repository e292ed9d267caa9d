"""The settings of a user's own segmenter: one TOML file, checked strictly.

    kind = "yolo"
    model = "yolo11n-seg.onnx"          # relative to this file
    provider = "auto"

Every key is known, has one type and stated limits; a typo is an error, not a default.
docs/segmenters.md describes the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from amodal_model.onnx_session import PROVIDER_NAMES
from amodal_model.toml_table import Table, read_table

KINDS = ("sam2", "yolo", "generic")
FITS = ("stretch", "letterbox", "native")
MAX_INPUT_SIDE = 4096
MAX_OBJECTS = 256

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

TENSOR_NAMES: dict[str, dict[str, str]] = {
    "generic": {
        "image": "image",
        "masks": "masks",
        "scores": "scores",
        "track_ids": "track_ids",
    },
    "yolo": {"image": "images", "detections": "output0", "prototypes": "output1"},
    "samexporter": {
        "image": "image",
        "embedding": "image_embed",
        "features_0": "high_res_feats_0",
        "features_1": "high_res_feats_1",
        "point_coords": "point_coords",
        "point_labels": "point_labels",
        "mask_input": "mask_input",
        "has_mask": "has_mask_input",
        "boxes": "",
        "frame_size": "orig_im_size",
        "masks": "masks",
        "scores": "iou_predictions",
        "low_res_masks": "low_res_masks",
    },
    "onnxruntime": {
        "image": "image",
        "embedding": "image_embeddings",
        "features_0": "image_features_0",
        "features_1": "image_features_1",
        "point_coords": "point_coords",
        "point_labels": "point_labels",
        "mask_input": "input_masks",
        "has_mask": "has_input_masks",
        "boxes": "",
        "frame_size": "original_image_size",
        "masks": "masks",
        "scores": "iou_predictions",
        "low_res_masks": "low_res_masks",
    },
    "transformers": {
        "image": "pixel_values",
        "embedding": "image_embeddings.2",
        "features_0": "image_embeddings.0",
        "features_1": "image_embeddings.1",
        "point_coords": "input_points",
        "point_labels": "input_labels",
        "mask_input": "",
        "has_mask": "",
        "boxes": "input_boxes",
        "frame_size": "",
        "masks": "pred_masks",
        "scores": "iou_scores",
        "low_res_masks": "",
    },
}
"""Documented names of the tensors of each kind, and for ``sam2`` of each exporter."""
EXPORTERS = ("samexporter", "onnxruntime", "transformers")


@dataclass(frozen=True)
class Normalisation:
    """``(pixel / scale - mean) / std``, a channel at a time; uint8 inputs get the pixels.

    Attributes:
        scale: what pixels are divided by first.
        mean: of each channel, after the division.
        std: of each channel, after the division.
        channels: ``rgb`` or ``bgr``.
    """

    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: str = "rgb"


@dataclass(frozen=True)
class Thresholds:
    """From where on something counts.

    Attributes:
        score: least score of an instance, or predicted IoU of a prompted mask, [0, 1].
        mask: least value of a mask's pixel: a probability for ``yolo`` and ``generic``; for
            ``sam2`` a logit.
        nms_iou: boxes that overlap more are one instance (``yolo``).
        duplicate_iou: masks that overlap more are one instance.
    """

    score: float = 0.25
    mask: float = 0.5
    nms_iou: float = 0.7
    duplicate_iou: float = 0.8


@dataclass(frozen=True)
class SegmenterSettings:
    """All that a TOML file says.

    Attributes:
        kind: ``sam2``, ``yolo`` or ``generic``.
        path: the TOML file.
        models: ONNX file of each role: ``model``, or ``encoder`` and ``decoder``.
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        require_gpu: fail where the CPU runs.
        threads: CPU threads of one run.
        max_objects: most objects of a frame.
        input_size: ``(height, width)``; needed where the model leaves its axes open.
        fit: how a frame becomes the input: ``stretch``, ``letterbox`` or ``native``.
        classes: classes that are wanted (``yolo``); empty for all.
        normalisation: of the pixels.
        thresholds: from where on something counts.
        tensors: name of each tensor, by role; empty where the model has none.
    """

    kind: str
    path: Path
    models: Mapping[str, Path]
    provider: str = "auto"
    require_gpu: bool = False
    threads: int = 1
    max_objects: int = 32
    input_size: tuple[int, int] | None = None
    fit: str = "stretch"
    classes: tuple[int, ...] = ()
    normalisation: Normalisation = field(default_factory=Normalisation)
    thresholds: Thresholds = field(default_factory=Thresholds)
    tensors: Mapping[str, str] = field(default_factory=dict)


def read_settings(path: Path) -> SegmenterSettings:
    """Return the settings of a TOML file.

    Raises:
        InputError: it is missing, too large or not TOML; a key is unknown, or a value of another
            type or outside its limits; a model file is missing.
    """
    table = read_table(path)
    kind = table.choice("kind", None, KINDS)
    roles = ("encoder", "decoder") if kind == "sam2" else ("model",)
    exporter = table.choice("exporter", EXPORTERS[0], EXPORTERS) if kind == "sam2" else kind
    settings = SegmenterSettings(
        kind=kind,
        path=path,
        models={role: table.file(role) for role in roles},
        provider=table.choice("provider", "auto", PROVIDER_NAMES),
        require_gpu=table.flag("require_gpu", default=False),
        threads=table.whole("threads", 1, 1, 256),
        max_objects=table.whole("max_objects", 32, 1, MAX_OBJECTS),
        input_size=table.size("input_size", MAX_INPUT_SIDE),
        fit=table.choice("fit", "letterbox" if kind == "yolo" else "stretch", FITS),
        classes=table.wholes("classes", 65535) if kind == "yolo" else (),
        normalisation=_normalisation(table.below("normalisation"), kind),
        thresholds=_thresholds(table.below("thresholds"), kind),
        tensors=_tensors(table.below("tensors"), TENSOR_NAMES[exporter]),
    )
    table.finish()
    return settings


def _normalisation(table: Table, kind: str) -> Normalisation:
    is_sam = kind == "sam2"
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if is_sam else ((0.0,) * 3, (1.0,) * 3)
    values = Normalisation(
        scale=table.number("scale", 255.0, 1e-3, 1e6),
        mean=table.triple("mean", mean, -1e6),
        std=table.triple("std", std, 1e-6),
        channels=table.choice("channels", "rgb", ("rgb", "bgr")),
    )
    table.finish()
    return values


def _thresholds(table: Table, kind: str) -> Thresholds:
    is_sam = kind == "sam2"
    default = Thresholds(score=0.5, mask=0.0) if is_sam else Thresholds()
    reach = (-32.0, 32.0) if is_sam else (0.0, 1.0)
    limits = {entry.name: (0.0, 1.0) for entry in fields(Thresholds)} | {"mask": reach}
    values = {
        name: table.number(name, getattr(default, name), *limit) for name, limit in limits.items()
    }
    table.finish()
    return Thresholds(**values)


def _tensors(table: Table, names: Mapping[str, str]) -> dict[str, str]:
    chosen = {role: table.text(role, name) for role, name in names.items()}
    table.finish()
    return chosen
