"""The OpenAPI document: FastAPI's, with the schemas that only our own bodies and errors name."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from amodal_service.schemas import (
    JobFiles,
    JobRequest,
    Problem,
    Prompts,
    Segmented,
    SegmentFiles,
    SegmentFrames,
)
from amodal_service.streams.options import StreamRequest

_NAMED_ELSEWHERE = (
    Problem, Prompts, Segmented, SegmentFiles, SegmentFrames, JobFiles, JobRequest, StreamRequest,
)  # fmt: skip

_KEY = "ApiKey"
_KEY_DESCRIPTION = "A key of `amodal keys`; programs on the server's machine may need none."


def document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an app, made once."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, summary=app.summary, routes=app.routes
        )
        models: list[tuple[type[BaseModel], JsonSchemaMode]] = [
            (model, "validation") for model in _NAMED_ELSEWHERE
        ]
        _, named = models_json_schema(models, ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"] = {**named["$defs"], **schema["components"]["schemas"]}
        _drop_unused_error(schema)
        _name_keys(schema, app.state.services.policies.anonymous)
        app.openapi_schema = schema
    return app.openapi_schema


def _drop_unused_error(schema: dict[str, Any]) -> None:
    """Put our problem where FastAPI documents its own error for an invalid request."""
    for path in schema["paths"].values():
        for operation in path.values():
            answer = operation.get("responses", {}).get("422", {})
            if "application/json" in answer.get("content", {}):
                problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
                answer["description"] = "A problem."
                answer["content"] = {"application/problem+json": problem}
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)


def _name_keys(schema: dict[str, Any], is_anonymous_allowed: bool) -> None:
    """Say which operations want an API key: those that may answer that it is not valid."""
    schema["components"]["securitySchemes"] = {
        _KEY: {"type": "http", "scheme": "bearer", "description": _KEY_DESCRIPTION}
    }
    choices: list[dict[str, list[str]]] = [{_KEY: []}, *([{}] if is_anonymous_allowed else [])]
    for path in schema["paths"].values():
        for operation in path.values():
            if "401" in operation.get("responses", {}):
                operation["security"] = choices
