"""What goes over the wire, as pydantic models with examples: the source of the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Wire(BaseModel):
    """A value on the wire; unknown keys are an error, not a silent loss."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:amodal:problem:limit"])
    title: str = Field(examples=["Larger than a limit"])
    status: int = Field(examples=[413])
    detail: str = Field(
        examples=["clip is 31.0 s, limit 20.0 s (AMODAL_LIMIT_SEGMENT_SECONDS)"],
    )
    instance: str = Field("", examples=["/v1/segment"])
    request_id: str = Field("", examples=["5b1f0f2f8a6d4bb0a3f6f8d3f6d1f1aa"])


class Health(Wire):
    """Whether the process lives."""

    status: Literal["ok"]


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of a route's errors."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": "A problem.", "content": content} for status in statuses}
