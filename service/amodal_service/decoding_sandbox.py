"""Clips from strangers, decoded in a process that can be killed.

`DecodingSandbox.open_clip` gives the same `Clip` as `amodal_model.video.open_clip`, whose frames
come from a process of their own with limits on memory, processor time and the wait for a frame,
and without network or writing (`process_limits`). Whatever a file does to its decoder (a hang, a
crash, gigabytes), the caller sees one line of `InputError`.

    with DecodingSandbox() as sandbox:
        for frame in sandbox.open_clip(path).frames():
            ...

Frames come through shared memory in a few slots: a decoder works a little ahead and never more.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from mmap import mmap
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import numpy as np
from jaxtyping import UInt8

from amodal_model.errors import AmodalError, DatasetError, InputError, LimitError
from amodal_model.frame_size import MAX_SIDE
from amodal_model.video import (
    DEFAULT_FPS,
    MAX_PIXELS,
    Clip,
    ClipLimits,
    Frame,
    FrameCheck,
    no_check,
)
from amodal_model.youtube_vis import MAX_FRAMES
from amodal_service.decoding_process import (
    COUNT,
    COUNTED,
    DONE,
    FAILED,
    FRAME,
    FREED,
    HEADER,
    MAX_MESSAGE_BYTES,
    TOTAL,
    Request,
)

_SLOT_MEMORY_BYTES = 64 << 20
_MAX_SLOTS = 4
_ERRORS = {"LimitError": LimitError, "DatasetError": DatasetError, "InputError": InputError}
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "TZ")
"""What a decoder sees of the environment: no key, no password, no address."""
_KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": f"{32 << 20}",
    "MALLOC_TRIM_THRESHOLD_": f"{256 << 20}",
}
"""The C library keeps a frame's memory for the next: 7 % less than mapping each anew (0008)."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class DecodingLimits:
    """What the decoding of one clip may cost.

    Attributes:
        clip: pixels, frames and seconds of it.
        memory_bytes: address space on top of an idle decoder.
        cpu_s: processor time, whole seconds.
        frame_timeout_s: the longest wait for the header, and for each frame.
    """

    clip: ClipLimits = field(default_factory=lambda: ClipLimits(MAX_PIXELS, MAX_FRAMES, math.inf))
    memory_bytes: int = 2 << 30
    cpu_s: int = 3600
    frame_timeout_s: float = 20.0


_DEFAULT_LIMITS = DecodingLimits()


class DecodingSandbox:
    """Opens clips, each in a decoder of its own; safe to use from many threads.

    The process that decoders are forked from starts with the first clip, and again where it has
    ended. `close` ends it and every decoder.
    """

    def __init__(self, limits: DecodingLimits = _DEFAULT_LIMITS) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> DecodingSandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def open_clip(
        self,
        path: Path,
        *,
        folder_fps: float = DEFAULT_FPS,
        limits: DecodingLimits | None = None,
        shown_as: str | None = None,
    ) -> Clip:
        """Return the clip of a video file or of a folder of frames.

        Args:
            path: a video file or a folder of images.
            folder_fps: frames per second of a folder.
            limits: what decoding may cost; the sandbox's own by default.
            shown_as: the clip's name in messages, where its path is nobody's business.

        Raises:
            DatasetError: missing, empty, or nothing that can be read as video.
            LimitError: a limit is exceeded.
            InputError: the decoder crashed or hung.
        """
        limits = limits or self.limits
        request = Request(
            path=str(path.absolute()),
            fps=folder_fps,
            **asdict(limits.clip),
            memory_bytes=limits.memory_bytes,
            cpu_s=limits.cpu_s,
        )
        with self.decoder(request, limits, shown_as or str(path)) as decoder:
            header = json.loads(decoder.expect(HEADER)[1:])
        (height, width), fps = header["frame_size"], float(header["fps"])
        shape = (int(height), int(width))
        if not (0 < min(shape) <= max(shape) <= MAX_SIDE and math.prod(shape) <= MAX_PIXELS):
            raise LimitError(f"{shown_as or path}: frame is {shape[1]}x{shape[0]}")
        return _SandboxedClip(path, shape, fps, self, request, limits, shown_as or str(path))

    def close(self) -> None:
        """End the decoders and the process they are forked from."""
        with self._lock:
            self._stop()

    @contextmanager
    def decoder(
        self, request: Request, limits: DecodingLimits, name: str, memory: int | None = None
    ) -> Iterator[_Decoder]:
        """Start a decoder; it is killed on leaving, whatever it is doing."""
        with ExitStack() as ends:
            data, its_data = (ends.enter_context(end) for end in socket.socketpair())
            status, its_status = (ends.enter_context(end) for end in socket.socketpair())
            descriptors = [its_data.fileno(), its_status.fileno()]
            self._send([*descriptors, memory] if memory is not None else descriptors)
            its_data.close()
            its_status.close()
            connection = ends.enter_context(Connection(data.detach()))
            decoder = _Decoder(connection, status, request, limits, name)
            decoder.send(json.dumps(asdict(request)).encode())
            yield decoder

    def _send(self, descriptors: list[int]) -> None:
        """Hand the descriptors of a clip over, to a new process where the old one has ended."""
        with self._lock:
            if self._control is not None:
                with suppress(OSError):
                    socket.send_fds(self._control, [b"c"], descriptors)
                    return
            self._stop()
            socket.send_fds(self._start(), [b"c"], descriptors)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            self._process = subprocess.Popen(  # noqa: S603  (this very interpreter)
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "amodal_service.decoding_process",
                    f"{theirs.fileno()}",
                ],
                pass_fds=[theirs.fileno()],
                env={**kept, **_ONE_THREAD, **_KEPT_MEMORY},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is the caller's to handle
            )
        self._control = ours
        return ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@dataclass(frozen=True)
class _Decoder:
    """Our side of one decoder. Nothing it says is believed without a check."""

    data: Connection
    status: socket.socket
    request: Request
    limits: DecodingLimits
    name: str

    def send(self, message: bytes) -> None:
        with suppress(OSError):  # it has ended: `receive` says how
            self.data.send_bytes(message)

    def expect(self, *kinds: bytes) -> bytes:
        """Return the next message of one of these kinds."""
        message = self._receive()
        if message[:1] == FAILED:
            self._raise_its_error(message)
        if message[:1] not in kinds:
            raise InputError(f"{self.name}: its decoder answers nonsense; not read further")
        return message

    def _receive(self) -> bytes:
        try:
            if not self.data.poll(self.limits.frame_timeout_s):
                raise LimitError(
                    f"{self.name}: no frame within {self.limits.frame_timeout_s:g} s, the limit "
                    "(frame_timeout_s)"
                )
            return self.data.recv_bytes(MAX_MESSAGE_BYTES)
        except (EOFError, OSError):
            raise self._reason_of_end() from None

    def _raise_its_error(self, message: bytes) -> NoReturn:
        content = json.loads(message[1:])
        kind = _ERRORS.get(content["error"], InputError)
        text = str(content["message"]).replace(self.request.path, self.name)
        raise kind("".join(c if c.isprintable() else " " for c in text))

    def _reason_of_end(self) -> AmodalError:
        """Return the error of a decoder that ended without an answer."""
        self.status.settimeout(5)
        with suppress(OSError):
            report = self.status.recv(4)
            code = struct.unpack("<i", report)[0] if len(report) == 4 else 0
            if code == -signal.SIGXCPU:
                limit = f"limit {self.limits.cpu_s} s (cpu_s)"
                return LimitError(f"{self.name}: decoding took too much processor time, {limit}")
            if code == -signal.SIGKILL:
                return InputError(f"{self.name}: its decoder was killed (out of memory?)")
            if code < 0:
                return DatasetError(f"{self.name}: damaged; it crashes its decoder ({-code})")
        return InputError(f"{self.name}: its decoder ended without a word; not read further")


@dataclass(frozen=True)
class _SandboxedClip:
    path: Path
    frame_size: tuple[int, int]
    fps: float
    sandbox: DecodingSandbox
    request: Request
    limits: DecodingLimits
    name: str

    def frames(self, first: int = 0) -> Iterator[Frame]:
        size = math.prod(self.frame_size) * 3
        slots = max(1, min(_MAX_SLOTS, _SLOT_MEMORY_BYTES // size))
        request = replace(
            self.request, fps=self.fps, first=first, frame_size=self.frame_size, slots=slots
        )
        with _shared_memory(slots * size) as (descriptor, memory):
            pictures = memory.reshape(slots, *self.frame_size, 3)
            with self.sandbox.decoder(request, self.limits, self.name, descriptor) as decoder:
                yield from self._received(decoder, pictures, first)

    def count(self, check: FrameCheck = no_check) -> int:
        request = replace(self.request, fps=self.fps, frame_size=self.frame_size, is_count=True)
        counted = 0
        with self.sandbox.decoder(request, self.limits, self.name) as decoder:
            while True:
                message = decoder.expect(COUNTED, TOTAL)
                kind, now = COUNT.unpack(message) if len(message) == COUNT.size else (b"", -1)
                if not counted <= now <= MAX_FRAMES:
                    raise InputError(f"{self.name}: its decoder answers nonsense; not read further")
                check(now)
                if kind == TOTAL:
                    return int(now)
                counted = now

    def _received(self, decoder: _Decoder, pictures: np.ndarray, first: int) -> Iterator[Frame]:
        number, time_s = 0, -math.inf
        while (message := decoder.expect(b"F", DONE))[:1] == b"F":
            if len(message) != FRAME.size:
                raise InputError(f"{self.name}: its decoder answers nonsense; not read further")
            _, index, pts_s = FRAME.unpack(message)
            if index != first + number or not time_s < pts_s < math.inf:
                raise InputError(f"{self.name}: its decoder answers nonsense; not read further")
            image = pictures[number % len(pictures)].copy()
            decoder.send(FREED)
            number, time_s = number + 1, pts_s
            yield Frame(index, pts_s, image)


@contextmanager
def _shared_memory(size: int) -> Iterator[tuple[int, UInt8[np.ndarray, " size"]]]:
    """Yield memory that a decoder can be given, by descriptor; it cannot grow or shrink it."""
    with ExitStack() as ends:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("amodal-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            ends.callback(os.close, descriptor)
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        else:
            file = ends.enter_context(tempfile.TemporaryFile())
            descriptor = file.fileno()
            os.ftruncate(descriptor, size)
        # The mapping goes with its last array: one may still be held by the trace of an error.
        yield descriptor, np.frombuffer(mmap(descriptor, size), np.uint8)
