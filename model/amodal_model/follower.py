"""The seam between prompted objects and the methods that follow them from frame to frame.

A follower begins an object where a prompt shows it, corrects it where points say so, and brings
all of them into the next frame. What it remembers of an object is a value of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from jaxtyping import UInt8

from amodal_model.carried_map import Mapped
from amodal_model.errors import InputError
from amodal_model.image_motion import FrameView
from amodal_model.prompt_masks import Points, Said
from amodal_model.visible_source import Arrays, Expectation


class FollowedThing(Mapped, Protocol):
    """What any follower remembers of an object, and more."""

    @property
    def area(self) -> float:
        """Its usual visible area, frame pixels."""
        ...

    @property
    def frames_gone(self) -> float:
        """Frames since it was in sight."""
        ...


ThingT = TypeVar("ThingT", bound=FollowedThing)


class NextFrame(NamedTuple):
    """A frame that objects are brought into.

    Attributes:
        view: picture and flow.
        grey: the picture in grey at working size.
        before: that of the last frame; without rows where there was none.
    """

    view: FrameView
    grey: UInt8[np.ndarray, "h w"]
    before: UInt8[np.ndarray, "h2 w"]


class Follower(Protocol[ThingT]):
    """Follows prompted objects; without state of its own."""

    def begin(self, image: UInt8[np.ndarray, "H W 3"], said: Said) -> ThingT:
        """Return an object as a prompt shows it: new, or anew."""
        ...

    def correct(self, image: UInt8[np.ndarray, "H W 3"], thing: ThingT, points: Points) -> ThingT:
        """Return an object in sight with points on and off it heeded."""
        ...

    def advance(
        self,
        things: Mapping[int, ThingT],
        frame: NextFrame,
        expected: Mapping[int, Expectation],
    ) -> dict[int, ThingT]:
        """Return all objects in the next frame.

        Args:
            things: as they were remembered, by track id; at least one.
            frame: the frame.
            expected: where the amodal state expects those that it follows.
        """
        ...

    def without(self, thing: ThingT, taken: np.ndarray) -> ThingT:
        """Return an object whose map lacks what others have: (S, S) shares of its window."""
        ...

    def save(self, things: Sequence[ThingT]) -> Arrays:
        """Return what is remembered as plain arrays, an object a row."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray], count: int) -> list[ThingT]:
        """Return what arrays of `save` hold.

        Raises:
            InputError: an array is missing or has another shape.
        """
        ...


def read_rows(
    arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], count: int
) -> list[np.ndarray]:
    """Return arrays of some names, checked: a row an object.

    Raises:
        InputError: an array is missing or has another shape.
    """
    try:
        rows = [arrays[name] for name in shapes]
    except KeyError as error:
        raise InputError(f"state of prompted objects: no proper array {error}") from None
    found = [row.shape for row in rows]
    if found != [(count, *shape) for shape in shapes.values()]:
        raise InputError(f"state of {count} prompted objects has arrays of shapes {found}")
    return rows
