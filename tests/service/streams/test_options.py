"""What a client may ask of a stream: types as JSON has them, limits, what goes together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from amodal_service.streams.options import StreamOptions


@pytest.mark.parametrize(
    "given",
    [
        {"delta": 1},
        {"remembered": "yes"},
        {"pictures": 1},
        {"pictures": "true"},
        {"max_objects": "3"},
        {"max_objects": 0},
        {"max_objects": 1025},
        {"fps": 0},
        {"fps": True},
        {"mode": "paced"},
        {"mode": "fast"},
        {"masks": "none"},
        {"deadline_ms": -1},
        {"max_message_bytes": 4095},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StreamOptions.model_validate(given)


def test_a_paced_stream_names_its_rate() -> None:
    assert StreamOptions(mode="paced", fps=10).fps == 10
