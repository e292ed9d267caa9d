"""Prompts, removals and resets of a stream, kept until they need no sending again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from amodal_client.errors import UsageError
from amodal_client.stream_frames import placed_mask
from amodal_client.stream_messages import (
    PromptAck,
    PromptMessage,
    PromptObject,
    Reset,
    StreamObject,
)
from amodal_client.values import Mask

MAX_ORDERS = 256
OrderMessage: TypeAlias = PromptMessage | Reset


@dataclass
class _Order:
    """An order; ``at`` is the frame it was made before, ``effective_seq`` what the server said."""

    id: str
    message: OrderMessage
    at: int
    effective_seq: int | None = None


class Restored(NamedTuple):
    """What is to be sent again after a resume.

    Attributes:
        messages: the orders.
        reset_at: frames before this one are forgotten in any case; -1: none.
    """

    messages: list[OrderMessage]
    reset_at: int


class LastMasks(NamedTuple):
    """How the visible masks of the last result help a server that has forgotten.

    Attributes:
        at: frame from which they are shown; None: the next.
        are_all_shown: whether all objects are, and not only those of orders that are forgotten.
        is_for_all_frames: whether every frame comes again, and orders with theirs; else the last
            masks stand for them.
    """

    at: int | None
    are_all_shown: bool
    is_for_all_frames: bool


class Orders:
    """The orders of a stream that a resume may need."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []
        self._count = 0

    def add(self, make: Callable[[str], OrderMessage], at: int) -> _Order:
        """Keep an order that is made with an id, before frame ``at``.

        Raises:
            UsageError: too many are without an answer.
        """
        waiting = sum(1 for each in self._orders if each.effective_seq is None)
        if waiting >= MAX_ORDERS:
            raise UsageError(f"{waiting} prompts are without an answer, the limit")
        self._count += 1
        order_id = f"order-{self._count}"
        message = make(order_id)
        if isinstance(message, Reset):
            self._orders.clear()
        order = _Order(order_id, message, at)
        self._orders.append(order)
        return order

    @property
    def is_waiting(self) -> bool:
        """Whether one has no answer yet."""
        return any(each.effective_seq is None for each in self._orders)

    def taken(self, ack: PromptAck) -> None:
        """Note from which frame an order holds; one that was refused is forgotten."""
        for each in self._orders:
            if each.id == ack.id:
                each.effective_seq = max(ack.effective_seq, 0)
        if ack.error:
            self._orders = [each for each in self._orders if each.id != ack.id]

    def stored(self, seq: int) -> None:
        """Let go of orders that are in a snapshot."""
        self._orders = [
            each for each in self._orders if each.effective_seq is None or each.effective_seq > seq
        ][-MAX_ORDERS:]

    def again(
        self, kind: str, received: int, objects: Mapping[int, StreamObject], last: LastMasks
    ) -> Restored:
        """Return what is to be sent again after a resume.

        Args:
            kind: what is left of the server's memory.
            received: last frame in that memory; -1: none.
            objects: as they were last told of; empty where prompts are not used.
            last: how their last masks are used.
        """
        sent: list[OrderMessage] = []
        shown: set[int] = set(objects) if last.are_all_shown else set()
        reset_at = -1
        for each in self._orders:
            if each.effective_seq is not None:
                if kind == "hot" or each.effective_seq <= received:
                    continue
                stands_in = kind == "cold" or not last.is_for_all_frames
                if objects and stands_in and not _removes(each.message):
                    shown |= _tracks(each.message)
                    continue
                each.effective_seq = None
            sent.append(each.message)
            reset_at = max(reset_at, each.at if isinstance(each.message, Reset) else -1)
        masks = tuple(
            PromptObject(track_id, rle=each.visible.rle, bbox=each.visible.bbox)
            for track_id, each in objects.items()
            if track_id in shown and each.visible is not None
        )
        if masks:
            sent.insert(0, PromptMessage(masks, at="next" if last.at is None else last.at))
        return Restored(sent, reset_at)


def _tracks(message: Any) -> set[int]:
    return {each.track_id for each in message.objects}


def _removes(message: OrderMessage) -> bool:
    return isinstance(message, Reset) or any(each.remove for each in message.objects)


class Said(NamedTuple):
    """What a user says of one object; exactly one of box, points and mask.

    Attributes:
        track_id: its id.
        box: x, y, width, height around what shows of it, pixels.
        points: (x, y, label); label 1 on the object, 0 beside it.
        mask: its visible mask, bool (H, W).
    """

    track_id: int
    box: tuple[float, float, float, float] | None = None
    points: Sequence[tuple[float, float, int]] = ()
    mask: Mask | None = None


def prompt(said: Said, at: int) -> Callable[[str], PromptMessage]:
    """Return what makes a prompt of a frame.

    Raises:
        UsageError: not exactly one of box, points and mask, or a mask without a pixel.
    """
    if (said.box is not None) + bool(said.points) + (said.mask is not None) != 1:
        raise UsageError(f"prompt of track {said.track_id} needs one of box, points and mask")
    if said.mask is None:
        each = PromptObject(said.track_id, said.box, tuple(said.points))
        return lambda order_id: PromptMessage((each,), at, order_id)
    placed = placed_mask(said.mask)
    if placed is None:
        raise UsageError(f"prompt of track {said.track_id}: its mask has no pixel")
    masked = PromptObject(said.track_id, rle=placed[1], bbox=placed[0])
    return lambda order_id: PromptMessage((masked,), at, order_id)


def removal(track_ids: Sequence[int], at: int) -> Callable[[str], PromptMessage]:
    """Return what makes a removal from a frame on; it is a prompt, so that it is bound to one."""
    gone = tuple(PromptObject(track_id, remove=True) for track_id in track_ids)
    if not gone:
        raise UsageError("remove() needs the id of a track")
    return lambda order_id: PromptMessage(gone, at, order_id)
