"""Where a request says its visible masks come from, and which file it then has to bring.

``given``: in a file ``visible``, as YouTube-VIS. ``prompted``: found from a file ``prompts``, which
says where the objects are in a frame or more. ``motion``: found without a word, where things move.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from amodal_model.errors import InputError

MaskChoice = Literal["given", "prompted", "motion"]

_FILES: dict[MaskChoice, str] = {"given": "visible", "prompted": "prompts"}


def mask_file(masks: MaskChoice) -> str | None:
    """Return the name of the file that a choice needs."""
    return _FILES.get(masks)


def check_mask_files(masks: MaskChoice, given: Collection[str]) -> None:
    """Refuse a request that lacks the file that its choice needs, or brings the other one.

    Args:
        masks: the choice.
        given: names of what the request brings.

    Raises:
        InputError: names what is missing or not wanted.
    """
    needed = _FILES.get(masks)
    for other in ("visible", "prompts"):
        if other in given and other != needed:
            fitting = next(name for name, file in _FILES.items() if file == other)
            raise InputError(f"masks {masks!r} takes no {other!r}, masks {fitting!r} does")
    if needed is not None and needed not in given:
        choices = ", ".join(get_args(MaskChoice))
        raise InputError(f"masks {masks!r} needs {needed!r} (masks is one of {choices})")
