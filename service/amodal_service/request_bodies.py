"""Request bodies that FastAPI does not read for us: multipart as it streams in, and MessagePack."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from amodal_model.errors import InputError, LimitError

JSON = "application/json"
MSGPACK = "application/msgpack"
MULTIPART = "multipart/form-data"

ModelT = TypeVar("ModelT", bound=BaseModel)


def media_type(request: Request) -> str:
    """Return the media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, limit_bytes: int, name: str) -> bytes:
    """Return a whole body.

    Args:
        request: whose.
        limit_bytes: how large it may be.
        name: of the limit, for the message.

    Raises:
        LimitError: it is larger.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit_bytes:
            raise LimitError(f"request is over {limit_bytes} bytes ({name})")
    return bytes(body)


def decode_body(content: bytes, kind: str) -> Any:
    """Return the value of a JSON or MessagePack text.

    Raises:
        InputError: neither, or a text that does not hold.
    """
    try:
        if kind == MSGPACK:
            return msgspec.msgpack.decode(content)
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"body is not {kind}: {error}") from None


def validate(model: type[ModelT], value: Any, at: str = "body") -> ModelT:
    """Return a value as a model, with FastAPI's errors where it is not one."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        located = [{**each, "loc": (at, *each["loc"])} for each in found]
        raise RequestValidationError(located) from None


def body_schema(*, is_required: bool = True, **models: type[BaseModel]) -> dict[str, Any]:
    """Return the documentation of a route's body: for each media type its model.

    Keyword names are ``json``, ``msgpack`` and ``multipart``.
    """
    types = {"json": JSON, "msgpack": MSGPACK, "multipart": MULTIPART}
    content = {
        types[name]: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
        for name, model in models.items()
    }
    return {"requestBody": {"required": is_required, "content": content}}
