"""API keys: made, found, replaced, withdrawn. Of a secret only its digest is stored.

A key reads ``amodal_ID_SECRET``; the secret has 256 random bits, so a plain digest keeps it. Jobs
and files belong to a key's *owner*, which stays the same when the key is replaced.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from secrets import token_hex, token_urlsafe
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from amodal_model.errors import InputError, MissingItemError, UnknownCallerError
from amodal_service.ingest_tables import api_keys

Scope = Literal["read", "write", "admin"]
SCOPES: frozenset[str] = frozenset(("read", "write", "admin"))
PREFIX = "amodal"
MAX_NAME = 128
_TOKEN = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([\w-]{{43}})")
_INVALID = "the API key is not valid: unknown, expired or revoked"


@dataclass(frozen=True)
class ApiKey:
    """One key, without its secret; times in seconds since the epoch."""

    id: str
    owner: str
    name: str
    scopes: frozenset[str]
    allowance: Mapping[str, int]
    created_s: float
    expires_s: float | None
    revoked_s: float | None

    def is_valid(self, now_s: float) -> bool:
        """Return whether the key opens anything at a time."""
        return self.revoked_s is None and (self.expires_s is None or now_s < self.expires_s)


class NewKey(NamedTuple):
    """A key with its token, which is shown once and stored nowhere."""

    key: ApiKey
    token: str


def create_key(
    connection: Connection,
    name: str,
    scopes: Collection[str],
    *,
    lasts_s: float | None = None,
    allowance: Mapping[str, int] | None = None,
    owner: str | None = None,
) -> NewKey:
    """Make a key.

    Args:
        connection: to write with.
        name: for people.
        scopes: what it allows.
        lasts_s: seconds until it expires; ``None``: never.
        allowance: fields of `policies.Allowance` that differ for its owner.
        owner: whose it is; by default a new owner's.

    Raises:
        InputError: no name, or too long a one.
    """
    if not name.strip() or len(name) > MAX_NAME:
        raise InputError(f"name of a key has {len(name)} characters, must be 1 to {MAX_NAME}")
    key_id, secret, now_s = token_hex(8), token_urlsafe(32), time.time()
    key = ApiKey(
        key_id,
        owner or f"key-{key_id}",
        name,
        frozenset(scopes),
        dict(allowance or {}),
        now_s,
        None if lasts_s is None else now_s + lasts_s,
        None,
    )
    row = {**vars(key), "scopes": sorted(key.scopes), "secret_sha256": _digest(secret)}
    connection.execute(api_keys.insert().values(row))
    return NewKey(key, f"{PREFIX}_{key_id}_{secret}")


def find_key(connection: Connection, token: str) -> ApiKey:
    """Return the key of a token.

    Raises:
        UnknownCallerError: no such key, or not valid any more; the answer does not tell which.
    """
    match = _TOKEN.fullmatch(token)
    row = _row(connection, match.group(1)) if match else None
    if match is None or row is None:
        raise UnknownCallerError(_INVALID)
    if not hmac.compare_digest(row["secret_sha256"], _digest(match.group(2))):
        raise UnknownCallerError(_INVALID)
    key = _key(row)
    if not key.is_valid(time.time()):
        raise UnknownCallerError(_INVALID)
    return key


def list_keys(connection: Connection) -> list[ApiKey]:
    """Return every key, oldest first."""
    rows = connection.execute(sa.select(api_keys).order_by(api_keys.c.created_s)).mappings()
    return [_key(row) for row in rows]


def revoke_key(connection: Connection, key_id: str) -> None:
    """Withdraw a key at once; one that was withdrawn before stays so.

    Raises:
        MissingItemError: no such key.
    """
    changed = connection.execute(
        api_keys.update()
        .where(api_keys.c.id == key_id)
        .values(revoked_s=sa.func.coalesce(api_keys.c.revoked_s, time.time()))
    )
    if not changed.rowcount:
        raise MissingItemError(f"no API key {key_id!r}")


def rotate_key(
    connection: Connection, key_id: str, *, overlap_s: float, lasts_s: float | None = None
) -> NewKey:
    """Replace a key by one of the same owner, name, scopes and allowance.

    Args:
        connection: to write with.
        key_id: of the old key.
        overlap_s: seconds for which the old key still opens.
        lasts_s: life of the new key; ``None``: for ever.

    Raises:
        MissingItemError: no such key.
        InputError: it is not valid any more.
    """
    row = _row(connection, key_id)
    if row is None:
        raise MissingItemError(f"no API key {key_id!r}")
    old, end_s = _key(row), time.time() + overlap_s
    if not old.is_valid(time.time()):
        raise InputError(f"API key {key_id} has expired or was revoked: make a new one")
    expires_s = end_s if old.expires_s is None else min(end_s, old.expires_s)
    connection.execute(api_keys.update().where(api_keys.c.id == key_id).values(expires_s=expires_s))
    return create_key(
        connection,
        old.name,
        old.scopes,
        lasts_s=lasts_s,
        allowance=old.allowance,
        owner=old.owner,
    )


def _row(connection: Connection, key_id: str) -> sa.RowMapping | None:
    query = sa.select(api_keys).where(api_keys.c.id == key_id)
    return connection.execute(query).mappings().first()


def _key(row: Mapping[Any, Any]) -> ApiKey:
    return ApiKey(
        row["id"],
        row["owner"],
        row["name"],
        frozenset(row["scopes"]),
        row["allowance"],
        row["created_s"],
        row["expires_s"],
        row["revoked_s"],
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
