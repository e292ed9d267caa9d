"""Reads the Dockerfile and the compose file, as far as these two go, for `prove.py` and the tests.

What it does not know it refuses: a step that is not understood is never passed over.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

IGNORED = {"EXPOSE", "VOLUME"}
"""Say something to an engine and change nothing in the image."""
KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "HEALTHCHECK", "RUN", "USER", "WORKDIR"}

_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::([-?])([^}]*))?\}|(\w+))")


class Step(NamedTuple):
    """An instruction and what follows it."""

    name: str
    text: str


@dataclass
class Stage:
    """A stage of a Dockerfile: the image it begins with, its name if any, and its steps."""

    base: str
    name: str | None
    steps: list[Step] = field(default_factory=list)


class Service(NamedTuple):
    """A service of a compose file, its variables filled in.

    Attributes:
        name: of it.
        image: that it runs; empty in a file that only adds to another.
        dockerfile: that the image is built from; ``None`` where it comes from a registry.
        build_args: of the build.
        command: in place of the image's.
        environment: on top of the image's.
        volumes: where each named volume is mounted.
        replicas: how many containers it has.
    """

    name: str
    image: str
    dockerfile: Path | None
    build_args: dict[str, str]
    command: list[str]
    environment: dict[str, str]
    volumes: dict[str, str]
    replicas: int


def read_dockerfile(path: Path) -> list[Stage]:
    """Return the stages of a Dockerfile.

    Raises:
        ValueError: an instruction that is not known here.
    """
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            base, *as_name = text.split()
            stages.append(Stage(base, as_name[1] if as_name else None))
        elif name in KNOWN:
            stages[-1].steps.append(Step(name, " ".join(text.split())))
        elif name and name not in IGNORED:
            raise ValueError(f"{path}: {name!r} is not known here")
    return stages


def allowed_names(path: Path) -> set[str]:
    """Return the names at the top of the context that a .dockerignore lets in.

    Raises:
        ValueError: it does not begin by leaving everything out.
    """
    lines = path.read_text().split()
    if lines[0] != "*":
        raise ValueError(f"{path}: must begin with *")
    return {line[1:] for line in lines if line.startswith("!")}


def words_of(text: str) -> list[str]:
    """Return the command of CMD or ENTRYPOINT; only the form of a JSON list is known."""
    words = json.loads(text)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{text}: must be a list of words")
    return words


def pairs_of(text: str) -> dict[str, str]:
    """Return the names and values of ENV or ARG."""
    pairs = [word.partition("=") for word in shlex.split(text)]
    return {name: value for name, _, value in pairs}


def fill_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables replaced, as a Dockerfile and a compose file do.

    Raises:
        ValueError: one that must be set and is not.
    """

    def value_of(match: re.Match[str]) -> str:
        name, kind, rest = match[1] or match[4], match[2], match[3]
        if values.get(name) or (name in values and not kind):
            return values[name]
        if kind == "?":
            raise ValueError(f"{name} must be set: {rest}")
        return rest or ""

    return _VARIABLE.sub(value_of, text)


def read_compose(path: Path, values: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of a compose file.

    Args:
        path: of the file.
        values: of its variables.
    """
    content = yaml.safe_load(fill_in(path.read_text(), values))
    return {name: _service(name, each, path.parent) for name, each in content["services"].items()}


def _service(name: str, given: dict[str, Any], folder: Path) -> Service:
    build = given.get("build")
    dockerfile = (folder / build["context"] / build["dockerfile"]).resolve() if build else None
    mounts = dict(volume.split(":", 1) for volume in given.get("volumes", ()))
    return Service(
        name,
        given.get("image", ""),
        dockerfile,
        dict(build["args"]) if build else {},
        list(given.get("command", ())),
        {key: str(value) for key, value in given.get("environment", {}).items()},
        mounts,
        int(given.get("deploy", {}).get("replicas", 1)),
    )
