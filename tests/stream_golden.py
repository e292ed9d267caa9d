"""Golden messages of ``amodal.stream.v1``: bytes and texts, with the values that they stand for.

They are kept in ``tests/client/golden/stream`` as JSON, so that a client in any language can be
tested on them. The tests never write them: this does, on purpose, after a change of the protocol
that was meant::

    python tests/stream_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from amodal_client import stream_messages as messages
from amodal_client.stream_messages import encode_message
from amodal_client.stream_wire import REPLAYED, Codec, Header, Op, encode_meta, pack

GOLDEN = Path(__file__).parent / "client" / "golden" / "stream"

_SQUARE = messages.MaskRle((2, 3), "06")  # 3x2 pixels, all set
_STAIRS = messages.MaskRle((3, 3), "0121O1")  # three columns: 1, 2 and 3 pixels set from the top
_MODEL = messages.ModelName("shipped", "1")
_LIMITS = messages.StreamLimits(4_194_304, 8_847_360, 16, 0.0, 0.0, 60.0, 3600.0, 64)

_given = messages.GivenObject
_FRAMES: dict[str, tuple[str, Header, Any, bytes]] = {
    "frame_nothing_visible": (
        "masks only: nothing shows; no meta at all",
        Header(Op.FRAME, 0, width=8, height=6),
        None,
        b"",
    ),
    "frame_masks_only": (
        "masks only: object 7 as RLE of a box, one without id as a polygon, object 9 as a box",
        Header(Op.FRAME, 41, 1_700_000_000_123_456_789, 250, 8, 6),
        messages.FrameMeta(
            (
                _given(7, rle=_SQUARE, bbox=(2, 1, 3, 2)),
                _given(polygon=((0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0),)),
                _given(9, box=(5.0, 3.0, 2.5, 2.0)),
            )
        ),
        b"",
    ),
    "frame_rgb8": (
        "an image of 2x2 pixels: red, green / blue, white; nothing said of objects",
        Header(Op.FRAME, 2**40, 5, 0, 2, 2, Codec.RGB8),
        None,
        bytes.fromhex("ff000000ff000000ffffffff"),
    ),
    "frame_sent_again": (
        "the flag of a frame that is sent again after a resume; the largest seq",
        Header(Op.FRAME, 2**63 - 1, width=8, height=6, flags=REPLAYED),
        messages.FrameMeta(()),
        b"",
    ),
}
_RESULTS: dict[str, tuple[str, Header, Any, bytes]] = {
    "result": (
        "object 7 partly hidden by 9",
        Header(Op.RESULT, 41, 1_700_000_000_123_456_789, 0, 8, 6),
        messages.ResultMeta(
            (
                messages.StreamObject(
                    7,
                    "partial",
                    0.75,
                    messages.PlacedMask((2, 1, 3, 2), _SQUARE),
                    messages.PlacedMask((2, 1, 3, 3), _STAIRS),
                    None,
                    0.25,
                    (9,),
                    1_700_000_000_123_456_789,
                    1.0,
                    0.5,
                ),
                messages.StreamObject(9, "lost", last_seen_ns=5),
            ),
            ((9, 7),),
            messages.Timings(0.5, 0.0, 4.25, 0.125),
            3,
            4.0,
            _MODEL,
        ),
        b"",
    ),
    "result_delta_sent_again": (
        "a stream with delta: object 7 is as in the result before; sent again after a resume",
        Header(Op.RESULT, 42, 0, 0, 8, 6, flags=REPLAYED),
        messages.ResultMeta(
            (messages.StreamObject(7, unchanged=True),),
            (),
            messages.Timings(0.0, 0.0, 0.0, 0.0),
            0,
            1.0,
            _MODEL,
        ),
        b"",
    ),
}
_prompt = messages.PromptObject
_CLIENT: dict[str, Any] = {
    "hello": messages.Hello("my-client", "1.2"),
    "prompt_box_next": messages.PromptMessage((_prompt(1, box=(10.0, 20.0, 30.5, 40.0)),)),
    "prompt_at_seq": messages.PromptMessage(
        (
            _prompt(1, points=((12.5, 30.0, 1), (60.0, 30.0, 0))),
            _prompt(2, rle=_SQUARE, bbox=(2, 1, 3, 2)),
            _prompt(3, remove=True),
        ),
        41,
        "p-1",
    ),
    "remove": messages.Remove((1, 3), "r-1"),
    "reset": messages.Reset("x-1"),
    "ack": messages.Ack(41),
    "ping": messages.Ping(12.5),
    "end": messages.End(),
}
_SERVER: dict[str, Any] = {
    "welcome": messages.Welcome(
        "01J00000000000000000000000",
        1,
        "new",
        2,
        _LIMITS,
        ("codec:none", "codec:jpeg", "masks:given", "mode:realtime"),
        "SECRET",
        -1,
        "CPUExecutionProvider",
        _MODEL,
        9_000_000,
    ),
    "credit": messages.Credit(1),
    "dropped_superseded": messages.Dropped(((3, 5), (7, 7)), "superseded"),
    "dropped_decode_error": messages.Dropped(
        ((9, 9),), "decode_error", "track 7: mask is of a frame 9x9, this one is 8x6"
    ),
    "prompt_ack": messages.PromptAck("p-1", 41),
    "prompt_ack_refused": messages.PromptAck("p-1", 41, "box does not meet the frame"),
    "checkpoint": messages.Checkpoint(41),
    "goaway": messages.GoAway("drain", 5000),
    "status": messages.Status("warning", "frame 8 was sent without credit"),
    "pong": messages.Pong(12.5),
    "error": messages.ErrorMessage(
        "urn:amodal:problem:bad-message", "Message that is not valid", 400, "seq 3 after 7"
    ),
    "bye": messages.Bye(messages.Counters(10, 7, {"superseded": 2, "deadline": 1}), "end"),
}
_FRAME_HEAD = "01000000 00000000 2900000000000000 0000000000000000 00000000 0800 0600"
_REFUSED: dict[str, tuple[str, str]] = {
    "empty": ("shorter than a header", ""),
    "short_header": ("31 bytes", _FRAME_HEAD[:-2]),
    "unknown_op": ("op 9", _FRAME_HEAD.replace("01", "09", 1)),
    "unknown_codec": ("codec 7", _FRAME_HEAD.replace("01000000", "01000700", 1)),
    "meta_too_long": ("4 bytes of meta, 3 follow", _FRAME_HEAD.replace(" 0000", " 0400", 1) + "80"),
    "seq_too_large": ("seq 2**63", _FRAME_HEAD.replace("2900000000000000", "0000000000000080")),
}


def golden_files() -> dict[str, str]:
    """Return the text of every golden file, by name."""
    return {
        "binary.json": _text([_binary(name, *each) for name, each in (_FRAMES | _RESULTS).items()]),
        "control_client.json": _text([_control(name, each) for name, each in _CLIENT.items()]),
        "control_server.json": _text([_control(name, each) for name, each in _SERVER.items()]),
        "refused.json": _text(
            [
                {"name": name, "why": why, "hex": digits.replace(" ", "")}
                for name, (why, digits) in _REFUSED.items()
            ]
        ),
    }


def read_golden(name: str) -> list[dict[str, Any]]:
    """Return the messages of a golden file."""
    found = json.loads((GOLDEN / name).read_text())
    assert isinstance(found, list)
    return found


def _binary(name: str, about: str, header: Header, meta: Any, payload: bytes) -> dict[str, Any]:
    coded = b"" if meta is None else encode_meta(meta)
    fields = {key: int(value) for key, value in header._asdict().items()}
    return {
        "name": name,
        "about": about,
        "hex": pack(header, coded, payload).hex(),
        "header": {**fields, "meta_bytes": len(coded)},
        "meta": None if meta is None else msgspec.to_builtins(meta),
        "payload_hex": payload.hex(),
    }


def _control(name: str, message: Any) -> dict[str, Any]:
    return {
        "name": name,
        "text": encode_message(message),
        "message": msgspec.to_builtins(message),
    }


def _text(entries: list[dict[str, Any]]) -> str:
    return json.dumps(entries, indent=1) + "\n"


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for file_name, text in golden_files().items():
        (GOLDEN / file_name).write_text(text)
