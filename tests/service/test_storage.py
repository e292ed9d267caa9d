"""Stored files: whole or not at all, in a folder, in memory and on an S3 server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from s3_server import MISSING, running_s3, s3_program

from amodal_model.errors import InputError, LimitError, MissingItemError
from amodal_service.storage import PART_BYTES, Storage, open_storage


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    if s3_program() is None:
        pytest.skip(MISSING)
    with running_s3() as environment:
        yield environment


@pytest.fixture(params=["folder", "memory", "s3"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "s3":
        environment = request.getfixturevalue("s3")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return open_storage(f"{environment['AMODAL_STORAGE_URL']}/{tmp_path.name}")
    return open_storage("memory://" if request.param == "memory" else tmp_path.as_uri())


def test_what_is_put_is_got(storage: Storage) -> None:
    storage.put("jobs/a/results", b"0123456789")
    assert storage.get("jobs/a/results") == b"0123456789"
    assert storage.get_range("jobs/a/results", 2, 5) == b"234"
    assert storage.describe("jobs/a/results").size_bytes == 10
    assert [found.key for found in storage.list("jobs/a")] == ["jobs/a/results"]


def test_parts_join_to_the_whole(storage: Storage) -> None:
    content = bytes(range(256)) * 5000
    storage.put("big", content)
    parts = list(storage.parts("big"))
    assert [len(part) for part in parts] == [PART_BYTES, len(content) - PART_BYTES]
    assert b"".join(parts) == content
    assert b"".join(storage.parts("big", 3, 9)) == content[3:9]


def test_a_stream_that_fails_leaves_nothing(storage: Storage) -> None:
    async def cut_off() -> AsyncIterator[bytes]:
        yield b"x" * (6 * PART_BYTES)
        raise LimitError("too long")

    with pytest.raises(LimitError, match="too long"):
        asyncio.run(storage.put_stream("uploads/1", cut_off()))
    assert not storage.exists("uploads/1")
    assert list(storage.list("uploads")) == []


def test_a_stream_arrives_whole(storage: Storage) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(12):
            yield bytes([number]) * PART_BYTES

    asyncio.run(storage.put_stream("uploads/2", parts()))
    assert storage.get("uploads/2") == b"".join(bytes([n]) * PART_BYTES for n in range(12))


def test_what_is_not_there_is_named(storage: Storage) -> None:
    with pytest.raises(MissingItemError, match="nothing is stored under 'absent'"):
        storage.get("absent")
    storage.delete("absent")


def test_everything_below_a_prefix_goes(storage: Storage) -> None:
    for key in ("jobs/a/1", "jobs/a/b/2", "jobs/ab/3"):
        storage.put(key, b"")
    storage.delete_below("jobs/a")
    assert [found.key for found in storage.list("jobs")] == ["jobs/ab/3"]


def test_a_local_file_has_the_content(storage: Storage) -> None:
    storage.put("clip", b"frames")
    with storage.local_file("clip", suffix=".mp4") as path:
        assert path.read_bytes() == b"frames"


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(InputError, match="scheme must be file, memory, s3, gs or az"):
        open_storage("ftp://somewhere/x")
