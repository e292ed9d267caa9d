"""The version of the installed distribution."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def amodal_version() -> str:
    """Return the version of `amodal`, or ``unknown`` where it runs without being installed."""
    return distribution_version("amodal") or "unknown"


def distribution_version(name: str) -> str | None:
    """Return the version of an installed distribution, ``None`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
