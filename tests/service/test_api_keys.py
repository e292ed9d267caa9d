"""API keys in a real database, and the command that makes them."""

import re
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from command_line import Run

from amodal_model.errors import InputError, MissingItemError, UnknownCallerError
from amodal_service.api_keys import create_key, find_key, list_keys, revoke_key, rotate_key
from amodal_service.database import Database, open_database
from amodal_service.ingest_tables import api_keys


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/amodal.sqlite3")


def test_a_token_finds_its_key_and_is_stored_nowhere(database: Database) -> None:
    with database.write() as connection:
        made = create_key(connection, "arm", ["read"], allowance={"active_jobs": 3})
        assert find_key(connection, made.token) == made.key
        stored = str(connection.execute(sa.select(api_keys)).all())
    assert re.fullmatch(r"amodal_[0-9a-f]{16}_[\w-]{43}", made.token)
    assert made.token.rsplit("_", 1)[-1] not in stored
    assert made.key.scopes == {"read"}
    assert made.key.allowance == {"active_jobs": 3}


def test_a_token_that_is_not_whole_finds_nothing(database: Database) -> None:
    with database.write() as connection:
        token = create_key(connection, "arm", ["read"]).token
        other = create_key(connection, "leg", ["read"]).token
        mixed = token[:24] + other[24:]
        for wrong in (token[:-1], token + "x", mixed, "", "amodal_", token.upper(), "é" * 67):
            with pytest.raises(UnknownCallerError, match="unknown, expired or revoked"):
                find_key(connection, wrong)


def test_a_key_expires_and_can_be_revoked(database: Database) -> None:
    with database.write() as connection:
        short = create_key(connection, "arm", ["read"], lasts_s=0.05)
        other = create_key(connection, "leg", ["read"])
        find_key(connection, short.token)
        time.sleep(0.06)
        revoke_key(connection, other.key.id)
        for token in (short.token, other.token):
            with pytest.raises(UnknownCallerError):
                find_key(connection, token)
        with pytest.raises(MissingItemError, match="no API key 'x'"):
            revoke_key(connection, "x")


def test_a_rotated_key_keeps_its_owner_and_the_old_one_ends(database: Database) -> None:
    with database.write() as connection:
        old = create_key(connection, "arm", ["write"], allowance={"active_jobs": 3})
        new = rotate_key(connection, old.key.id, overlap_s=0.05)
        assert new.key.owner == old.key.owner
        assert new.key.name == "arm"
        assert new.key.scopes == {"write"}
        assert new.key.allowance == {"active_jobs": 3}
        find_key(connection, old.token)
        time.sleep(0.06)
        with pytest.raises(UnknownCallerError):
            find_key(connection, old.token)
        assert find_key(connection, new.token).id == new.key.id
        with pytest.raises(InputError, match="expired or was revoked"):
            rotate_key(connection, old.key.id, overlap_s=60)


def test_a_name_is_needed(database: Database) -> None:
    with database.write() as connection:
        for name in ("", " ", "x" * 129):
            with pytest.raises(InputError, match="must be 1 to 128"):
                create_key(connection, name, ["read"])


def test_the_command_makes_lists_replaces_and_revokes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amodal: Run
) -> None:
    monkeypatch.setenv("AMODAL_DATA", str(tmp_path))
    made = amodal("keys", "create", "arm", "--scope", "read", "--expires", "90d")
    assert made.code == 0
    token = made.out.strip()
    with database.read() as connection:
        key = find_key(connection, token)
    assert key.expires_s is not None
    assert key.expires_s - key.created_s == pytest.approx(90 * 86400)
    rotated = amodal("keys", "rotate", key.id, "--overlap", "0s")
    assert rotated.code == 0
    assert rotated.out.strip() != token
    listed = amodal("keys", "list")
    assert listed.code == 0
    assert "valid" in listed.out
    assert "expired" in listed.out
    assert amodal("keys", "revoke", key.id).code == 0
    with database.read() as connection:
        assert len([key for key in list_keys(connection) if key.is_valid(time.time())]) == 1


def test_a_wrong_scope_or_duration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, amodal: Run
) -> None:
    monkeypatch.setenv("AMODAL_DATA", str(tmp_path))
    for arguments in (["--scope", "root"], ["--expires", "soon"]):
        ran = amodal("keys", "create", "arm", *arguments)
        assert ran.code == 2
        assert len(ran.err.strip().splitlines()) == 1
