"""Requests to addresses that a client names, kept away from what only this machine can reach.

A name is resolved once, every address it has is judged, and the connection goes to an address that
was judged: a name that answers differently the next time gains nothing. That happens below HTTP,
where connections are made, so no redirect and no proxy setting goes around it.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

import httpcore2

from amodal_model.errors import InputError

MAX_URL_LENGTH = 2048
MAX_ADDRESSES = 4
_SPECIAL = tuple(  # special-purpose ranges of the IANA registries that older Pythons call global
    ip_network(each)
    for each in ("192.0.0.0/24", "192.88.99.0/24", "64:ff9b:1::/48", "3fff::/20", "5f00::/16")
)
_NAT64 = ip_network("64:ff9b::/96")
_IPV4_COMPATIBLE = ip_network("::/96")

Resolve = Callable[[str, int], list[str]]


def system_addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system's resolver gives them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class AddressGuard:
    """Which addresses may be talked to.

    Attributes:
        allowed_hosts: names, as they stand in URLs, that may have any address: of a store in the
            own network, or of a test.
        resolve: gives the addresses of a name.
    """

    allowed_hosts: frozenset[str] = frozenset()
    resolve: Resolve = system_addresses

    def addresses(self, host: str, port: int) -> list[str]:
        """Return addresses of a host that may be connected to.

        Raises:
            InputError: an address of it is not public, or it has none.
        """
        try:
            found = self.resolve(host, port)
        except (OSError, UnicodeError):
            found = []
        if not found:
            raise InputError(f"host {host!r} cannot be resolved")
        if host.lower() not in self.allowed_hosts:
            for address in found:
                if not is_public(address):
                    raise InputError(
                        f"host {host!r} has the address {address}, which is not public"
                    )
        return found[:MAX_ADDRESSES]


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet.

    Private, loopback, link-local, multicast, reserved and unspecified addresses are not, nor is an
    IPv6 address that stands for an IPv4 address which is not.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if any(parsed in network for network in _SPECIAL):
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id or parsed.is_site_local:
            return False
        inner = _inner_address(parsed)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved)


def _inner_address(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, where it is such a one."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _IPV4_COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def parse_url(url: str) -> httpcore2.URL:
    """Return the parts of a URL to fetch from or post to.

    Raises:
        InputError: not http or https, a user name in it, or nothing that is a URL.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InputError(f"URL has {len(url)} characters, limit {MAX_URL_LENGTH}")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise InputError("URL holds a character that no URL may hold")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InputError("URL cannot be read") from None
    if parts.scheme not in ("http", "https"):
        raise InputError(f"URL is of the kind {parts.scheme[:20]!r}, must be http or https")
    if not host or parts.username is not None or parts.password is not None:
        raise InputError("URL needs a host, and may not hold a user name or a password")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore2.URL(
        scheme=parts.scheme.encode(), host=host.encode(), port=port, target=target.encode()
    )


def host_header(url: httpcore2.URL) -> bytes:
    """Return a URL's host and port as a request names them."""
    host = b"[%s]" % url.host if b":" in url.host else url.host
    return host if url.port is None else host + b":%d" % url.port


@contextmanager
def guarded_connections(
    guard: AddressGuard, *, timeout_s: float, tls: ssl.SSLContext | None = None
) -> Iterator[httpcore2.ConnectionPool]:
    """Yield connections that reach judged addresses only, and none for longer than a time.

    Args:
        guard: judges addresses.
        timeout_s: for all that is done in the ``with`` block.
        tls: which certificates are believed; those of the system by default.
    """
    backend = _GuardedBackend(guard, time.monotonic() + timeout_s)
    with httpcore2.ConnectionPool(
        ssl_context=tls, max_connections=1, network_backend=backend
    ) as pool:
        yield pool


class _GuardedBackend(httpcore2.NetworkBackend):
    """Makes connections: resolve, judge, connect to what was judged."""

    def __init__(self, guard: AddressGuard, deadline_s: float) -> None:
        self._guard = guard
        self._deadline_s = deadline_s
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        failure: Exception = httpcore2.ConnectError(f"{host}: no address")
        for address in self._guard.addresses(host, port):
            left_s = _left(self._deadline_s, timeout, httpcore2.ConnectTimeout)
            try:
                stream = self._plain.connect_tcp(
                    address, port, left_s, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
            else:
                return _TimedStream(stream, self._deadline_s)
        raise failure


class _TimedStream(httpcore2.NetworkStream):
    """A connection on which nothing goes on beyond a deadline, however slowly it trickles."""

    def __init__(self, plain: httpcore2.NetworkStream, deadline_s: float) -> None:
        self._plain = plain
        self._deadline_s = deadline_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._plain.read(max_bytes, _left(self._deadline_s, timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._plain.write(buffer, _left(self._deadline_s, timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left_s = _left(self._deadline_s, timeout, httpcore2.ConnectTimeout)
        stream = self._plain.start_tls(ssl_context, server_hostname, left_s)
        return _TimedStream(stream, self._deadline_s)

    def get_extra_info(self, info: str) -> Any:
        return self._plain.get_extra_info(info)


def _left(deadline_s: float, timeout_s: float | None, late: type[Exception]) -> float:
    """Return the seconds a step may take; raise where there are none."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise late("the time is over")
    return left_s if timeout_s is None else min(left_s, timeout_s)
