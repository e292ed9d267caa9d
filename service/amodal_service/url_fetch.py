"""Clips by URL: fetched to a file, from public addresses only, up to a size and within a time."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin, urlsplit

import httpcore2

from amodal_model.errors import InputError, LimitError
from amodal_service.address_guard import (
    AddressGuard,
    guarded_connections,
    host_header,
    parse_url,
)
from amodal_service.version import amodal_version

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_QUIET_S = 15.0
"""Longest silence of a server; a trickle is ended by the time for the whole."""


@dataclass(frozen=True)
class FetchLimits:
    """How much is fetched.

    Attributes:
        max_bytes: size of the file.
        timeout_s: seconds for all of it, redirects included.
    """

    max_bytes: int = 2 << 30
    timeout_s: float = 600.0


_DEFAULT_LIMITS = FetchLimits()


@dataclass(frozen=True)
class FetchedFile:
    """What was fetched: where it is, its size, and the last part of the URL that gave it."""

    path: Path
    size_bytes: int
    name: str


def fetch_url(
    url: str,
    target: Path,
    guard: AddressGuard,
    limits: FetchLimits = _DEFAULT_LIMITS,
    *,
    tls: ssl.SSLContext | None = None,
    check: Callable[[], None] = lambda: None,
) -> FetchedFile:
    """Fetch a URL to a file; on any error there is no file.

    Args:
        url: http or https.
        target: the file; must be in a folder that exists.
        guard: judges the addresses, of every redirect too.
        limits: size and time.
        tls: which certificates are believed; those of the system by default.
        check: called with every piece that arrives; what it raises ends the fetch.

    Raises:
        LimitError: larger or slower than the limits, or too many redirects.
        InputError: not public, not there, not reachable, or no plain file.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        with guarded_connections(guard, timeout_s=limits.timeout_s, tls=tls) as pool:
            final_url, size = _follow(pool, url, partial, limits, check)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    name = PurePosixPath(unquote(urlsplit(final_url).path)).name
    return FetchedFile(target, size, name)


def _follow(
    pool: httpcore2.ConnectionPool,
    url: str,
    partial: Path,
    limits: FetchLimits,
    check: Callable[[], None],
) -> tuple[str, int]:
    """Write the body to a file; return where it came from in the end, and its size."""
    for _ in range(MAX_REDIRECTS + 1):
        with _answer(pool, url, limits) as answer:
            if answer.status not in _REDIRECTS:
                return url, _write_body(answer, partial, limits.max_bytes, check)
            url = _next_url(url, answer)
    raise LimitError(f"more than {MAX_REDIRECTS} redirects")


@contextmanager
def _answer(
    pool: httpcore2.ConnectionPool, url: str, limits: FetchLimits
) -> Iterator[httpcore2.Response]:
    """Yield the answer to one GET; what goes wrong on the way is one line."""
    parsed = parse_url(url)
    host = parsed.host.decode()
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("Host", host_header(parsed)),
        ("User-Agent", f"amodal/{amodal_version()}"),
        ("Accept-Encoding", "identity"),  # a compressed body could unfold to any size
        ("Connection", "close"),
    ]
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _QUIET_S)
    try:
        with pool.stream("GET", parsed, headers=headers, extensions={"timeout": timeouts}) as got:
            yield got
    except httpcore2.TimeoutException:
        raise LimitError(
            f"host {host!r} is too slow: {_QUIET_S:g} s without an answer, or "
            f"{limits.timeout_s:g} s for all of it"
        ) from None
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"host {host!r} cannot be fetched from: {reason[:200]}") from None


def _header(answer: httpcore2.Response, name: bytes) -> str:
    values = [value for key, value in answer.headers if key.lower() == name]
    return values[0].decode("latin-1") if values else ""


def _next_url(url: str, answer: httpcore2.Response) -> str:
    try:
        target = urljoin(url, _header(answer, b"location"))
    except ValueError:
        raise InputError("redirected to what is no URL") from None
    if urlsplit(url).scheme == "https" and not target.startswith("https:"):
        raise InputError("redirected from https to a connection that is not encrypted")
    return target


def _write_body(
    answer: httpcore2.Response, partial: Path, max_bytes: int, check: Callable[[], None]
) -> int:
    if answer.status != 200:
        raise InputError(f"the URL answers {answer.status}, must be 200")
    if _header(answer, b"content-encoding").lower() not in ("", "identity"):
        raise InputError("the URL answers with a compressed body, must be a plain file")
    told = _header(answer, b"content-length")
    if told.isdecimal() and int(told) > max_bytes:
        raise LimitError(f"the file at the URL has {told} bytes, limit {max_bytes}")
    size = 0
    with partial.open("wb") as out:
        for part in answer.iter_stream():
            check()
            size += len(part)
            if size > max_bytes:
                raise LimitError(f"the file at the URL has more than {max_bytes} bytes, the limit")
            out.write(part)
    return size
