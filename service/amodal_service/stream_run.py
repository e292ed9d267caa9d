"""A source of frames through a live stream: one thread sends, the caller's takes what comes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from amodal_client import GivenObject, MaskRle, Resumed, Stream, StreamEvent, StreamResult
from amodal_client.stream_messages import PlacedMask
from amodal_model.masks import BoxedMask, Rle, decode_crop_rle, empty_mask
from amodal_model.results import FrameResult, ObjectResult
from amodal_model.visible_source import Prompt
from amodal_service.live_sources import LiveFrame, LiveSource, paced

MAX_FRAMES_HELD = 64
"""Frames that wait here for their result, to be drawn on."""

Given = Callable[[int], Mapping[int, Rle]]


class Sink(Protocol):
    """Takes the results of a stream."""

    def write(self, frame: LiveFrame, result: FrameResult) -> None:
        """Take a frame and what it shows."""


@dataclass
class Feed:
    """What is sent.

    Attributes:
        source: of the frames.
        is_lossless: whether every frame counts; else a file is played at its own pace.
        given: the visible masks of a frame by track id; None where the server finds them.
        pictures: whether images are sent beside given masks, too.
        prompts: by frame.
        max_frames: after which it ends; None: when the source does.
        is_stopped: set to end it early.
    """

    source: LiveSource
    is_lossless: bool
    given: Given | None = None
    prompts: Mapping[int, Sequence[Prompt]] = field(default_factory=dict)
    max_frames: int | None = None
    pictures: bool = False
    is_stopped: threading.Event = field(default_factory=threading.Event)

    def frames(self) -> Iterator[LiveFrame]:
        """Yield the frames when they are due."""
        frames = self.source.frames()
        if self.source.is_recorded and not self.is_lossless:
            frames = paced(frames)
        for frame in islice(frames, self.max_frames):
            if self.is_stopped.is_set():
                return
            yield frame


class FramesHeld:
    """Frames on their way; a lossless feed waits where too many are, others lose the oldest."""

    def __init__(self, is_lossless: bool) -> None:
        self._is_lossless = is_lossless
        self._frames: dict[int, LiveFrame] = {}
        self._has_changed = threading.Condition()

    def add(self, frame: LiveFrame) -> None:
        """Hold a frame."""
        with self._has_changed:
            if self._is_lossless:
                self._has_changed.wait_for(lambda: len(self._frames) < MAX_FRAMES_HELD)
            elif len(self._frames) >= MAX_FRAMES_HELD:
                del self._frames[next(iter(self._frames))]
            self._frames[frame.index] = frame

    def take(self, seq: int) -> LiveFrame | None:
        """Return a frame and let go of it and those before it: results come in order."""
        with self._has_changed:
            found = self._frames.get(seq)
            self._frames = {key: each for key, each in self._frames.items() if key > seq}
            self._has_changed.notify_all()
        return found

    def release(self) -> None:
        """Let a feed go on that waits: nothing is held any more."""
        with self._has_changed:
            self._is_lossless = False
            self._has_changed.notify_all()


def run_stream(
    stream: Stream, feed: Feed, sinks: Sequence[Sink], notify: Callable[[str], None]
) -> None:
    """Send the frames of a feed, and give each result to the sinks, until all is done.

    An interrupt ends the feed, and what is under way still arrives; a second one breaks off.

    Raises:
        AmodalError: the source cannot be read, or a sink cannot write.
        ClientError: the stream cannot go on.
    """
    held = FramesHeld(feed.is_lossless)
    failures: list[Exception] = []
    sender = threading.Thread(target=_send_all, args=(stream, feed, held, failures), daemon=True)
    sender.start()
    try:
        try:
            _take_all(stream, held, sinks, notify)
        except KeyboardInterrupt:
            feed.is_stopped.set()
            notify("interrupted: waiting for the results of the frames that were sent")
            _take_all(stream, held, sinks, notify)
    finally:
        feed.is_stopped.set()
        held.release()
    sender.join()
    if failures:
        raise failures[0]


def _take_all(
    stream: Stream, held: FramesHeld, sinks: Sequence[Sink], notify: Callable[[str], None]
) -> None:
    for event in stream:
        if not isinstance(event, StreamResult):
            _tell(event, notify)
            continue
        frame = held.take(event.seq)
        if frame is not None and sinks:
            result = frame_result_of(event)
            for sink in sinks:
                sink.write(frame, result)


def _tell(event: StreamEvent, notify: Callable[[str], None]) -> None:
    if isinstance(event, Resumed):
        notify(f"the connection was lost and is there again ({event.kind})")
    elif getattr(event, "error", ""):
        notify(f"prompt: {getattr(event, 'error', '')}")
    elif getattr(event, "cause", "") == "decode_error":
        notify(f"frames dropped: {getattr(event, 'detail', '')}")


def _send_all(stream: Stream, feed: Feed, held: FramesHeld, failures: list[Exception]) -> None:
    """Send all frames and end the stream; what fails is kept for the caller."""
    try:
        for frame in feed.frames():
            held.add(frame)
            _send(stream, feed, frame)
        stream.end()
    except Exception as error:
        failures.append(error)
        stream.close()


def _send(stream: Stream, feed: Feed, frame: LiveFrame) -> None:
    for each in feed.prompts.get(frame.index, ()):
        _prompt(stream, each)
    # In a lossless stream every frame counts as one step, as in 'amodal annotate'.
    stamp_ns = frame.stamp_ns or 1 + round(frame.pts_s * 1e9)
    capture_ns = 0 if feed.is_lossless else stamp_ns
    if feed.given is None:
        stream.send(frame.image, capture_ns=capture_ns)
        return
    masks = [
        GivenObject(track_id, MaskRle((rle["size"][0], rle["size"][1]), rle["counts"]))
        for track_id, rle in feed.given(frame.index).items()
    ]
    image = frame.image if feed.pictures else None
    stream.send(image, masks, capture_ns=capture_ns)


def _prompt(stream: Stream, each: Prompt) -> None:
    track_id = 0 if each.track_id is None else each.track_id
    if each.remove:
        stream.remove(track_id)
    elif each.bbox_xyxy is not None:
        x0, y0, x1, y1 = each.bbox_xyxy
        stream.prompt(track_id, box=(x0, y0, x1 - x0, y1 - y0))
    elif each.mask is not None:
        stream.prompt(track_id, mask=each.mask.full())
    else:
        stream.prompt(track_id, points=[(x, y, int(is_on)) for x, y, is_on in each.points])


def frame_result_of(result: StreamResult) -> FrameResult:
    """Return a result as the segmenter itself would give it.

    Raises:
        InputError: a mask that does not fit its box or the frame.
    """
    size = result.frame_size
    objects = tuple(
        ObjectResult(
            track_id=each.track_id,
            visible=_mask(each.said.visible, size),
            amodal=_mask(each.said.amodal, size),
            occlusion_rate=each.occlusion_rate,
            state=each.state,
            occluded_by=each.occluded_by,
            score=each.score,
            confidence_visible=each.said.confidence_visible,
            confidence_occluded=each.said.confidence_occluded,
            remembered=_mask(each.said.remembered, size),
        )
        for each in result.objects
    )
    return FrameResult(objects, result.order)


def _mask(placed: PlacedMask | None, size: tuple[int, int]) -> BoxedMask:
    if placed is None:
        return empty_mask(size)
    rle = {"size": list(placed.rle.size), "counts": placed.rle.counts}
    return decode_crop_rle(placed.bbox, rle, size)
