"""`amodal bench` runs what is shipped, in every precision that the CPU has of it."""

from __future__ import annotations

import pytest

from amodal_model.memory import CONTEXT_NAMES
from amodal_service.bench import _example_step, measure_steps


@pytest.mark.parametrize("model", ["shipped", "small"])
def test_network_alone_is_measured_in_each_precision(model: str) -> None:
    spent = measure_steps(model, rounds=1)
    assert set(spent) == {"fp32", "int8"}
    assert all(0 < each < 1000 for each in spent.values())


def test_the_example_tells_the_network_all_that_a_placement_does() -> None:
    assert _example_step()[0].context.shape[1] == len(CONTEXT_NAMES)
