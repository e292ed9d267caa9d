"""RESULT messages -> what a stream tells of a frame; what was left out as unchanged is put back."""

from __future__ import annotations

from amodal_client.errors import AnswerError
from amodal_client.stream_events import StreamedObject, StreamResult
from amodal_client.stream_messages import ResultMeta, StreamObject
from amodal_client.stream_wire import Header, Op, Packet, read_meta


class ResultReader:
    """Reads the results of one stream, each on top of the one before.

    Attributes:
        objects: of the last result, whole, by track id.
    """

    def __init__(self) -> None:
        self.objects: dict[int, StreamObject] = {}

    def read(self, packet: Packet) -> ResultMeta:
        """Return what a message says; its objects, whole, are in `objects` then.

        Raises:
            AnswerError: it is no RESULT, or builds on an object that was never told.
        """
        op = packet.header.op
        if op != Op.RESULT:
            raise AnswerError(f"binary message has op {op}, a server sends 2 RESULT")
        meta = read_meta(packet.meta, ResultMeta)
        self.objects = {each.track_id: self._whole(each) for each in meta.objects}
        return meta

    def _whole(self, each: StreamObject) -> StreamObject:
        if not each.unchanged:
            return each
        known = self.objects.get(each.track_id)
        if known is None:
            raise AnswerError(f"track {each.track_id} is unchanged, but was never told")
        return known

    def result(self, header: Header, meta: ResultMeta, latency_ms: float) -> StreamResult:
        """Return the result that was read last.

        Args:
            header: of its message.
            meta: as `read` returned it.
            latency_ms: from the frame to it; NaN: not known.
        """
        size = (header.height, header.width)
        return StreamResult(
            seq=header.seq,
            capture_ns=header.capture_ns,
            frame_size=size,
            objects=tuple(StreamedObject(size, each) for each in self.objects.values()),
            order=meta.order,
            timings=meta.timings,
            dropped=meta.dropped,
            frame_gap=meta.frame_gap,
            model=meta.model,
            latency_ms=latency_ms,
        )
