"""A real Postgres of our own: made in a temporary folder, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_processes import free_port

MISSING = "no Postgres here: apt-get install postgresql"


def postgres_folder() -> Path | None:
    """Return the folder of Postgres' programs, the newest there is."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a server and yield the SQLAlchemy URL of its database."""
    programs = postgres_folder()
    assert programs is not None, MISSING
    with tempfile.TemporaryDirectory(prefix="amodal-postgres-") as name:
        folder, port = Path(name), free_port()
        account = _account(folder)
        subprocess.run(  # noqa: S603
            [programs / "initdb", "-D", folder / "db", "-U", "amodal", "-A", "trust", "-N"],
            check=True,
            stdout=subprocess.DEVNULL,
            user=account,
            cwd=folder,
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} -c fsync=off"
        control = [str(programs / "pg_ctl"), "-D", str(folder / "db"), "-w", "-s"]
        start = [*control, "-o", options, "-l", str(folder / "log"), "start"]
        subprocess.run(start, check=True, user=account, cwd=folder)  # noqa: S603
        try:
            yield f"postgresql+psycopg://amodal@127.0.0.1:{port}/postgres"
        finally:
            stop = [*control, "-m", "immediate", "stop"]
            subprocess.run(stop, check=True, user=account, cwd=folder)  # noqa: S603


def _account(folder: Path) -> str | None:
    """Return the account to run as: Postgres refuses to run as root."""
    if os.getuid() != 0:
        return None
    shutil.chown(folder, "postgres")
    return "postgres"
