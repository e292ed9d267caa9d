"""Resumable uploads: parts of a file, stored as they arrive, until the file is whole.

A part counts from the moment its row is in the database, and only where it begins at the end of
those before it; a server that dies loses at most the part that was arriving. A finished upload
stays in parts: a job that is made of it joins them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import NamedTuple

import sqlalchemy as sa
from anyio.to_thread import run_sync
from sqlalchemy.engine import Connection
from starlette.requests import ClientDisconnect

from amodal_model.errors import ConflictError, InputError, LimitError, MissingItemError
from amodal_service.ingest_tables import upload_parts, uploads
from amodal_service.storage import Storage

PART_BYTES = 16 << 20
MAX_METADATA = 4096
ALGORITHMS = ("sha1", "sha256", "md5")


@dataclass(frozen=True)
class Upload:
    """A file on its way; times in seconds since the epoch, ``offset`` is how much is here."""

    id: str
    owner: str
    name: str
    metadata: str
    size_bytes: int
    created_s: float
    expires_s: float
    offset: int

    @property
    def prefix(self) -> str:
        """Where its parts are stored."""
        return f"uploads/{self.id}"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.offset == self.size_bytes


class UploadPart(NamedTuple):
    """A stored part: where it begins, its key and its size."""

    start_byte: int
    key: str
    size_bytes: int


def create_upload(
    connection: Connection, owner: str, size_bytes: int, metadata: str, lasts_s: float
) -> Upload:
    """Make an upload without a byte.

    Args:
        connection: to write with.
        owner: whose it is.
        size_bytes: of the whole file.
        metadata: ``key base64,key base64``, as tus has it; ``filename`` is its name.
        lasts_s: its life in seconds where nothing arrives.

    Raises:
        InputError: metadata that is not of this form.
        LimitError: too much of it.
    """
    name = parse_metadata(metadata).get("filename", "")[:255]
    now_s = time.time()
    row = {
        "id": token_hex(16),
        "owner": owner,
        "name": name,
        "metadata": metadata,
        "size_bytes": size_bytes,
        "created_s": now_s,
        "expires_s": now_s + lasts_s,
    }
    connection.execute(uploads.insert().values(row))
    return Upload(**row, offset=0)  # type: ignore[arg-type]  # of the types in the table


def parse_metadata(metadata: str) -> dict[str, str]:
    """Return the values of ``Upload-Metadata``; values that are no text are left out.

    Raises:
        InputError: not pairs of a key and base64.
        LimitError: longer than 4096 characters.
    """
    if len(metadata) > MAX_METADATA:
        raise LimitError(f"upload metadata has {len(metadata)} characters, limit {MAX_METADATA}")
    found = {}
    for pair in filter(None, (each.strip() for each in metadata.split(","))):
        key, _, value = pair.partition(" ")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode()
        except UnicodeDecodeError:
            continue
        except (binascii.Error, ValueError):
            raise InputError(f"upload metadata {key[:40]!r} is not base64") from None
    return found


def find_upload(connection: Connection, upload_id: str, owner: str) -> Upload:
    """Return an upload of an owner.

    Raises:
        MissingItemError: no such upload, expired, or another's; the answer does not tell which.
    """
    query = sa.select(uploads).where(
        uploads.c.id == upload_id, uploads.c.owner == owner, uploads.c.expires_s > time.time()
    )
    row = connection.execute(query).mappings().first()
    if row is None:
        raise MissingItemError(f"no upload {upload_id!r}")
    return Upload(**row, offset=sum(part.size_bytes for part in parts_of(connection, upload_id)))


def parts_of(connection: Connection, upload_id: str) -> list[UploadPart]:
    """Return the stored parts of an upload, in order."""
    columns = [upload_parts.c[name] for name in UploadPart._fields]
    query = sa.select(*columns).where(upload_parts.c.upload_id == upload_id)
    return [UploadPart(*row) for row in connection.execute(query.order_by("start_byte"))]


def add_parts(
    connection: Connection, upload: Upload, parts: Sequence[UploadPart], lasts_s: float
) -> None:
    """Make stored parts count; the upload lives on from now.

    Raises:
        MissingItemError: the upload was removed meanwhile.
        ConflictError: they do not begin where the upload ends: another request was quicker.
    """
    alive = connection.execute(
        uploads.update().where(uploads.c.id == upload.id).values(expires_s=time.time() + lasts_s)
    )
    if not alive.rowcount:
        raise MissingItemError(f"no upload {upload.id!r}")
    offset = sum(part.size_bytes for part in parts_of(connection, upload.id))
    for part in parts:
        if part.start_byte != offset:
            raise ConflictError(f"upload is at byte {offset}, not at {part.start_byte}")
        row = {"upload_id": upload.id, **part._asdict()}
        connection.execute(upload_parts.insert().values(row))
        offset += part.size_bytes


def remove_upload(connection: Connection, upload_id: str) -> None:
    """Forget an upload; its parts in the storage are the caller's to remove."""
    connection.execute(upload_parts.delete().where(upload_parts.c.upload_id == upload_id))
    connection.execute(uploads.delete().where(uploads.c.id == upload_id))


def expired_uploads(connection: Connection, limit: int = 100) -> list[str]:
    """Return the ids of uploads whose life is over."""
    query = sa.select(uploads.c.id).where(uploads.c.expires_s <= time.time()).limit(limit)
    return list(connection.execute(query).scalars())


class Checksum:
    """What ``Upload-Checksum`` promises: ``ALGORITHM BASE64``.

    Raises:
        InputError: another algorithm, or no base64.
    """

    def __init__(self, header: str) -> None:
        name, _, value = header.partition(" ")
        if name not in ALGORITHMS:
            raise InputError(f"checksum {name[:20]!r} is not known, there are {ALGORITHMS}")
        try:
            self._wanted = base64.b64decode(value.strip(), validate=True)
        except (binascii.Error, ValueError):
            raise InputError("upload checksum is not base64") from None
        self._hash = hashlib.new(name, usedforsecurity=False)

    def update(self, content: bytes) -> None:
        """Take in more bytes."""
        self._hash.update(content)

    def holds(self) -> bool:
        """Return whether what was taken in has the checksum."""
        return hmac.compare_digest(self._hash.digest(), self._wanted)


class Intake:
    """The body of a request in parts; a connection that breaks off ends it without an error.

    Attributes:
        taken: bytes so far.
        is_broken: whether the connection broke off.
    """

    def __init__(
        self, stream: AsyncIterator[bytes], room: int, checksum: Checksum | None = None
    ) -> None:
        self.taken = 0
        self.is_broken = False
        self._stream = stream
        self._room = room
        self._checksum = checksum
        self._waiting = b""

    async def has_more(self) -> bool:
        """Wait for the next bytes and return whether there are any."""
        while not self._waiting and not self.is_broken:
            try:
                self._waiting = await anext(self._stream)
            except StopAsyncIteration:
                return False
            except ClientDisconnect:
                self.is_broken = True
        return bool(self._waiting)

    async def part(self) -> AsyncIterator[bytes]:
        """Yield the bytes of one part.

        Raises:
            LimitError: more bytes than the upload has room for.
        """
        left = PART_BYTES
        while left and await self.has_more():
            piece, self._waiting = self._waiting[:left], self._waiting[left:]
            self.taken += len(piece)
            left -= len(piece)
            if self.taken > self._room:
                raise LimitError(f"request goes {self.taken - self._room} bytes beyond the upload")
            if self._checksum is not None:
                self._checksum.update(piece)
            yield piece


async def receive(
    storage: Storage,
    upload: Upload,
    intake: Intake,
    save: Callable[[Sequence[UploadPart]], Awaitable[None]],
    checksum: Checksum | None,
) -> int | None:
    """Store what arrives and return the new offset; ``None`` where the checksum does not hold.

    Args:
        storage: for the parts.
        upload: as it is before.
        intake: the bytes.
        save: makes stored parts count. Called for each part, or, with a checksum, once at the end.
        checksum: what all of the bytes must have; else nothing of this request is kept.

    Raises:
        ConflictError: another request was quicker.
        LimitError: more bytes than the upload has room for.
        StorageError: a part cannot be stored; those before it count.
    """
    offset, waiting = upload.offset, list[UploadPart]()
    try:
        while await intake.has_more():
            key = f"{upload.prefix}/{offset:016d}-{token_hex(4)}"
            before = intake.taken
            await storage.put_stream(key, intake.part())
            waiting.append(UploadPart(offset, key, intake.taken - before))
            offset += intake.taken - before
            if checksum is None:
                await save(waiting)
                waiting = []
        if checksum is None:
            return offset
        if not checksum.holds():
            await run_sync(_discard, storage, waiting)
            return None
        await save(waiting)
    except BaseException:
        _discard(storage, waiting)
        raise
    return offset


def _discard(storage: Storage, parts: Sequence[UploadPart]) -> None:
    for part in parts:
        storage.delete(part.key)
