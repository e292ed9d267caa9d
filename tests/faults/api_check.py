"""Runs schemathesis, all phases and all checks, against a real server and its OpenAPI document.

    python tests/faults/api_check.py --schemathesis PATH

Twice: as a caller on the server's machine, who needs no key, and with the keys of two callers, who
must not see each other's jobs. `schemathesis.toml` beside this file says where a check's default
does not fit. A crash in the server's log counts as a failure, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx2
from service_processes import ServiceProcess, free_port, wait_until
from small_clips import write_small_clip

from amodal_service.api_keys import create_key
from amodal_service.database import open_database

_HERE = Path(__file__).parent
_PEERS = ("robot", "neighbour")
_MUCH = {"requests_per_minute": 0, "active_jobs": 0}


def main() -> None:
    """Check in both ways."""
    parser = argparse.ArgumentParser(description="Check the service against its document.")
    parser.add_argument("--schemathesis", default="schemathesis", help="the program")
    parser.add_argument("--seed", type=int, default=1, help="of what is generated")
    options = parser.parse_args()
    for with_keys in (False, True):
        with tempfile.TemporaryDirectory(prefix="amodal-api-") as name:
            status = _check(Path(name), options.schemathesis, options.seed, with_keys)
        if status:
            sys.exit(status)


def _check(folder: Path, program: str, seed: int, with_keys: bool) -> int:
    """Run a server and schemathesis on it; return the exit status."""
    tokens = _make_keys(folder / "data") if with_keys else []
    port = free_port()
    settings = {"AMODAL_DATA": str(folder / "data"), "AMODAL_ANONYMOUS": str(not with_keys)}
    server = ServiceProcess("serve", settings, folder / "log", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    arguments = [program, "--config-file", str(_configure(folder, tokens)), "run"]
    arguments += ["--seed", str(seed), f"{url}/openapi.json"]
    try:
        wait_until(lambda: _is_ready(url), timeout_s=120)
        ran = subprocess.run(arguments, env=_environment(folder), cwd=folder, check=False)  # noqa: S603
    finally:
        server.stop()
    return ran.returncode or _count_crashes(server.log)


def _environment(folder: Path) -> dict[str, str]:
    """Return what configuration and hooks read: their place, and the files of a clip."""
    clip = write_small_clip(folder, "street.mp4", 6)
    return {
        **os.environ,
        "AMODAL_CHECK_HOOKS": str(_HERE / "api_check_hooks.py"),
        "AMODAL_CHECK_CLIP": str(clip.video),
        "AMODAL_CHECK_MASKS": str(clip.visible),
    }


def _make_keys(data: Path) -> list[str]:
    """Make the key of each caller."""
    data.mkdir()
    with open_database(f"sqlite:///{data}/amodal.sqlite3").write() as connection:
        made = [create_key(connection, name, ["read", "write"], allowance=_MUCH) for name in _PEERS]
    return [key.token for key in made]


def _configure(folder: Path, tokens: list[str]) -> Path:
    """Write the configuration, with the keys where there are some."""
    config = folder / "schemathesis.toml"
    text = (_HERE / "schemathesis.toml").read_text()
    if tokens:
        callers = [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
            for name, token in zip(_PEERS, tokens, strict=True)
        ]
        keys = folder / "keys.json"
        keys.write_text(json.dumps({"auth": callers}))
        text += f"\n[auth.wfc]\npath = {json.dumps(str(keys))}\npeers = {json.dumps(_PEERS)}\n"
    config.write_text(text)
    return config


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _count_crashes(log: Path) -> int:
    """Return how many requests the server logged as a crash of its own, and print them."""
    lines = log.read_text(errors="replace").splitlines()
    crashes = [line for line in lines if '"request_crashed"' in line]
    for line in crashes:
        print(line)  # noqa: T201  its output
    return len(crashes)


if __name__ == "__main__":
    main()
