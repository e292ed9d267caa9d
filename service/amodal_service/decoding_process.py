"""The other side of `decoding_sandbox`: a process that forks decoders and watches over them.

It has imported the decoders and done nothing else, so a fork costs milliseconds and starts clean.
Requests come over the control socket, one byte each with the descriptors of the clip:

- ``data``: a connection on which the decoder finds its request and answers;
- ``status``: here the sandbox hears how the decoder ended; when it closes its end, the decoder is
  killed;
- ``frames``, for a call that wants frames: memory that both share, one slot a frame.

When the control socket closes, whoever asked is gone: every decoder is killed, and this process
ends too.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from amodal_model.errors import AmodalError, DatasetError, LimitError
from amodal_model.video import Clip, ClipLimits, Frame, open_clip, reopen_clip
from amodal_service.process_limits import limit_process, refuse_system_calls

MAX_MESSAGE_BYTES = 16384
FRAME = struct.Struct("<cqd")
COUNT = struct.Struct("<cq")
"""A frame is in its slot: ``b"F"``, its index, its time in seconds."""
"""How many frames have been counted: ``b"C"`` on the way, ``b"T"`` for all of them."""
HEADER, DONE, FAILED, FREED, COUNTED, TOTAL = b"H", b"D", b"E", b"f", b"C", b"T"
_COUNTED_AT_ONCE = 16
_NAME_OF: dict[type[Exception], str] = {LimitError: "LimitError", DatasetError: "DatasetError"}


@dataclass(frozen=True)
class Request:
    """What a decoder is asked; travels as JSON.

    Attributes:
        path: the file or folder.
        fps: frames per second: of a folder, or of the clip where its header is known.
        max_pixels: see `ClipLimits`, as are the next two.
        max_frames: as above.
        max_duration_s: as above.
        memory_bytes: what it may use on top of an idle decoder.
        cpu_s: processor time, whole seconds.
        first: number of the first frame that is wanted.
        frame_size: ``(height, width)``, where the header is known.
        slots: frames that fit into the shared memory; 0 asks for the header, or the count.
        is_count: whether the number of frames is asked for.
    """

    path: str
    fps: float
    max_pixels: int
    max_frames: int
    max_duration_s: float
    memory_bytes: int
    cpu_s: int
    first: int = 0
    frame_size: tuple[int, int] = (0, 0)
    slots: int = 0
    is_count: bool = False


def main() -> None:
    """Serve requests on the inherited control socket, whose number is the only argument."""
    control = socket.socket(fileno=int(sys.argv[1]))
    wake, alarm = socket.socketpair()
    for end in (wake, alarm):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        _serve(control, wake, selector)


def _serve(control: socket.socket, wake: socket.socket, selector: selectors.BaseSelector) -> None:
    decoders: dict[int, socket.socket] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj is wake:
                with suppress(BlockingIOError):
                    wake.recv(4096)
                _report_ended(decoders, selector)
            elif key.fileobj is control:
                if not _start_decoder(control, decoders, selector):
                    _kill(decoders)
                    return
            elif key.data in decoders:  # not reported in this very round: the sandbox wants an end
                _kill({key.data: decoders[key.data]})
                selector.unregister(key.fileobj)


def _start_decoder(
    control: socket.socket, decoders: dict[int, socket.socket], selector: selectors.BaseSelector
) -> bool:
    """Fork the decoder of one clip; false where nobody will ask for another."""
    byte, received, _, _ = socket.recv_fds(control, 1, 3)
    if not byte:
        return False
    pid = os.fork()
    if pid == 0:
        _decode_and_exit(received)
    status = socket.socket(fileno=received[1])
    for descriptor in (received[0], *received[2:]):
        os.close(descriptor)
    decoders[pid] = status
    selector.register(status, selectors.EVENT_READ, pid)
    return True


def _kill(decoders: dict[int, socket.socket]) -> None:
    for pid in decoders:  # not waited for yet, so the number is still theirs
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _report_ended(decoders: dict[int, socket.socket], selector: selectors.BaseSelector) -> None:
    """Tell the sandbox of every decoder that has ended, and how."""
    for pid in list(decoders):
        ended, wait_status = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = decoders.pop(pid)
            with suppress(KeyError):
                selector.unregister(status)
            with suppress(OSError):
                status.send(struct.pack("<i", os.waitstatus_to_exitcode(wait_status)))
            status.close()


def _decode_and_exit(received: list[int]) -> NoReturn:
    """Be a decoder; nothing of the process it was forked from is left open to it."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        data, shared = _keep_only(received)
        _answer(Connection(data), shared)
        code = 0
    finally:
        os._exit(code)


def _keep_only(received: list[int]) -> tuple[int, int | None]:
    """Close every descriptor but the clip's own; what libraries print goes nowhere."""
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    kept = [received[0], *received[2:]]
    lowest = 3
    for descriptor in [*sorted(kept), os.sysconf("SC_OPEN_MAX")]:
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    return received[0], received[2] if len(received) > 2 else None


def _answer(data: Connection, shared: int | None) -> None:
    request = Request(**json.loads(data.recv_bytes(MAX_MESSAGE_BYTES)))
    limit_process(memory_bytes=request.memory_bytes, cpu_s=request.cpu_s)
    refuse_system_calls()
    try:
        if request.is_count:
            _send_count(data, request)
        elif shared is None:
            data.send_bytes(HEADER + json.dumps(_header(request)).encode())
        else:
            _send_frames(data, request, shared)
    except MemoryError:
        limit = f"limit {request.memory_bytes >> 20} MiB"
        _fail(data, LimitError(f"{request.path}: decoding needs more memory, {limit}"))
    except AmodalError as error:
        _fail(data, error)
    except Exception as error:  # the decoder's own, for a file that nobody foresaw
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        _fail(data, DatasetError(f"{request.path}: not a video that can be read ({reason})"))


def _fail(data: Connection, error: Exception) -> None:
    message = {"error": _NAME_OF.get(type(error), "InputError"), "message": str(error)[:4000]}
    data.send_bytes(FAILED + json.dumps(message).encode())


def _header(request: Request) -> dict[str, Any]:
    clip = open_clip(Path(request.path), folder_fps=request.fps, limits=_limits(request))
    return {"frame_size": clip.frame_size, "fps": clip.fps}


def _limits(request: Request) -> ClipLimits:
    return ClipLimits(request.max_pixels, request.max_frames, request.max_duration_s)


def _reopened(request: Request) -> Clip:
    height, width = request.frame_size
    return reopen_clip(Path(request.path), (height, width), request.fps, _limits(request))


def _send_count(data: Connection, request: Request) -> None:
    """Count the frames, and say on the way how many there are so far."""

    def tell(count: int) -> None:
        if count % _COUNTED_AT_ONCE == 0:
            data.send_bytes(COUNT.pack(COUNTED, count))

    data.send_bytes(COUNT.pack(TOTAL, _reopened(request).count(tell)))


def _send_frames(data: Connection, request: Request, shared: int) -> None:
    """Put each frame into the next free slot; wait where there is none."""
    height, width = request.frame_size
    clip = _reopened(request)
    memory = mmap(shared, request.slots * height * width * 3)
    slots = np.frombuffer(memory, np.uint8).reshape(request.slots, height, width, 3)
    for number, frame in enumerate(_taken(clip.frames(request.first), request, data)):
        slots[number % request.slots] = frame.image
        data.send_bytes(FRAME.pack(b"F", frame.index, frame.pts_s))
    data.send_bytes(DONE)


def _taken(frames: Iterator[Frame], request: Request, data: Connection) -> Iterator[Frame]:
    """Yield the frames, each only when there is a slot for it."""
    for number, frame in enumerate(frames):
        if number >= request.slots and data.recv_bytes(1) != FREED:
            return
        yield frame


if __name__ == "__main__":
    main()
