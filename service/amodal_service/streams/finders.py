"""The sources of visible masks that the streams of a process share."""

from __future__ import annotations

from typing import Any

from amodal_model.source_given import GivenSource
from amodal_model.visible_source import VisibleMaskSource
from amodal_service.mask_sources import SOURCES


class Finders:
    """Sources by the name that options have for them, each made when it is first asked for.

    Args:
        provider: execution provider of their networks, by its name.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._made: dict[str, VisibleMaskSource[Any]] = {"given": GivenSource()}

    def find(self, masks: str) -> VisibleMaskSource[Any]:
        """Return the source of a name.

        Raises:
            ModelError: its network cannot be run.
        """
        if masks not in self._made:
            self._made[masks] = SOURCES[masks].make(self._provider)
        return self._made[masks]
