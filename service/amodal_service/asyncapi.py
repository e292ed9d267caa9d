"""The AsyncAPI document of live streams, made from the message types themselves."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import msgspec

from amodal_client.stream_messages import (
    RESUMABLE_CODES,
    ClientMessage,
    CloseCode,
    FrameMeta,
    ResultMeta,
    ServerMessage,
)
from amodal_client.stream_wire import HEADER, REPLAYED, SUBPROTOCOL, Codec, Op
from amodal_service.streams.options import StreamOptions
from amodal_service.version import amodal_version

ADDRESS = "/v1/stream"
_SCHEMAS = "#/components/schemas/"

HEADER_FIELDS: tuple[tuple[str, str, str], ...] = (
    ("op", "u8", "1 FRAME (client to server), 2 RESULT (server to client)"),
    ("flags", "u8", f"bit {REPLAYED}: sent again after a resume; other bits 0"),
    ("codec", "u8", "of the payload: 0 none, 1 JPEG, 2 PNG, 3 RGB8 (rows of RGB, no padding)"),
    ("reserved", "u8", "0"),
    ("meta_bytes", "u32", "bytes of meta (MessagePack) right after the header; may be 0"),
    ("seq", "u64", "number of the frame in its stream; rises strictly, at most 2**63 - 1"),
    ("capture_ns", "u64", "when the frame was taken, ns of any steady clock; 0: not known"),
    ("deadline_ms", "u32", "FRAME: ms after arrival within which its result is wanted; 0: none"),
    ("width", "u16", "of the frame, pixels; with an image 0 means: as the image"),
    ("height", "u16", "of the frame, pixels; with an image 0 means: as the image"),
)
"""Name, little-endian type and meaning of the fields of the binary header, in order."""

CLOSE_MEANINGS: dict[int, str] = {
    CloseCode.NORMAL: "after `end`: all frames are accounted for, the stream is over",
    CloseCode.GOING_AWAY: "the server stops, or the connection has lasted its limit",
    CloseCode.TOO_LARGE_MESSAGE: "message far above the limit, from the websocket layer",
    CloseCode.INTERNAL: "fault of the server",
    CloseCode.BAD_MESSAGE: "message or handshake that is not valid",
    CloseCode.AUTH: "no valid API key or ticket",
    CloseCode.FORBIDDEN: "origin or scope not allowed",
    CloseCode.UNKNOWN_STREAM: "no such stream, or it was killed",
    CloseCode.IDLE_OR_SLOW: "nothing was sent for too long, or what was sent was not read",
    CloseCode.SUPERSEDED: "another connection has taken the stream over",
    CloseCode.RESUME_EXPIRED: "the stream can no longer be resumed",
    CloseCode.TOO_LARGE: "message or option above a limit",
    CloseCode.CODEC: "codec that is not known",
    CloseCode.CREDIT_OR_QUOTA: "frames without credit, or an allowance used up",
    CloseCode.DRAINING: "the server is stopping: try again, or elsewhere",
    CloseCode.NO_SLOT: "no memory for another stream",
}
"""What each close code of the websocket says."""

_DESCRIPTION = """\
One websocket carries one video stream. Text messages are JSON objects told apart by `op`; unknown
ops and keys are passed over. Binary messages are a fixed header, meta (MessagePack) and a payload.
docs/protocol.md says when each is sent."""


def asyncapi_document(host: str, protocol: str) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document of a server.

    Args:
        host: of the server, with its port.
        protocol: ``ws`` or ``wss``.
    """
    control, schemas = _control_messages()
    messages = _binary_messages() | control
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": SUBPROTOCOL,
            "version": amodal_version(),
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"this": {"host": host, "protocol": protocol}},
        "channels": {"stream": _channel(messages)},
        "operations": {
            "fromClient": _operation("receive", ("Frame", *_names(ClientMessage))),
            "toClient": _operation("send", ("Result", *_names(ServerMessage))),
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def _names(kinds: Any) -> list[str]:
    return [kind.__name__ for kind in get_args(kinds)]


def _operation(action: str, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/stream"},
        "messages": [{"$ref": f"#/channels/stream/messages/{name}"} for name in names],
    }


def _channel(messages: dict[str, Any]) -> dict[str, Any]:
    query = _draft_07(StreamOptions.model_json_schema())
    query["properties"]["ticket"] = {
        "type": "string",
        "description": "From `POST /v1/streams`; then the options are those of the stream.",
    }
    offered = {"type": "string", "description": f"`{SUBPROTOCOL}`, then `amodal.ticket.TICKET`."}
    return {
        "address": ADDRESS,
        "description": f"Subprotocol `{SUBPROTOCOL}`; the server speaks first.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "ws": {
                "method": "GET",
                "query": query,
                "headers": {"type": "object", "properties": {"Sec-WebSocket-Protocol": offered}},
            }
        },
        "x-close-codes": [
            {"code": code, "meaning": meaning, "is_resumable": code in RESUMABLE_CODES}
            for code, meaning in CLOSE_MEANINGS.items()
        ],
    }


def _binary_messages() -> dict[str, Any]:
    return {
        "Frame": _binary("A frame, its visible masks and its image.", Op.FRAME, FrameMeta),
        "Result": _binary("What came of a frame.", Op.RESULT, ResultMeta),
    }


def _binary(summary: str, op: Op, meta: type[msgspec.Struct]) -> dict[str, Any]:
    return {
        "name": op.name,
        "summary": summary,
        "contentType": "application/octet-stream",
        "payload": {
            "type": "string",
            "format": "binary",
            "minLength": HEADER.size,
            "description": f"{HEADER.size} bytes of header, little-endian; meta; payload.",
        },
        "x-header": [
            {"name": name, "type": kind, "description": about}
            for name, kind, about in HEADER_FIELDS
        ],
        "x-op": int(op),
        "x-meta": {"$ref": f"{_SCHEMAS}{meta.__name__}"},
        "x-codecs": {codec.name: int(codec) for codec in Codec},
    }


def _control_messages() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the control messages, and the schemas of all messages, by name."""
    kinds = (*get_args(ClientMessage), *get_args(ServerMessage))
    _, found = msgspec.json.schema_components(
        (FrameMeta, ResultMeta, *kinds), ref_template=f"{_SCHEMAS}{{name}}"
    )
    schemas = {name: _described(_draft_07(schema)) for name, schema in found.items()}
    messages = {
        kind.__name__: {
            "name": kind.__struct_config__.tag,
            "summary": schemas[kind.__name__]["description"],
            "payload": {"$ref": f"{_SCHEMAS}{kind.__name__}"},
        }
        for kind in kinds
    }
    return messages, schemas


def _draft_07(schema: Any) -> Any:
    """Return a schema whose tuples are told as AsyncAPI's own schema language has them."""
    if isinstance(schema, list):
        return [_draft_07(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _draft_07(value) for key, value in schema.items()}
    if "prefixItems" in told:
        told["items"] = told.pop("prefixItems")
        told["additionalItems"] = False
    return told


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a struct with its docstring's attributes put where they belong."""
    about, _, attributes = inspect.cleandoc(schema["description"]).partition("\n\nAttributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", attributes, re.MULTILINE)
    told = {name: " ".join(text.split()) for name, text in entries}
    properties = {
        name: {**each, "description": told[name]} if name in told else each
        for name, each in schema["properties"].items()
    }
    return {**schema, "description": about, "properties": properties}
