"""Checks of what a server must refuse: messages that are none, each with its close code."""

from __future__ import annotations

from amodal_client.stream_messages import ErrorMessage
from amodal_client.stream_wire import HEADER, Codec, Header, Op, pack
from amodal_service.conformance.probe import require
from amodal_service.conformance.target import Target


def _is_refused(target: Target, message: str | bytes, *codes: int, what: str) -> None:
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        probe.send(message)
        probe.expect_close(*codes, what=what)
        errors = probe.all(ErrorMessage)
        require(bool(errors), f"{what}: no error message before the close")
        require(errors[-1].is_fatal, f"{what}: the error must be fatal")


def short_binary_is_refused(target: Target) -> None:
    """A binary message shorter than a header: error, 4400."""
    _is_refused(target, bytes(HEADER.size - 1), 4400, what="31 bytes")


def unknown_binary_op_is_refused(target: Target) -> None:
    """A binary op that is none of a client's: error, 4400."""
    head = pack(Header(Op.FRAME, 0), b"")
    _is_refused(target, b"\x09" + head[1:], 4400, what="op 9")
    _is_refused(target, b"\x02" + head[1:], 4400, what="a RESULT from a client")


def lying_header_is_refused(target: Target) -> None:
    """A header that tells of more meta than follows, or meta that is none: error, 4400."""
    head = bytearray(pack(Header(Op.FRAME, 0, width=64, height=48), b""))
    head[4:8] = (1000).to_bytes(4, "little")
    _is_refused(target, bytes(head), 4400, what="1000 bytes of meta, 0 follow")
    broken = pack(Header(Op.FRAME, 0, width=64, height=48), b"\xc1\xff\xff")
    _is_refused(target, broken, 4400, what="meta that is not MessagePack")


def unknown_codec_is_refused(target: Target) -> None:
    """A codec that is not known: error, 4415."""
    head = bytearray(pack(Header(Op.FRAME, 0, width=64, height=48, codec=Codec.JPEG), b""))
    head[2] = 77
    _is_refused(target, bytes(head), 4415, what="codec 77")


def garbage_text_is_refused(target: Target) -> None:
    """Text that is no JSON object with an op, or a field that does not fit: error, 4400."""
    _is_refused(target, "this is no JSON", 4400, what="text that is no JSON")
    _is_refused(target, '["op", "ping"]', 4400, what="a JSON array")
    _is_refused(target, '{"op": "ack", "seq": "one"}', 4400, what="a seq that is text")


def seq_must_rise(target: Target) -> None:
    """A seq that is not above the last one: error, 4400."""
    with target.probe(mode="lossless") as probe:
        probe.welcome()
        probe.frame(7)
        probe.frame(7)
        probe.expect_close(4400, what="seq 7 after 7")
        require(bool(probe.all(ErrorMessage)), "no error message before the close")


REFUSALS = (
    short_binary_is_refused,
    unknown_binary_op_is_refused,
    lying_header_is_refused,
    unknown_codec_is_refused,
    garbage_text_is_refused,
    seq_must_rise,
)
