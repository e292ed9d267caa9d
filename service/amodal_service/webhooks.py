"""Delivery of webhooks by the Standard Webhooks specification (standardwebhooks.com).

``webhook-id`` stays the same in every attempt, ``webhook-timestamp`` is that of the attempt, and
``webhook-signature`` is ``v1,`` with the HMAC-SHA256 of id, timestamp and body under the secret
that the client gave. Anything but a 2xx answer is tried again, later and later; 410 ends it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import random
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import httpcore2
import structlog

from amodal_model.errors import InputError
from amodal_service.address_guard import (
    AddressGuard,
    guarded_connections,
    host_header,
    parse_url,
)
from amodal_service.database import Database
from amodal_service.version import amodal_version
from amodal_service.webhook_outbox import Message, set_outcome, take_due

SECRET_PREFIX = "whsec_"  # noqa: S105  (what every secret begins with)
ATTEMPT_S = 15.0
FIRST_RETRY_S, LONGEST_RETRY_S, RETRY_FACTOR = 5.0, 6 * 3600.0, 4.0
GONE = 410

_log = structlog.get_logger()


class Refusal(NamedTuple):
    """Why a receiver did not accept a message, and whether it never will."""

    reason: str
    is_final: bool = False


def secret_key(secret: str) -> bytes:
    """Return the key of a secret ``whsec_BASE64``.

    Raises:
        InputError: not of that form, or not 24 to 64 bytes.
    """
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not 24 <= len(key) <= 64:
        raise InputError("webhook secret must be whsec_ and 24 to 64 bytes in base64")
    return key


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of ``webhook-signature``.

    Source: Standard Webhooks, "Signature scheme".
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def post_message(
    message: Message, guard: AddressGuard, tls: ssl.SSLContext | None = None
) -> Refusal | None:
    """Make one attempt; return why it was not accepted, ``None`` where it was."""
    try:
        status = _post(message, guard, tls)
    except InputError as error:
        return Refusal(str(error))
    except httpcore2.TimeoutException:
        return Refusal(f"no answer within {ATTEMPT_S:g} s")
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Refusal(reason[:200])
    if 200 <= status < 300:
        return None
    return Refusal(f"answered {status}", is_final=status == GONE)


def _post(message: Message, guard: AddressGuard, tls: ssl.SSLContext | None) -> int:
    url, body, timestamp = parse_url(message.url), message.payload.encode(), int(time.time())
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("Host", host_header(url)),
        ("User-Agent", f"amodal/{amodal_version()}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("webhook-id", message.id),
        ("webhook-timestamp", str(timestamp)),
        ("webhook-signature", signature(message.secret, message.id, timestamp, body)),
        ("Connection", "close"),
    ]
    with (
        guarded_connections(guard, timeout_s=ATTEMPT_S, tls=tls) as pool,
        pool.stream("POST", url, headers=headers, content=body) as answer,
    ):
        return answer.status  # the body of the answer is nobody's business and is not read


def deliver_due(
    database: Database, guard: AddressGuard, *, for_s: float, tls: ssl.SSLContext | None = None
) -> int:
    """Make one attempt with every message that is due; return how many there were.

    Args:
        database: of the messages.
        guard: judges addresses.
        for_s: how long after its creation a message is tried again.
        tls: which certificates are believed; those of the system by default.
    """
    with database.write() as connection:
        due = take_due(connection, lease_s=4 * ATTEMPT_S)
    if due:  # side by side: one receiver that does not answer must not hold up the others
        with ThreadPoolExecutor(len(due), "amodal-webhook") as pool:
            list(pool.map(lambda message: _attempt(database, message, guard, for_s, tls), due))
    return len(due)


def _attempt(
    database: Database,
    message: Message,
    guard: AddressGuard,
    for_s: float,
    tls: ssl.SSLContext | None,
) -> None:
    refusal = post_message(message, guard, tls)
    retry_s = time.time() + retry_delay_s(message.attempts)
    is_over = refusal is None or refusal.is_final or retry_s > message.created_s + for_s
    next_s = None if is_over else retry_s
    error = refusal.reason if refusal else None
    with database.write() as connection:
        set_outcome(connection, message, error, next_s)
    outcome = "delivered" if error is None else "given_up" if next_s is None else "retried"
    _log.info(
        "webhook", outcome=outcome, job_id=message.job_id, attempt=message.attempts, error=error
    )


def retry_delay_s(attempts: int) -> float:
    """Return the seconds to wait after so many attempts, a fifth more or less by chance."""
    plain_s = min(FIRST_RETRY_S * RETRY_FACTOR ** (attempts - 1), LONGEST_RETRY_S)
    return plain_s * random.uniform(0.8, 1.2)  # noqa: S311  (spreads load, hides nothing)
