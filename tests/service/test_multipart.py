"""Multipart requests: read part by part, in pieces of any size."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from amodal_model.errors import InputError, LimitError
from amodal_service.multipart import Counted, read_parts, read_small

BOUNDARY = "edge"


def _body(parts: Sequence[tuple[str, str | None, bytes]]) -> bytes:
    out = b""
    for name, filename, content in parts:
        file = f'; filename="{filename}"' if filename else ""
        out += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        )
        out += content + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


def _request(
    body: bytes, step: int = 1000, kind: str = f"multipart/form-data; boundary={BOUNDARY}"
) -> Request:
    pieces = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number + 1 < len(pieces)}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", kind.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def _read(request: Request, skip: str = "") -> list[tuple[str, str | None, bytes]]:
    async def read() -> list[tuple[str, str | None, bytes]]:
        found = []
        async for part in read_parts(request):
            data = b"" if part.name == skip else b"".join([piece async for piece in part.data])
            found.append((part.name, part.filename, data))
        return found

    return asyncio.run(read())


@given(
    contents=st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    step=st.integers(1, 300),
)
def test_parts_arrive_whole_however_the_body_is_cut(contents: list[bytes], step: int) -> None:
    parts = [(f"p{number}", f"f{number}.mp4", data) for number, data in enumerate(contents)]
    assert _read(_request(_body(parts), step)) == parts


def test_what_is_left_of_a_part_is_passed_over() -> None:
    parts = [("a", None, b"x" * 5000), ("b", "ö ü.mp4", b"y")]
    assert _read(_request(_body(parts)), skip="a") == [("a", None, b""), parts[1]]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_body([("a", None, b"x" * 50)])[:60], "ends before its last boundary"),
        (b"no boundary at all, but long enough", "multipart body"),
        (b"", "ends before its last boundary"),
        (_body([("a", None, b"")]).replace(b'; name="a"', b""), "has no name"),
    ],
)
def test_a_broken_body_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _read(_request(body))


def test_another_content_type_is_refused() -> None:
    with pytest.raises(InputError, match="'text/plain' is not multipart/form-data"):
        _read(_request(b"", kind="text/plain"))


def test_too_many_parts_are_refused() -> None:
    with pytest.raises(LimitError, match="more than 8 parts"):
        _read(_request(_body([(f"p{n}", None, b"") for n in range(9)])))


def test_bytes_are_counted_hashed_and_limited() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"abcd"

    async def use(limit: int) -> Counted:
        counted = Counted(pieces(), limit, "part 'video'")
        async for _ in counted:
            pass
        return counted

    counted = asyncio.run(use(12))
    assert (counted.size_bytes, counted.sha256[:8]) == (12, "887f2749")
    with pytest.raises(LimitError, match="part 'video' is over 11 bytes"):
        asyncio.run(use(11))


def test_a_small_part_is_read_up_to_its_limit() -> None:
    async def read(limit: int) -> bytes:
        async for part in read_parts(_request(_body([("a", None, b"12345")]))):
            return await read_small(part, limit)
        return b""

    assert asyncio.run(read(5)) == b"12345"
    with pytest.raises(LimitError, match="part 'a' is over 4 bytes"):
        asyncio.run(read(4))
