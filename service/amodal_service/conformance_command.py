"""``amodal conformance``: does a server keep to the streaming protocol?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from amodal_service.conformance.checks import CHECKS, Verdict, run_checks
from amodal_service.conformance.target import Target
from amodal_service.server_options import ApiKey

_COLOURS = {"pass": "green", "fail": "red", "not seen": "yellow"}


def conformance(
    url: Annotated[str, typer.Argument(help="Of the server, as http://HOST:PORT.")],
    api_key: ApiKey = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds to wait for an answer.")
    ] = 10.0,
    only: Annotated[
        list[str] | None, typer.Option(help="Only checks with this in their name; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check from outside that a server speaks amodal.stream.v1; exit status 1 where it does not."""
    wanted = [
        check
        for check in CHECKS
        if not only or any(part.lower() in check.__name__ for part in only)
    ]
    if not wanted:
        names = ", ".join(check.__name__ for check in CHECKS)
        raise typer.BadParameter(f"no check of that name, there are {names}")
    target = Target(url, api_key, timeout)
    console = Console(stderr=True)
    verdicts = []
    with console.status("checking"):
        for verdict in run_checks(target, wanted):
            verdicts.append(verdict)
    typer.echo(_json(verdicts), nl=True) if as_json else Console().print(_table(verdicts))
    if any(verdict.outcome == "fail" for verdict in verdicts):
        raise typer.Exit(1)


def _json(verdicts: list[Verdict]) -> str:
    is_conforming = all(verdict.outcome != "fail" for verdict in verdicts)
    told = {"is_conforming": is_conforming, "checks": [asdict(each) for each in verdicts]}
    return msgspec.json.format(msgspec.json.encode(told)).decode()


def _table(verdicts: list[Verdict]) -> Table:
    counts = {name: sum(each.outcome == name for each in verdicts) for name in _COLOURS}
    caption = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    table = Table("", "what must hold", "why", caption=caption)
    for each in verdicts:
        colour = _COLOURS[each.outcome]
        table.add_row(f"[{colour}]{each.outcome}[/]", each.demand, each.why)
    return table
