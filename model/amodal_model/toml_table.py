"""TOML tables, checked strictly: a typo is an error, not a default."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amodal_model.errors import InputError

MAX_BYTES = 65536


def read_table(path: Path) -> Table:
    """Return the top table of a TOML file.

    Raises:
        InputError: it is missing, larger than 64 KiB or not TOML.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: {size} bytes, limit {MAX_BYTES}")
    try:
        return Table(path, "", tomllib.loads(path.read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not TOML: {error}") from None


class Table:
    """One table of a file; each key is taken once, and what is left over is unknown.

    Every method that takes a key refuses, as `InputError`, a value of another type or outside the
    limits.
    """

    def __init__(self, path: Path, name: str, content: dict[str, Any]) -> None:
        self._path = path
        self._name = name
        self._content = dict(content)
        self._known: list[str] = []

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._content:
            allowed = ", ".join(sorted(self._known))
            raise InputError(f"{self._path}: unknown key {self._name}{key}; known: {allowed}")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._content.pop(key, default)

    def _refuse(self, key: str, value: Any, need: str) -> InputError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return InputError(f"{self._path}: {self._name}{key} is {shown}, need {need}")

    def below(self, key: str) -> Table:
        """Return a table below this one, empty where it is missing."""
        value = self._take(key, {})
        if not isinstance(value, dict):
            raise self._refuse(key, value, "a table")
        return Table(self._path, f"{self._name}{key}.", value)

    def choice(self, key: str, default: str | None, allowed: tuple[str, ...]) -> str:
        """Return one of some words."""
        value = self._take(key, default)
        if value is None:
            raise InputError(f"{self._path}: {self._name}{key} is missing: {', '.join(allowed)}")
        if not isinstance(value, str) or value not in allowed:
            raise self._refuse(key, value, f"one of {', '.join(allowed)}")
        return value

    def text(self, key: str, default: str) -> str:
        """Return a name."""
        value = self._take(key, default)
        if not isinstance(value, str) or len(value) > 256:
            raise self._refuse(key, value, "a name of at most 256 characters")
        return value

    def file(self, key: str) -> Path:
        """Return a file, relative to the folder of the settings."""
        value = self._take(key, None)
        if not isinstance(value, str) or not value or "\0" in value:
            raise self._refuse(key, value, "the name of an ONNX file")
        path = self._path.parent / value
        if not path.is_file():
            raise InputError(f"{self._path}: {self._name}{key} is {value!r}, no such file: {path}")
        return path

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._refuse(key, value, "true or false")
        return value

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number within limits."""
        value = self._take(key, default)
        if not _is_whole(value, least, most):
            raise self._refuse(key, value, f"a whole number from {least} to {most}")
        return int(value)

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return a number within limits."""
        value = self._take(key, default)
        if not _is_number(value, least, most):
            raise self._refuse(key, value, f"a number from {least:g} to {most:g}")
        return float(value)

    def triple(
        self, key: str, default: tuple[float, ...], least: float
    ) -> tuple[float, float, float]:
        """Return a number for each channel."""
        value = self._take(key, list(default))
        if not _is_list(value, lambda entry: _is_number(entry, least, 1e6)) or len(value) != 3:
            raise self._refuse(key, value, f"three numbers from {least:g} to 1e+06")
        first, second, third = (float(entry) for entry in value)
        return first, second, third

    def size(self, key: str, most: int) -> tuple[int, int] | None:
        """Return ``(height, width)`` of ``[height, width]``, or ``None`` where it is missing."""
        value = self._take(key, None)
        if value is None:
            return None
        if not _is_list(value, lambda side: _is_whole(side, 1, most)) or len(value) != 2:
            raise self._refuse(key, value, f"[height, width], each 1 to {most}")
        return int(value[0]), int(value[1])

    def wholes(self, key: str, most: int) -> tuple[int, ...]:
        """Return whole numbers from 0 on, none where the key is missing."""
        value = self._take(key, [])
        if not _is_list(value, lambda entry: _is_whole(entry, 0, most)):
            raise self._refuse(key, value, f"a list of whole numbers from 0 to {most}")
        return tuple(int(entry) for entry in value)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and least <= value <= most


def _is_list(value: Any, is_entry: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(is_entry(entry) for entry in value)
