"""Runs schemathesis, all phases and all checks, against a real server and its OpenAPI document.

    python tests/faults/api_check.py --schemathesis PATH

Twice: as a caller on the server's machine, who needs no key, and with the keys of two callers, who
must not see each other's jobs. `schemathesis.toml` beside this file says where a check's default
does not fit. Ends with the first exit status that is not 0.
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
_QUICK_CALLER = {"requests_per_minute": 0, "active_jobs": 0}


def main() -> None:
    """Check in both ways."""
    parser = argparse.ArgumentParser(description="Check the service against its document.")
    parser.add_argument("--schemathesis", default="schemathesis", help="the program")
    parser.add_argument("--seed", type=int, default=1, help="of what is generated")
    options = parser.parse_args()
    for with_keys in (False, True):
        with tempfile.TemporaryDirectory(prefix="amodal-api-") as name:
            status = _check(Path(name), [options.schemathesis, "--config-file"], options.seed, with_keys)
        if status:
            sys.exit(status)


def _check(folder: Path, program: list[str], seed: int, with_keys: bool) -> int:
    """Run a server and schemathesis on it; return the exit status."""
    clip = write_small_clip(folder, "street.mp4", 6)
    config = folder / "schemathesis.toml"
    config.write_text((_HERE / "schemathesis.toml").read_text() + _auth(folder, with_keys))
    port = free_port()
    settings = {"AMODAL_DATA": str(folder / "data"), "AMODAL_ANONYMOUS": str(not with_keys)}
    server = ServiceProcess("serve", settings, folder / "log", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "AMODAL_CHECK_HOOKS": str(_HERE / "api_check_hooks.py"),
        "AMODAL_CHECK_CLIP": str(clip.video),
        "AMODAL_CHECK_MASKS": str(clip.visible),
    }
    try:
        wait_until(lambda: _is_ready(url), timeout_s=120)
        arguments = [*program, str(config), "run", f"{url}/openapi.json", "--seed", str(seed)]
        return subprocess.run(arguments, env=environment, cwd=folder, check=False).returncode  # noqa: S603
    finally:
        server.stop()
        _print_crashes(server.log)


def _auth(folder: Path, with_keys: bool) -> str:
    """Make two keys and return the part of the configuration that names them."""
    if not with_keys:
        return ""
    data = folder / "data"
    data.mkdir()
    with open_database(f"sqlite:///{data}/amodal.sqlite3").write() as connection:
        made = [
            create_key(connection, name, ["read", "write"], allowance=_QUICK_CALLER)
            for name in _PEERS
        ]
    callers = [
        {
            "name": name,
            "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {key.token}"}],
        }
        for name, key in zip(_PEERS, made, strict=True)
    ]
    keys = folder / "keys.json"
    keys.write_text(json.dumps({"auth": callers}))
    return f"\n[auth.wfc]\npath = {json.dumps(str(keys))}\npeers = {json.dumps(_PEERS)}\n"


def _is_ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def _print_crashes(log: Path) -> None:
    """Print what the server logged as an error of its own."""
    for line in log.read_text(errors="replace").splitlines():
        if '"request_crashed"' in line:
            print(line)  # noqa: T201  its output


if __name__ == "__main__":
    main()
