"""Stored files: a folder, memory or an object store behind one small surface.

Every `put` is atomic: under its key a reader finds the whole value or nothing. Keys are
``a/b/c`` and never come from a client.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, ObjectStore, from_url

from amodal_model.errors import AmodalError, InputError, MissingItemError, StorageError

PART_BYTES = 1 << 20


class StoredFile(NamedTuple):
    """A stored file: its key, its size in bytes and the time of its last change."""

    key: str
    size_bytes: int
    modified_s: float


class Storage:
    """Files by key; `open_storage` makes it."""

    def __init__(self, store: ObjectStore, root: Path | None = None) -> None:
        self._store = store
        self._root = root

    @property
    def folder(self) -> Path | None:
        """The folder that the files lie in, where it is one."""
        return self._root

    def put(self, key: str, content: bytes | Path) -> None:
        """Store bytes, or a copy of a local file, in one visible step.

        Raises:
            StorageError: the store is full or cannot be reached.
        """
        with _store_errors(key):
            obstore.put(self._store, key, content)

    def join(self, keys: Sequence[str], target: str) -> None:
        """Store the contents of some files, one after the other, as one file.

        By way of a local file: the store cannot be read while it is being written to.

        Raises:
            MissingItemError: no such key.
            StorageError: the store is full or cannot be reached.
        """
        if len(keys) == 1:
            self.copy(keys[0], target)
            return
        with NamedTemporaryFile(prefix="amodal-") as joined:
            for key in keys:
                for part in self.parts(key):
                    joined.write(part)
            joined.flush()
            self.put(target, Path(joined.name))

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """Store what the iterator gives; memory holds a few parts of it at a time.

        An exception of the iterator passes through, and nothing is stored then.

        Raises:
            StorageError: the store is full or cannot be reached.
        """
        with _store_errors(key):
            await obstore.put_async(
                self._store, key, parts, chunk_size=5 * PART_BYTES, max_concurrency=2
            )

    def get(self, key: str) -> bytes:
        """Return a whole file.

        Raises:
            MissingItemError: no such key.
        """
        with _store_errors(key):
            return bytes(obstore.get(self._store, key).bytes())

    def get_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from ``start`` up to, not including, ``end``."""
        with _store_errors(key):
            return bytes(obstore.get_range(self._store, key, start=start, end=end))

    def parts(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield a file, or a range of it, in parts of at most 1 MiB."""
        end = self.describe(key).size_bytes if end is None else end
        for at in range(start, end, PART_BYTES):
            yield self.get_range(key, at, min(at + PART_BYTES, end))

    def describe(self, key: str) -> StoredFile:
        """Return size and time of a file.

        Raises:
            MissingItemError: no such key.
        """
        with _store_errors(key):
            meta = obstore.head(self._store, key)
        return StoredFile(key, meta["size"], meta["last_modified"].timestamp())

    def exists(self, key: str) -> bool:
        """Return whether something is stored under the key."""
        try:
            self.describe(key)
        except MissingItemError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[StoredFile]:
        """Yield the files below a prefix (whole path segments)."""
        with _store_errors(prefix):
            for batch in obstore.list(self._store, prefix=prefix):
                for meta in batch:
                    yield StoredFile(meta["path"], meta["size"], meta["last_modified"].timestamp())

    def copy(self, source: str, target: str) -> None:
        """Store a file under another key as well.

        Raises:
            MissingItemError: no such key.
        """
        with _store_errors(source):
            obstore.copy(self._store, source, target)

    def total_bytes(self) -> int:
        """Return the size of all stored files."""
        with _store_errors("all files"):
            return sum(meta["size"] for batch in obstore.list(self._store) for meta in batch)

    def delete(self, key: str) -> None:
        """Remove a file; that it is not there is no error."""
        try:
            with _store_errors(key):
                obstore.delete(self._store, key)
        except MissingItemError:
            return

    def delete_below(self, prefix: str) -> None:
        """Remove every file below a prefix."""
        for found in list(self.list(prefix)):
            self.delete(found.key)

    @contextmanager
    def local_file(self, key: str, *, suffix: str = "") -> Iterator[Path]:
        """Yield a path that has the file's content; a copy where the store is no folder.

        Raises:
            MissingItemError: no such key.
        """
        if self._root is not None:
            self.describe(key)
            yield self._root / key
            return
        with NamedTemporaryFile(prefix="amodal-", suffix=suffix) as copy:
            for part in self.parts(key):
                copy.write(part)
            copy.flush()
            yield Path(copy.name)


def open_storage(url: str) -> Storage:
    """Return the storage of a URL: ``file:///``, ``memory://``, ``s3://``, ``gs://``, ``az://``.

    Raises:
        InputError: a URL that names no store.
        StorageError: the store cannot be opened.
    """
    parsed = urlsplit(url)
    if parsed.scheme == "memory":
        return Storage(MemoryStore())
    if parsed.scheme == "file":
        root = Path(unquote(parsed.path))
        with _store_errors(url):
            root.mkdir(parents=True, exist_ok=True)
            return Storage(LocalStore(root, automatic_cleanup=True), root)
    if parsed.scheme not in {"s3", "gs", "az"}:
        raise InputError(
            f"storage URL {url!r}: scheme must be file, memory, s3, gs or az (AMODAL_STORAGE_URL)"
        )
    with _store_errors(url):
        return Storage(from_url(url))


@contextmanager
def _store_errors(key: str) -> Iterator[None]:
    """Turn the errors of a store into ours, one line each."""
    try:
        yield
    except AmodalError:
        raise  # of what is being stored, not of the store
    except FileNotFoundError:
        raise MissingItemError(f"nothing is stored under {key!r}") from None
    except ValueError:
        raise InputError(f"{key!r} is not a key of the storage") from None
    except (BaseError, OSError) as error:
        raise StorageError(f"storage failed at {key!r}: {str(error).splitlines()[0]}") from error
