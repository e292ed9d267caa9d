"""Amodal video segmentation: whole silhouettes of occluded objects, from visible masks.

import amodal_model

segmenter = amodal_model.load("shipped")
state = segmenter.start(frame_size=(height, width))
for visible in visible_masks:  # {track_id: amodal_model.box_mask(bool array)}
    result, state = segmenter.step(None, visible, state)
"""

from pathlib import Path

from amodal_model.clip import segment_clip
from amodal_model.engine_onnx import OnnxEngine
from amodal_model.errors import AmodalError
from amodal_model.given_prompts import mask_from_box, mask_from_polygons
from amodal_model.masks import BoxedMask, box_mask
from amodal_model.model_files import find_model
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.source_given import GivenSource
from amodal_model.stream import AmodalSegmenter, StreamConfig
from amodal_model.stream_state import StreamState
from amodal_model.veil_judge import open_judge
from amodal_model.visible_source import Expectation, Prompt, VisibleMaskSource

__all__ = [
    "AmodalError",
    "AmodalSegmenter",
    "BoxedMask",
    "Expectation",
    "FrameResult",
    "GivenSource",
    "ObjectResult",
    "Prompt",
    "StreamConfig",
    "StreamState",
    "VisibleMaskSource",
    "box_mask",
    "load",
    "mask_from_box",
    "mask_from_polygons",
    "segment_clip",
]


def load(  # noqa: PLR0913  (every option is an argument)
    model: str | Path = "shipped",
    *,
    provider: str = "auto",
    require_gpu: bool = False,
    threads: int = 1,
    precision: str | None = None,
    config: StreamConfig | None = None,
    judge: str | Path | None = "shipped",
) -> AmodalSegmenter:
    """Return a segmenter that runs a model with ONNX Runtime.

    Args:
        model: ``shipped``, ``small``, or a folder that training or export wrote.
        provider: ``auto``, ``cpu``, ``cuda`` or ``tensorrt``.
        require_gpu: fail where the GPU does not really run.
        threads: CPU threads of one step.
        precision: ``fp32``, ``fp16`` or ``int8``; by default what suits the provider best.
        config: how objects are kept and reported.
        judge: of what hides objects without having a mask: ``shipped``, a folder that
            ``amodal veil-train`` wrote, or ``None`` where everything that hides has a mask.

    Raises:
        ModelError: no such model, or a provider that is not available.
        MissingExtraError: onnxruntime is not installed.
    """
    engine = OnnxEngine(
        find_model(model), provider, require_gpu=require_gpu, threads=threads, precision=precision
    )
    if judge is None:
        return AmodalSegmenter(engine, config)
    served = open_judge(judge)
    return AmodalSegmenter(engine, config, served, sees_pictures=served.sees_pictures)
