"""The type checker that jaxtyping puts on every function of the packages under pytest."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

P = ParamSpec("P")
R = TypeVar("R")

CONF = BeartypeConf(is_pep484_tower=True)
"""An int is a float, as mypy has it."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return the function checked by beartype, or as it is where beartype cannot read a hint.

    beartype 0.23 reads neither a NamedTuple that is generic (`MemoryState[Any]`) nor a protocol
    that is not checkable at run time (`Engine`).
    """
    try:
        return beartype(conf=CONF)(function)
    except BeartypeDecorHintException:
        return function
