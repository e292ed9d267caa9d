"""All checks, run one after the other, each on streams of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from websockets.exceptions import ConnectionClosed

from amodal_model.errors import UnavailableError
from amodal_service.conformance.endings import ENDINGS
from amodal_service.conformance.frames import FRAMES
from amodal_service.conformance.handshake import HANDSHAKE
from amodal_service.conformance.probe import NotSeen, Violation
from amodal_service.conformance.refusals import REFUSALS
from amodal_service.conformance.target import Target

Check: TypeAlias = Callable[[Target], None]
CHECKS: tuple[Check, ...] = (*HANDSHAKE, *FRAMES, *REFUSALS, *ENDINGS)


@dataclass(frozen=True)
class Verdict:
    """What came of a check.

    Attributes:
        name: of the check.
        demand: what the protocol asks for.
        outcome: ``not seen``: the server gave no occasion to check it.
        why: what was found instead, or why it was not seen.
        seconds: that it took.
    """

    name: str
    demand: str
    outcome: Literal["pass", "fail", "not seen"]
    why: str
    seconds: float


def run_checks(target: Target, checks: Sequence[Check] = CHECKS) -> Iterator[Verdict]:
    """Yield the verdict of every check, as soon as it is there.

    Raises:
        UnavailableError: the server cannot be reached at all.
    """
    target.request("GET", "/healthz")
    for check in checks:
        yield judge(check, target)


def judge(check: Check, target: Target) -> Verdict:
    """Return what comes of one check."""
    started_s = time.monotonic()
    outcome: Literal["pass", "fail", "not seen"] = "pass"
    why = ""
    try:
        check(target)
    except NotSeen as reason:
        outcome, why = "not seen", str(reason)
    except Violation as violation:
        outcome, why = "fail", str(violation)
    except UnavailableError as error:
        outcome, why = "fail", f"out of reach: {error}"
    except ConnectionClosed as error:
        outcome, why = "fail", f"the connection was closed: {error}"
    seconds = time.monotonic() - started_s
    demand = (check.__doc__ or "").strip().rstrip(".")
    return Verdict(check.__name__, demand, outcome, why, seconds)
