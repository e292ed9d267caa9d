"""The bytes of the protocol do not change by accident."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from stream_golden import GOLDEN, golden_files, read_golden

from amodal_client.errors import AnswerError
from amodal_client.stream_messages import (
    ClientMessage,
    FrameMeta,
    ResultMeta,
    ServerMessage,
    StreamObject,
    encode_message,
    read_client_message,
    read_server_message,
)
from amodal_client.stream_wire import Header, Op, encode_meta, pack, read_meta, unpack
from amodal_model.masks import decode_rle

BINARY = read_golden("binary.json")
CLIENT = read_golden("control_client.json")
SERVER = read_golden("control_server.json")
REFUSED = read_golden("refused.json")


def header_of(entry: dict[str, Any]) -> Header:
    return Header(**{key: value for key, value in entry["header"].items() if key != "meta_bytes"})


def meta_of(entry: dict[str, Any]) -> Any:
    kind = FrameMeta if entry["header"]["op"] == Op.FRAME else ResultMeta
    return None if entry["meta"] is None else msgspec.convert(entry["meta"], kind)


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in entries]


@pytest.mark.parametrize("entry", BINARY, ids=names(BINARY))
def test_binary_messages_are_built_as_ever(entry: dict[str, Any]) -> None:
    meta = meta_of(entry)
    coded = b"" if meta is None else encode_meta(meta)
    built = pack(header_of(entry), coded, bytes.fromhex(entry["payload_hex"]))
    assert built.hex() == entry["hex"]


@pytest.mark.parametrize("entry", BINARY, ids=names(BINARY))
def test_binary_messages_are_read_back(entry: dict[str, Any]) -> None:
    packet = unpack(bytes.fromhex(entry["hex"]))
    assert packet.header == header_of(entry)
    assert len(packet.meta) == entry["header"]["meta_bytes"]
    assert packet.payload.hex() == entry["payload_hex"]
    if entry["meta"] is not None:
        wanted = meta_of(entry)
        assert read_meta(packet.meta, type(wanted)) == wanted


@pytest.mark.parametrize("entry", CLIENT, ids=names(CLIENT))
def test_what_a_client_says_is_built_and_read_back(entry: dict[str, Any]) -> None:
    message = msgspec.convert(entry["message"], ClientMessage)
    assert encode_message(message) == entry["text"]
    assert read_client_message(entry["text"]) == message


@pytest.mark.parametrize("entry", SERVER, ids=names(SERVER))
def test_what_a_server_says_is_built_and_read_back(entry: dict[str, Any]) -> None:
    message = msgspec.convert(entry["message"], ServerMessage)
    assert encode_message(message) == entry["text"]
    assert read_server_message(entry["text"]) == message


@pytest.mark.parametrize("entry", REFUSED, ids=names(REFUSED))
def test_messages_that_are_none_are_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(AnswerError):
        unpack(bytes.fromhex(entry["hex"]))


def test_every_control_message_has_a_golden_text() -> None:
    for kinds, entries in ((ClientMessage, CLIENT), (ServerMessage, SERVER)):
        tags = {kind.__struct_config__.tag for kind in get_args(kinds)}
        assert {entry["message"]["op"] for entry in entries} == tags


def test_every_field_of_a_result_object_is_in_a_golden_message() -> None:
    given = [each for entry in BINARY for each in (entry["meta"] or {}).get("objects", [])]
    keys = {key for each in given for key in each}
    assert keys == {"track_id", "rle", "bbox", "polygon", "box"} | (
        set(msgspec.structs.asdict(msgspec.convert({"track_id": 1}, StreamObject))) - {"remembered"}
    )


def test_the_masks_of_golden_messages_are_coco_rle() -> None:
    result = next(entry for entry in BINARY if entry["name"] == "result")
    stairs = decode_rle(result["meta"]["objects"][0]["amodal"]["rle"])
    wanted = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    assert np.array_equal(stairs.full(), wanted)


def test_the_golden_files_are_what_the_script_writes() -> None:
    wanted = golden_files()
    assert {path.name for path in GOLDEN.iterdir()} == set(wanted)
    assert {name: (GOLDEN / name).read_text() for name in wanted} == wanted
