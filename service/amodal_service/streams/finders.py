"""The sources of visible masks that the streams of a process share."""

from __future__ import annotations

from typing import Any

from amodal_model.source_given import GivenSource
from amodal_model.visible_source import VisibleMaskSource
from amodal_service.mask_sources import SOURCES, Runtime


class Finders:
    """Sources by the name that options have for them, each made when it is first asked for.

    Args:
        runtime: of their networks.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._made: dict[str, VisibleMaskSource[Any]] = {"given": GivenSource()}

    def find(self, masks: str) -> VisibleMaskSource[Any]:
        """Return the source of a name.

        Raises:
            ModelError: its network does not run as it must.
        """
        if masks not in self._made:
            self._made[masks] = SOURCES[masks].make(self._runtime)
        return self._made[masks]
