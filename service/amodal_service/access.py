"""Who calls, and what they may do.

A caller is known by an API key (``Authorization: Bearer KEY``). A caller on the same machine needs
none and is the one anonymous caller, who may do everything: unless the request was handed on by a
proxy, or comes from a page of another site that is open in a browser on this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from starlette.requests import HTTPConnection

from amodal_model.errors import AccessError, LimitError, UnknownCallerError
from amodal_service.api_keys import SCOPES, Scope, find_key
from amodal_service.policies import UNLIMITED, Allowance
from amodal_service.rate_limits import check_usage
from amodal_service.services import Services, ServicesDep

_HANDED_ON = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


@dataclass(frozen=True)
class Caller:
    """Who makes a request.

    Attributes:
        owner: whose API key it is; jobs and files belong to the owner.
        scopes: what the key allows.
        allowance: what the owner may use.
    """

    owner: str
    scopes: frozenset[str]
    allowance: Allowance = UNLIMITED

    def check(self, scope: Scope) -> None:
        """Raise AccessError where the caller lacks a scope."""
        if scope not in self.scopes:
            raise AccessError(f"this API key lacks the scope {scope!r}")


ANONYMOUS = Caller("anonymous", SCOPES)


def find_caller(request: Request, services: ServicesDep) -> Caller:
    """Return who makes the request, and count it.

    Raises:
        UnknownCallerError: no valid key, and not from this machine.
        QuotaError: the caller has used up an allowance.
        LimitError: the body is larger than what is left of it.
    """
    caller = identify(request, services)
    if caller is not ANONYMOUS:
        _check_usage(request, services, caller)
        request.state.charged_owner = caller.owner  # `BodyMeter` counts what it sends
    return caller


def identify(connection: HTTPConnection, services: Services) -> Caller:
    """Return who a request or a websocket comes from, counted as a request.

    Raises:
        UnknownCallerError: no valid key, and not from this machine.
        QuotaError: too many requests.
    """
    kind, _, token = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        caller = _caller_of_key(services, token.strip())
    elif services.policies.anonymous and is_local(connection):
        caller = ANONYMOUS
    else:
        raise UnknownCallerError("an API key is needed: Authorization: Bearer KEY")
    services.rate.take(caller.owner, caller.allowance.requests_per_minute)
    return caller


def _caller_of_key(services: Services, token: str) -> Caller:
    with services.database.read() as connection:
        key = find_key(connection, token)
    allowance = services.policies.allowance.model_copy(update=dict(key.allowance))
    return Caller(key.owner, key.scopes, allowance)


def _check_usage(request: Request, services: Services, caller: Caller) -> None:
    length = request.headers.get("content-length", "")
    if length == "0" or (not length and request.method in {"GET", "HEAD", "DELETE"}):
        return  # what only looks costs nothing
    with services.database.read() as connection:
        check_usage(connection, caller.owner, caller.allowance)
    limit = caller.allowance.bytes_per_hour
    if limit and length.isdecimal() and int(length) > limit:
        raise LimitError(f"request is {length} bytes, limit {limit} an hour")


def is_local(request: HTTPConnection) -> bool:
    """Return whether a request comes from a program on this machine."""
    host = request.client.host if request.client else ""
    if not (is_loopback_name(host) or host == "testclient"):
        return False
    if any(name in request.headers for name in _HANDED_ON):
        return False
    named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    if not (is_loopback_name(named) or named == "testserver"):
        return False  # a name of another site that was made to point here
    origin = request.headers.get("origin")
    return origin is None or is_loopback_name(urlsplit(origin).hostname or "")


@lru_cache(256)
def is_loopback_name(host: str) -> bool:
    """Return whether a host, by name or address, is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _reader(caller: Annotated[Caller, Depends(find_caller)]) -> Caller:
    caller.check("read")
    return caller


def _writer(caller: Annotated[Caller, Depends(find_caller)]) -> Caller:
    caller.check("write")
    return caller


Reader = Annotated[Caller, Depends(_reader)]
"""A caller who may look at what is theirs."""
Writer = Annotated[Caller, Depends(_writer)]
"""A caller who may send clips and change what is theirs."""
