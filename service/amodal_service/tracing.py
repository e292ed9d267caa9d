"""Spans of requests and jobs, for OpenTelemetry, where the environment says where to send them.

``OTEL_EXPORTER_OTLP_ENDPOINT`` switches it on, as in every program that speaks OpenTelemetry; the
other ``OTEL_...`` variables mean what they mean there. What makes and sends spans is in the extra
``[otel]``. Requests are traced by FastAPI itself, as soon as there is a provider; jobs here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog
from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from amodal_model.errors import InputError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_log = structlog.get_logger()

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
_HTTP = "http/protobuf"
_SERVICE = "amodal"


@contextmanager
def tracing() -> Iterator[None]:
    """Send spans for as long as the block lasts, where the environment says where to.

    Raises:
        InputError: a protocol other than ``http/protobuf``.
    """
    provider = _configured_provider()
    if provider is None:
        yield
        return
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def span(name: str, **attributes: str | int) -> AbstractContextManager[Span]:
    """Return a span around a block; without a provider it costs nothing and says nothing."""
    named = {f"amodal.{key}": value for key, value in attributes.items()}
    return trace.get_tracer(_SERVICE).start_as_current_span(name, attributes=named)


def bind_to_span(**attributes: str | int) -> None:
    """Say more about the current span."""
    for key, value in attributes.items():
        trace.get_current_span().set_attribute(f"amodal.{key}", value)


def fail_span(reason: str) -> None:
    """Say that what the current span is about has failed."""
    trace.get_current_span().set_status(Status(StatusCode.ERROR, reason))


def _configured_provider() -> TracerProvider | None:
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), None)
    if endpoint is None or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    for name in _PROTOCOLS:
        if os.environ.get(name, _HTTP) != _HTTP:
            raise InputError(f"{name} is {os.environ[name]!r}, must be {_HTTP!r}")
    if not _is_installed():
        _log.warning("tracing_not_installed", endpoint=endpoint, install="pip install amodal[otel]")
        return None
    return _new_provider()


def _is_installed() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def _new_provider() -> TracerProvider:
    """Import the extra only here: it is not there everywhere, and takes its time."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = os.environ.get("OTEL_SERVICE_NAME") or _SERVICE
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
