"""The AsyncAPI document: whole, consistent, and true to the messages that are sent."""

from __future__ import annotations

import inspect
import re
import struct
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from stream_golden import read_golden

from amodal_client import stream_messages
from amodal_client.stream_messages import ClientMessage, CloseCode, ServerMessage
from amodal_client.stream_wire import HEADER, unpack
from amodal_service.asyncapi import CLOSE_MEANINGS, HEADER_FIELDS, asyncapi_document

DOCUMENT = asyncapi_document("robot.example:8420", "wss")
SIZES = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}  # fmt: skip


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the document."""
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node:
        if isinstance(each, dict | list):
            yield from parts(each)


def resolve(ref: str) -> Any:
    node: Any = DOCUMENT
    for step in ref.removeprefix("#/").split("/"):
        node = node[step]
    return node


def fits(value: Any, schema: Any) -> bool:
    """Return whether a value fits a schema, of those words that the document uses."""
    if "$ref" in schema:
        return fits(value, resolve(schema["$ref"]))
    if "anyOf" in schema:
        return any(fits(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = schema["type"]
    if isinstance(value, list):
        return kind == "array" and _fits_array(value, schema)
    if isinstance(value, dict):
        return kind == "object" and _fits_object(value, schema)
    is_boolean = isinstance(value, bool)
    return is_boolean == (kind == "boolean") and isinstance(value, TYPES[kind])


def _fits_array(value: list[Any], schema: dict[str, Any]) -> bool:
    items = schema["items"]
    if isinstance(items, list):
        return len(value) == len(items) and all(map(fits, value, items))
    return all(fits(each, items) for each in value)


def _fits_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties")
    return set(schema.get("required", ())) <= set(value) and all(
        fits(each, properties[key]) if key in properties else bool(rest) and fits(each, rest)
        for key, each in value.items()
    )


def test_it_has_what_asyncapi_3_asks_for() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert DOCUMENT["info"]["title"] == "amodal.stream.v1"
    assert DOCUMENT["servers"]["this"] == {"host": "robot.example:8420", "protocol": "wss"}
    assert {each["action"] for each in DOCUMENT["operations"].values()} == {"send", "receive"}


def test_every_reference_leads_somewhere() -> None:
    refs = [part["$ref"] for part in parts(DOCUMENT) if "$ref" in part]
    assert len(refs) > 50
    for ref in refs:
        assert isinstance(resolve(ref), dict), ref


def test_every_message_of_the_code_is_in_it() -> None:
    for operation, binary, kinds in (
        ("fromClient", "Frame", ClientMessage),
        ("toClient", "Result", ServerMessage),
    ):
        sent = [resolve(each["$ref"]) for each in DOCUMENT["operations"][operation]["messages"]]
        names = {resolve(each["$ref"])["name"] for each in sent}
        assert names == {kind.__struct_config__.tag for kind in get_args(kinds)} | {binary.upper()}


def test_every_type_of_the_protocol_has_a_schema() -> None:
    kinds = {
        name
        for name, each in inspect.getmembers(stream_messages, inspect.isclass)
        if issubclass(each, msgspec.Struct) and not name.startswith("_")
    }
    assert set(DOCUMENT["components"]["schemas"]) == kinds - {"Struct"}


@pytest.mark.parametrize("name", ["control_client.json", "control_server.json"])
def test_golden_texts_fit_their_schemas(name: str) -> None:
    by_op = {each["name"]: each for each in DOCUMENT["components"]["messages"].values()}
    for entry in read_golden(name):
        assert fits(entry["message"], by_op[entry["message"]["op"]]["payload"]), entry["name"]


def test_golden_metas_fit_their_schemas() -> None:
    messages = {each["x-op"]: each for each in DOCUMENT["components"]["messages"].values()
                if "x-op" in each}  # fmt: skip
    for entry in read_golden("binary.json"):
        if entry["meta"] is not None:
            assert fits(entry["meta"], messages[entry["header"]["op"]]["x-meta"]), entry["name"]


def test_a_message_that_does_not_fit_is_seen() -> None:
    credit = {"$ref": "#/components/schemas/Credit"}
    assert fits({"op": "credit", "n": 1}, credit)
    for wrong in ({"op": "credit"}, {"op": "credit", "n": "1"}, {"op": "debit", "n": 1}):
        assert not fits(wrong, credit)


def test_the_header_is_the_one_that_is_packed() -> None:
    layout = struct.Struct("<" + "".join(SIZES[kind] for _, kind, _ in HEADER_FIELDS))
    assert layout.format == HEADER.format
    for entry in read_golden("binary.json"):
        message = bytes.fromhex(entry["hex"])
        names = [name for name, _, _ in HEADER_FIELDS]
        told = dict(zip(names, layout.unpack_from(message), strict=True))
        read = unpack(message)
        assert {key: told[key] for key in read.header._fields} == read.header._asdict()
        assert told["meta_bytes"] == len(read.meta)


def test_every_close_code_has_a_meaning() -> None:
    codes = {value for name, value in vars(CloseCode).items() if name.isupper()}
    assert set(CLOSE_MEANINGS) == codes
    told = DOCUMENT["channels"]["stream"]["x-close-codes"]
    assert [each["code"] for each in told if each["is_resumable"]] == [1001, 1011, 4408, 4503]


def test_fields_are_described() -> None:
    welcome = DOCUMENT["components"]["schemas"]["Welcome"]
    assert re.fullmatch(
        r"rises with every connection; .*", welcome["properties"]["epoch"]["description"]
    )
    assert welcome["description"] == "The first message of the server."
