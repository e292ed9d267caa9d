from __future__ import annotations

import pytest

from amodal_model.errors import InputError
from amodal_training.benchmark_command import BenchmarkKind, benchmark, parse_seeds


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", range(7, 8)), ("900-929", range(900, 930)), (" 3-3 ", range(3, 4))]
)
def test_seeds_are_one_number_or_a_range_with_both_ends(text: str, seeds: range) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "5-", "9-3", "-1", "1-2-3", "1.5"])
def test_anything_else_as_seeds_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="seeds must"):
        parse_seeds(text)


def test_davis_composite_asks_for_its_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    output = tmp_path_factory.mktemp("out") / "made"
    with pytest.raises(InputError, match="--from 1 time"):
        benchmark(BenchmarkKind.DAVIS_COMPOSITE, output)
    assert not output.exists()
