"""Which model is served, on what, and whether it runs."""

from __future__ import annotations

import time
from typing import Literal, cast

import numpy as np
from fastapi import APIRouter

from amodal_model.engine import EngineInfo
from amodal_model.errors import ModelError
from amodal_model.masks import box_mask
from amodal_model.memory import CONTEXT_NAMES, CROP_SIDE, MAP_NAMES, SCALAR_NAMES
from amodal_model.stream import AmodalSegmenter
from amodal_service.access import Reader
from amodal_service.schemas import Model, ModelList, Ready, problem_responses
from amodal_service.services import ServicesDep

router = APIRouter(tags=["models"])

_INPUT_SIZES: dict[str, list[int | None]] = {
    "crop": [None, 3, CROP_SIDE, CROP_SIDE],
    "theta": [None, 2, 3],
    "context": [None, len(CONTEXT_NAMES)],
    "maps": [None, len(MAP_NAMES), CROP_SIDE, CROP_SIDE],
    "scalars": [None, len(SCALAR_NAMES)],
}


def describe_model(info: EngineInfo) -> Model:
    """Return a model as it goes over the wire."""
    return Model(
        name=info.model_name,
        version=info.model_version,
        sha256=info.sha256,
        precision=cast("Literal['fp32', 'fp16', 'int8']", info.precision),
        input_sizes=_INPUT_SIZES,
        provider_requested=list(info.requested),
        provider_actual=info.actual,
    )


@router.get("/v1/models", responses=problem_responses(401, 403))
def list_models(services: ServicesDep, caller: Reader) -> ModelList:
    """List the models of this server, with the execution provider that really runs."""
    return ModelList(models=[describe_model(services.place.segmenter.engine.info)])


@router.get("/readyz", tags=["health"], responses=problem_responses(503))
def readyz(services: ServicesDep) -> Ready:
    """Run the model once and look into the database: ready to work, or a problem."""
    with services.database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    segmenter = services.place.segmenter
    started_s = time.perf_counter()
    _run_once(segmenter)
    step_ms = 1000 * (time.perf_counter() - started_s)
    model = describe_model(segmenter.engine.info)
    return Ready(status="ready", model=model, step_ms=round(step_ms, 3))


def _run_once(segmenter: AmodalSegmenter) -> None:
    """Segment one small frame.

    Raises:
        ModelError: the step fails, or loses the mask it was given.
    """
    visible = np.zeros((32, 32), bool)
    visible[8:24, 8:24] = True
    try:
        result, _ = segmenter.step(None, {1: box_mask(visible)}, segmenter.start((32, 32)))
    except RuntimeError as error:  # the engine's own class derives from it
        raise ModelError(f"the model does not run: {error}") from error
    if not result.objects or result.objects[0].amodal.area < result.objects[0].visible.area:
        raise ModelError("the model runs, but loses the mask it is given")
