"""Files to the server by tus 1.0, in pieces, so that a break costs one piece at most."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeAlias

import httpx2

from amodal_client.errors import (
    AnswerError,
    ClientError,
    ConflictError,
    ProblemError,
    UsageError,
)
from amodal_client.exchange import Call, Exchange

PIECE_BYTES = 4 << 20
_PATH = "/v1/uploads"
_TUS = {"Tus-Resumable": "1.0.0"}
_CHECKSUM_MISMATCH = 460

UploadProgress: TypeAlias = Callable[[Path, int, int], object]
"""Is told the file, the bytes of it that are there, and its size."""


class _File(NamedTuple):
    path: Path
    size_bytes: int


async def upload_file(exchange: Exchange, path: Path, on_upload: UploadProgress | None) -> str:
    """Return the id of a file's finished upload.

    Raises:
        UsageError: the file cannot be read, or became shorter.
        ClientError: the server refuses it, or cannot be reached for too long.
    """
    file = await exchange.transport.call(_look_at, path)
    name = base64.b64encode(path.name.encode()).decode()
    headers = {"Upload-Length": str(file.size_bytes), "Upload-Metadata": f"filename {name}"}
    made = await exchange.call(Call("POST", _PATH, {"headers": _TUS | headers}))
    upload_id = made.headers.get("location", "").rpartition("/")[2]
    if not re.fullmatch(r"[0-9a-f]{32}", upload_id):
        raise AnswerError(f"upload is at {made.headers.get('location')!r}, which is no upload")
    await _send_pieces(exchange, file, f"{_PATH}/{upload_id}", on_upload)
    return upload_id


async def remove_upload(exchange: Exchange, upload_id: str) -> None:
    """Remove an upload that is no longer needed; where that fails, it expires by itself."""
    try:
        await exchange.once(Call("DELETE", f"{_PATH}/{upload_id}", {"headers": _TUS}))
    except ClientError:
        return


async def _send_pieces(
    exchange: Exchange, file: _File, path: str, on_upload: UploadProgress | None
) -> None:
    patience, offset = exchange.patience(), 0
    while offset < file.size_bytes:
        piece = await exchange.transport.call(_read_piece, file, offset)
        before = offset
        try:
            offset = _offset_of(await exchange.once(_patch(path, offset, piece)))
        except ClientError as error:
            if _is_out_of_step(error):  # the server has more or less than we believe
                await exchange.transport.sleep(patience.wait_s(error))
            else:
                await exchange.pause(patience, error)
            offset = _offset_of(await exchange.call(Call("HEAD", path, {"headers": _TUS})))
        if offset > before:
            patience.renew()
        if on_upload is not None:
            on_upload(file.path, offset, file.size_bytes)


def _patch(path: str, offset: int, piece: bytes) -> Call:
    checksum = base64.b64encode(hashlib.sha256(piece).digest()).decode()
    headers = {
        **_TUS,
        "Upload-Offset": str(offset),
        "Upload-Checksum": f"sha256 {checksum}",
        "Content-Type": "application/offset+octet-stream",
    }
    return Call("PATCH", path, {"headers": headers, "content": piece})


def _is_out_of_step(error: ClientError) -> bool:
    return isinstance(error, ConflictError) or (
        isinstance(error, ProblemError) and error.status == _CHECKSUM_MISMATCH
    )


def _offset_of(response: httpx2.Response) -> int:
    said = response.headers.get("upload-offset", "")
    if not (said.isdecimal() and len(said) < 20):
        raise AnswerError(f"Upload-Offset is {said!r}, must be a number of bytes")
    return int(said)


def _look_at(path: Path) -> _File:
    try:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        return _File(path, path.stat().st_size)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _read_piece(file: _File, offset: int) -> bytes:
    wanted = min(PIECE_BYTES, file.size_bytes - offset)
    try:
        with file.path.open("rb") as opened:
            opened.seek(offset)
            piece = opened.read(wanted)
    except OSError as error:
        raise UsageError(f"{file.path}: {error.strerror}") from None
    if wanted <= 0 or len(piece) != wanted:
        raise UsageError(f"{file.path}: changed while it was sent, it was {file.size_bytes} bytes")
    return piece
