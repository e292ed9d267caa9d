"""The figures of identity: as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from amodal_training.evaluation_identity import IdentityCounts, IdentityEvaluation

FIGURES = ("returns", "return_switches", "switches", "mistaken")


def sum_counts(counts: Sequence[IdentityCounts]) -> dict[str, int]:
    """Return the figures of all clips together.

    >>> sum_counts([IdentityCounts("a", 3, 1, 2, 0), IdentityCounts("b", 1, 0, 0, 1)])
    {'returns': 4, 'return_switches': 1, 'switches': 2, 'mistaken': 1}
    """
    return {name: sum(getattr(one, name) for one in counts) for name in FIGURES}


def identity_json(evaluation: IdentityEvaluation) -> dict[str, Any]:
    """Return the JSON value of an evaluation of identity, clips by name of their source."""
    return {
        "dataset": evaluation.dataset,
        "identity": {
            name: {**sum_counts(counts), "clips": [one._asdict() for one in counts]}
            for name, counts in evaluation.counts.items()
        },
    }


def print_identity(console: Console, evaluation: IdentityEvaluation) -> None:
    """Print how often objects that were hidden came back under another id, by method."""
    table = Table(
        title=f"{evaluation.dataset}: ids of visible masks that were given without",
        caption="returns: shown again after frames without a pixel; mistaken: got another's id",
    )
    table.add_column("ids from association", no_wrap=True)
    for column in ("returns", "id switches at them", "all id switches", "mistaken"):
        table.add_column(column, justify="right")
    for name, counts in evaluation.counts.items():
        table.add_row(escape(name), *map(str, sum_counts(counts).values()))
    console.print(table)
