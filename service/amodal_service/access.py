"""Who calls, and what they may do.

A caller is known by an API key. Without keys the service answers callers on the same machine only,
all of them as one anonymous caller who may do everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Literal

from fastapi import Depends, Request

from amodal_model.errors import AccessError, UnknownCallerError

Scope = Literal["read", "write", "admin"]
SCOPES: frozenset[Scope] = frozenset(("read", "write", "admin"))


@dataclass(frozen=True)
class Caller:
    """Who makes a request.

    Attributes:
        owner: id of the API key; jobs and files belong to it.
        scopes: what the key allows.
    """

    owner: str
    scopes: frozenset[Scope]

    def check(self, scope: Scope) -> None:
        """Raise AccessError where the caller lacks a scope."""
        if scope not in self.scopes:
            raise AccessError(f"this API key lacks the scope {scope!r}")


ANONYMOUS = Caller("anonymous", SCOPES)


def find_caller(request: Request) -> Caller:
    """Return who makes the request.

    Raises:
        UnknownCallerError: no valid key, from another machine.
    """
    if is_loopback(request):
        return ANONYMOUS
    raise UnknownCallerError("an API key is needed: Authorization: Bearer KEY")


def is_loopback(request: Request) -> bool:
    """Return whether the request comes from this machine."""
    host = request.client.host if request.client else ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in {"localhost", "testclient"}


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
