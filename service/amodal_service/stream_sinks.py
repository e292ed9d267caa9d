"""Where the results of a live stream go: lines of JSON, an overlay video, a window."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

from amodal_model.errors import InputError
from amodal_model.results import FrameResult
from amodal_model.video_writer import VideoWriter
from amodal_model.youtube_vis import VideoEntry
from amodal_service.live_sources import LiveFrame
from amodal_service.records import compact_json, frame_record
from amodal_service.rendering import draw_overlay


class JsonLines:
    """One line a frame, as described in `amodal_service.records`; use it in ``with``."""

    def __init__(self, path: Path, name: str) -> None:
        self._out = path.open("w", encoding="utf-8")
        self._name = name

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._out.close()

    def write(self, frame: LiveFrame, result: FrameResult) -> None:
        """Write the line of a frame."""
        height, width = frame.image.shape[:2]
        video = VideoEntry(1, self._name, width, height, frame.index + 1, 0.0)
        record = frame_record(video, frame.index, frame.pts_s, result, {})
        self._out.write(compact_json(record) + "\n")
        self._out.flush()


class Overlay:
    """A video with the objects drawn in, of the frames that have a result."""

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer

    def write(self, frame: LiveFrame, result: FrameResult) -> None:
        """Draw a frame."""
        self._writer.write(draw_overlay(frame.image, result), frame.pts_s)


class Window:
    """A window with the objects drawn in; use it in ``with``, in the main thread.

    Raises:
        InputError: there is no display, or this Python has no tkinter.
    """

    def __init__(self, title: str) -> None:
        try:
            self._kit: Any = import_module("tkinter")  # some systems leave it out
            self._root = self._kit.Tk()
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"--show: no window here ({reason}); use --overlay FILE.mp4") from None
        self._root.title(title)
        self._label = self._kit.Label(self._root, borderwidth=0)
        self._label.pack()
        self._picture: Any = None

    def __enter__(self) -> Window:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._root.destroy()

    def write(self, frame: LiveFrame, result: FrameResult) -> None:
        """Draw a frame; the window going away ends the stream as an interrupt does."""
        image = draw_overlay(frame.image, result)
        header = f"P6 {image.shape[1]} {image.shape[0]} 255 ".encode()
        try:
            picture = self._kit.PhotoImage(data=header + image.tobytes())
            self._label.configure(image=picture)
            self._picture = picture  # tkinter itself keeps none
            self._root.update()
        except self._kit.TclError:
            raise KeyboardInterrupt from None
