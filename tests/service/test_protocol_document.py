"""docs/protocol.md tells of the protocol that the code speaks."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import get_args

import msgspec
from stream_golden import read_golden

from amodal_client.stream_messages import (
    ClientMessage,
    CloseCode,
    DropCause,
    ServerMessage,
    StreamLimits,
    StreamObject,
    read_client_message,
    read_server_message,
)
from amodal_service.asyncapi import CLOSE_MEANINGS, HEADER_FIELDS
from amodal_service.streams.options import StreamOptions

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.DOTALL)


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)
    assert found, title
    return found.group(1)


def rows(text: str) -> list[list[str]]:
    """Return the cells of every table row but headings."""
    lines = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_the_header_table_is_the_header() -> None:
    offset, wanted = 0, []
    for name, kind, about in HEADER_FIELDS:
        wanted.append([str(offset), f"`{name}`", kind, about])
        offset += SIZES[kind]
    assert [row for row in rows(section("Binary messages")) if row[0].isdecimal()] == wanted


def test_the_bytes_are_the_golden_ones() -> None:
    (block,) = blocks("hex")
    digits = re.findall(r"^ *((?:[0-9a-f]{2,} *)+)(?: {2}|$)", block, re.MULTILINE)
    golden = next(e for e in read_golden("binary.json") if e["name"] == "frame_masks_only")
    assert "".join(digits).replace(" ", "") == golden["hex"]


def test_examples_are_messages_and_every_op_has_one() -> None:
    client, server = blocks("json")
    for text, kinds, read in (
        (client, ClientMessage, read_client_message),
        (server, ServerMessage, read_server_message),
    ):
        found = [read(line) for line in text.strip().splitlines()]
        assert {type(each) for each in found} == set(get_args(kinds))


def test_close_codes_are_told_with_what_a_client_does() -> None:
    told = {int(code): (about, back) for code, about, back in rows(section("Endings"))[1:]}
    assert {code: about for code, (about, _) in told.items()} == CLOSE_MEANINGS
    back = {code for code, (_, answer) in told.items() if answer == "yes"}
    assert back == {1001, 1011, CloseCode.IDLE_OR_SLOW, CloseCode.DRAINING}


def test_causes_options_limits_and_objects_are_all_told() -> None:
    causes = {row[0].strip("`") for row in rows(section("Credits, drops, deadlines"))}
    assert causes == {"cause", *get_args(DropCause)}
    options = section("Opening")
    for name, field in StreamOptions.model_fields.items():
        default = "" if field.default is None else str(field.default)
        default = default.lower() if isinstance(field.default, bool) else default
        shown = f"`{default}`" if isinstance(field.default, str) else default
        assert re.search(rf"^\| `{name}` \| {shown} ?\|", options, re.MULTILINE), name
    for name in StreamLimits.__struct_fields__:
        assert f"`{name}`" in section("Limits"), name
    for name in StreamObject.__struct_fields__:
        assert f"`{name}`" in section("Binary messages"), name


def test_the_header_of_the_client_on_the_page_is_the_wires() -> None:
    (code,) = blocks("python")
    (layout,) = re.findall(r'struct\.Struct\("(.*)"\)', code)
    assert struct.calcsize(layout) == sum(SIZES[kind] for _, kind, _ in HEADER_FIELDS)
    compile(code, "protocol.md", "exec")


def test_there_are_twelve_invariants() -> None:
    numbers = re.findall(r"^(\d+)\. ", section("What holds"), re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 13)]


def test_defaults_of_objects_are_told() -> None:
    told = {
        name: row[1].strip("`")
        for row in rows(section("Binary messages"))
        for name in re.findall(r"`(\w+)`", row[0])
    }
    assert told["state"] == StreamObject(1).state
    assert told["track_id"] == "always there"
    assert set(msgspec.to_builtins(StreamObject(1))) == {"track_id"}
