"""What an ONNX file of a stranger holds, read before any runtime touches it.

The protobuf wire format is walked without building the message: weights are skipped, so a file of
gigabytes takes milliseconds, and nothing is allocated that the file asks for. Found are operators
that ONNX Runtime has no kernel for and weights that lie outside the file.

Source: onnx.proto of ONNX (field numbers) and the protobuf encoding guide (wire types).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from amodal_model.errors import ModelError

MAX_FILE_BYTES = 2**31
"""The largest message that protobuf reads; larger models keep weights outside the file."""
MAX_EXTERNAL_BYTES = 2**33
MAX_FIELDS = 5_000_000
MAX_DEPTH = 32
KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator domains that ONNX Runtime has kernels for."""

# What may hold operators or weights: message -> field -> message below it.
_BELOW = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_TEXT = {
    "node": {4: "name", 7: "domain"},
    "function": {1: "name", 10: "domain"},
    "entry": {1: "key", 2: "value"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class OnnxFacts(NamedTuple):
    """What a file says about itself.

    Attributes:
        operators: ``(domain, name)`` of every operator in it.
        functions: ``(domain, name)`` of the functions that it defines itself.
        external: file names of weights outside it, relative to its folder.
    """

    operators: frozenset[tuple[str, str]]
    functions: frozenset[tuple[str, str]]
    external: frozenset[str]


def check_onnx_file(path: Path) -> OnnxFacts:
    """Refuse a file that is not a model, or that reaches for more than it should.

    Raises:
        ModelError: there is no such file, it is larger than 2 GiB, it is not ONNX or cut short,
            it needs custom operators, or its weights lie outside its folder or are missing.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    size = path.stat().st_size
    if not 0 < size <= MAX_FILE_BYTES:
        raise ModelError(f"{path}: {size} bytes, an ONNX file has 1 to {MAX_FILE_BYTES}")
    facts = read_facts(path)
    for domain, name in sorted(facts.operators - facts.functions):
        if domain not in KNOWN_DOMAINS:
            raise ModelError(
                f"{path}: operator '{domain[:64]}:{name[:64]}' is a custom one; "
                "only operators of ONNX and ONNX Runtime are run"
            )
    _check_external(path, facts.external)
    return facts


def read_facts(path: Path) -> OnnxFacts:
    """Return what an ONNX file holds.

    Raises:
        ModelError: it is not ONNX, or cut short.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        walk = _Walk(path, content)
        walk.message("model", 0, len(content), 0)
    if not walk.has_graph:
        raise ModelError(f"{path}: not an ONNX file (it holds no graph)")
    return OnnxFacts(frozenset(walk.operators), frozenset(walk.functions), frozenset(walk.external))


def _check_external(path: Path, names: frozenset[str]) -> None:
    folder = path.parent.resolve()
    total = 0
    for name in sorted(names):
        where = (folder / name).resolve()
        if not where.is_relative_to(folder):
            raise ModelError(f"{path}: its weights lie outside its folder: {name[:128]!r}")
        if not where.is_file():
            raise ModelError(f"{path}: its weights file {name[:128]!r} is missing")
        total += where.stat().st_size
    if total > MAX_EXTERNAL_BYTES:
        raise ModelError(f"{path}: {total} bytes of weights, limit {MAX_EXTERNAL_BYTES}")


class _Walk:
    """One pass over a file; what it found lies in its attributes."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self.content = content
        self.has_graph = False
        self.operators: set[tuple[str, str]] = set()
        self.functions: set[tuple[str, str]] = set()
        self.external: set[str] = set()
        self._left = MAX_FIELDS

    def message(self, kind: str, start: int, end: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ModelError(f"{self.path}: messages nest deeper than {MAX_DEPTH}")
        text: dict[str, str] = {}
        for field, wire, first, last in self._fields(start, end):
            if wire != _BYTES:
                continue
            word = _TEXT.get(kind, {}).get(field)
            below = _BELOW.get(kind, {}).get(field)
            if word is not None:
                text[word] = self.content[first:last].decode("utf-8", "replace")
            elif below is not None:
                self.has_graph |= below == "graph"
                self.message(below, first, last, depth + 1)
        self._note(kind, text)

    def _note(self, kind: str, text: dict[str, str]) -> None:
        if kind == "node":
            self.operators.add((text.get("domain", ""), text.get("name", "")))
        elif kind == "function":
            self.functions.add((text.get("domain", ""), text.get("name", "")))
        elif kind == "entry" and text.get("key") == "location":
            self.external.add(text.get("value", ""))

    def _fields(self, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield ``(field, wire type, first byte, end)`` of each field of a message."""
        at = start
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise ModelError(f"{self.path}: more than {MAX_FIELDS} fields")
            key, first = self._varint(at, end)
            field, wire = key >> 3, key & 7
            if wire == _BYTES:
                length, first = self._varint(first, end)
                at = first + length
            elif wire == _VARINT:
                _, at = self._varint(first, end)
            elif wire in (_FIXED32, _FIXED64):
                at = first + (4 if wire == _FIXED32 else 8)
            else:
                raise self._broken(at)
            if at > end or field == 0:
                raise self._broken(first)
            yield field, wire, first, at

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number of 7 bits a byte and the position after it."""
        value = 0
        for shift in range(0, 70, 7):
            if at >= end:
                raise self._broken(at)
            byte = self.content[at]
            value |= (byte & 0x7F) << shift
            at += 1
            if byte < 0x80:
                return value, at
        raise self._broken(at)

    def _broken(self, at: int) -> ModelError:
        return ModelError(f"{self.path}: not an ONNX file, or cut short (at byte {at})")
