"""Multipart requests part by part, as they arrive: an upload is never held, in memory or on disk.

    async for part in read_parts(request):
        async for data in part.data: ...

A part must be used up before the next one is asked for; what is left of it is passed over.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from amodal_model.errors import InputError, LimitError

MAX_PARTS = 8


class Part(NamedTuple):
    """One part: its field name, its file name where it has one, and its content."""

    name: str
    filename: str | None
    data: AsyncIterator[bytes]


async def read_parts(request: Request) -> AsyncIterator[Part]:
    """Yield the parts of a ``multipart/form-data`` request in the order they arrive.

    Raises:
        InputError: another content type, or a body that is not multipart or ends early.
        LimitError: more than 8 parts.
    """
    reader = _Reader(request)
    for _ in range(MAX_PARTS):
        part = await reader.next_part()
        if part is None:
            return
        yield part
    if await reader.next_part() is not None:
        raise LimitError(f"more than {MAX_PARTS} parts in a multipart request")


class Counted:
    """Bytes that pass through, counted, limited and hashed.

    Attributes:
        size_bytes: how many have passed.
    """

    def __init__(self, data: AsyncIterator[bytes], limit_bytes: int, what: str) -> None:
        self._data = data
        self._limit = limit_bytes
        self._what = what
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the bytes.

        Raises:
            LimitError: more than the limit.
        """
        async for data in self._data:
            self.size_bytes += len(data)
            if self.size_bytes > self._limit:
                raise LimitError(f"{self._what} is over {self._limit} bytes")
            self._digest.update(data)
            yield data

    @property
    def sha256(self) -> str:
        """Of the bytes so far, in hexadecimal."""
        return self._digest.hexdigest()


class _Reader:
    """Feeds the body to the push parser and queues what it calls back."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise InputError(f"content type {kind.decode('latin-1')!r} is not multipart/form-data")
        self._body = request.stream()
        self._queue: deque[tuple[str, bytes]] = deque()
        self._has_ended = False
        self._field = b""
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_header_field": lambda data, start, end: self._push(
                        "field", data[start:end]
                    ),
                    "on_header_value": lambda data, start, end: self._push(
                        "value", data[start:end]
                    ),
                    "on_header_end": lambda: self._push("header"),
                    "on_headers_finished": lambda: self._push("start"),
                    "on_part_data": lambda data, start, end: self._push("data", data[start:end]),
                    "on_part_end": lambda: self._push("end"),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise InputError(f"multipart boundary: {error}") from None

    def _push(self, kind: str, data: bytes = b"") -> None:
        self._queue.append((kind, data))

    def _end(self) -> None:
        self._has_ended = True

    async def _next(self) -> tuple[str, bytes] | None:
        """Return the next thing in the body, ``None`` at its end."""
        while not self._queue:
            if self._has_ended:
                return None
            data = await anext(self._body, b"")
            if not data:
                if self._has_ended:
                    return None
                raise InputError("the multipart body ends before its last boundary")
            try:
                self._parser.write(data)
            except FormParserError as error:
                raise InputError(f"multipart body: {error}") from None
        return self._queue.popleft()

    async def next_part(self) -> Part | None:
        field, value, headers = b"", b"", {}
        while (found := await self._next()) is not None:
            kind, data = found
            if kind == "field":
                field += data
            elif kind == "value":
                value += data
            elif kind == "header":
                headers[field.lower()] = value
                field, value = b"", b""
            elif kind == "start":
                return self._part(headers.get(b"content-disposition", b""))
        return None

    def _part(self, disposition: bytes) -> Part:
        _, options = parse_options_header(disposition.decode("latin-1"))
        name, filename = options.get(b"name"), options.get(b"filename")
        if name is None:
            raise InputError("a part of the multipart body has no name")
        return Part(
            name.decode("utf-8", "replace"),
            filename.decode("utf-8", "replace") if filename is not None else None,
            self._data(),
        )

    async def _data(self) -> AsyncIterator[bytes]:
        while (found := await self._next()) is not None and found[0] != "end":
            yield found[1]


async def read_small(part: Part, limit_bytes: int) -> bytes:
    """Return a part that is meant to be small.

    Raises:
        LimitError: it is larger than the limit.
    """
    content = bytearray()
    async for data in Counted(part.data, limit_bytes, f"part {part.name!r}"):
        content += data
    return bytes(content)
