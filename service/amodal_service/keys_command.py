"""``amodal keys``: make, list, replace and withdraw API keys, on the machine of the database."""

from __future__ import annotations

import re
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from amodal_model.errors import InputError
from amodal_service.api_keys import SCOPES, NewKey, create_key, list_keys, revoke_key, rotate_key
from amodal_service.database import open_database
from amodal_service.settings import Settings

app = typer.Typer(
    help="API keys of the service (database: AMODAL_DATABASE_URL or AMODAL_DATA).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def seconds_of(duration: str) -> float:
    """Return the seconds of a duration such as ``90d`` or ``12h``.

    Raises:
        InputError: nothing of that form.
    """
    match = re.fullmatch(r"(\d{1,6})([smhdw])", duration)
    if match is None:
        raise InputError(f"duration {duration!r}, must be a number and s, m, h, d or w, as in 90d")
    return int(match[1]) * float(_UNITS[match[2]])


@app.command()
def create(  # noqa: PLR0913  (every option is an argument)
    name: Annotated[str, typer.Argument(help="Whose key, or what for.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="read, write or admin; may be repeated [read write].")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Life, as in 90d or 12h [no end].")] = None,
    requests_per_minute: Annotated[int | None, typer.Option(min=0)] = None,
    bytes_per_hour: Annotated[int | None, typer.Option(min=0)] = None,
    video_seconds_per_hour: Annotated[int | None, typer.Option(min=0)] = None,
    active_jobs: Annotated[int | None, typer.Option(min=0, help="0: no limit.")] = None,
) -> None:
    """Make a key and print it, once."""
    scopes = scope or ["read", "write"]
    unknown = sorted(set(scopes) - SCOPES)
    if unknown:
        raise InputError(f"unknown scope {unknown[0]!r}, there are {', '.join(sorted(SCOPES))}")
    given = {
        "requests_per_minute": requests_per_minute,
        "bytes_per_hour": bytes_per_hour,
        "video_seconds_per_hour": video_seconds_per_hour,
        "active_jobs": active_jobs,
    }
    allowance = {key: value for key, value in given.items() if value is not None}
    lasts_s = seconds_of(expires) if expires else None
    with open_database(Settings().database).write() as connection:
        made = create_key(connection, name, scopes, lasts_s=lasts_s, allowance=allowance)
    _print(made)


@app.command("list")
def list_all() -> None:
    """List every key, without its secret."""
    with open_database(Settings().database).read() as connection:
        keys = list_keys(connection)
    table = Table("id", "name", "owner", "scopes", "made", "expires", "state")
    for key in keys:
        state = "valid" if key.is_valid(time.time()) else "revoked" if key.revoked_s else "expired"
        scopes = " ".join(sorted(key.scopes))
        times = (_date(key.created_s), _date(key.expires_s))
        table.add_row(key.id, key.name, key.owner, scopes, *times, state)
    Console().print(table)


@app.command()
def revoke(key_id: Annotated[str, typer.Argument(help="Of the key.")]) -> None:
    """Withdraw a key at once."""
    with open_database(Settings().database).write() as connection:
        revoke_key(connection, key_id)
    typer.echo(f"revoked {key_id}")


@app.command()
def rotate(
    key_id: Annotated[str, typer.Argument(help="Of the old key.")],
    overlap: Annotated[str, typer.Option(help="How long the old key still opens.")] = "24h",
    expires: Annotated[str | None, typer.Option(help="Life of the new key [no end].")] = None,
) -> None:
    """Replace a key: the same owner and scopes, a new secret."""
    lasts_s = seconds_of(expires) if expires else None
    with open_database(Settings().database).write() as connection:
        made = rotate_key(connection, key_id, overlap_s=seconds_of(overlap), lasts_s=lasts_s)
    _print(made)


def _print(made: NewKey) -> None:
    typer.echo(made.token)
    typer.echo(f"key {made.key.id}; the line above is shown this once", err=True)


def _date(time_s: float | None) -> str:
    return "" if time_s is None else time.strftime("%Y-%m-%d %H:%M", time.gmtime(time_s))
