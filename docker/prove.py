"""Proves the Dockerfile and the compose file where there is no container engine.

    make container-proof        # as root, with mmdebstrap and postgresql from Debian

Every step of the Dockerfile is carried out in a root file system of its own; the steps are read
from the file, and one that is not known here ends the proof. `python:3.11-slim` is stood in for by
a minimal Debian with its Python 3.11, Postgres' image by Debian's Postgres outside. Then the
services of the compose file run in the image, as its user and with its environment: a server and
two workers; and a client sends them the demo clip.

It is no container: network and process numbers are the machine's, and limits are not set.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from postgres_server import running_postgres
from recipes import (
    Service,
    Stage,
    allowed_names,
    fill_in,
    pairs_of,
    read_compose,
    read_dockerfile,
    words_of,
)

from amodal_client import Client

HERE = Path(__file__).parent
ROOT = HERE.parent
STAND_INS = {"python:3.11-slim": ("bookworm", "python3,python3-venv,ca-certificates")}
"""For each image that stages begin with: a release of Debian, and packages."""
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEMO = ROOT / "examples" / "demo" / "tabletop"
URL = "http://127.0.0.1:8420"
READY_S = 120
_FROM_HERE = ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt")
_ENVIRONMENT = ("PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""How this machine reaches a package index: an engine's build would have it too."""


@dataclass
class Image:
    """A root file system, and what the Dockerfile says of running it."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": SEARCH_PATH})
    args: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def words(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """Return the words that run a command in the image, as its user."""
        accounts = (self.root / "etc/passwd").read_text().splitlines()
        ids = {line.split(":")[0]: ":".join(line.split(":")[2:4]) for line in accounts}
        values = {**self.env, **self.args, **(env or {})}
        settings = [f"{name}={value}" for name, value in values.items()]
        inside = ["/usr/bin/env", "-i", f"--chdir={self.folder}", *settings, *command]
        return ["chroot", f"--userspec={ids[self.user]}", str(self.root), *inside]

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """Run a command in the image and return what it prints."""
        return subprocess.check_output(self.words(command, env), text=True)  # noqa: S603


def main() -> None:
    """Build, serve, ask, and print the figures."""
    parser = argparse.ArgumentParser(description="Prove the Dockerfile and the compose file.")
    parser.add_argument("--work", type=Path, help="folder of the file systems [a temporary one]")
    options = parser.parse_args()
    if os.getuid() != 0:
        sys.exit("prove.py: needs root, for chroot")
    services = read_compose(HERE / "compose.yaml", {"POSTGRES_PASSWORD": "secret"})
    ours = {name: each for name, each in services.items() if each.dockerfile is not None}
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        base_mb = _size_mb(_base("python:3.11-slim", work))
        started_s = time.monotonic()
        image = build(ours["server"], work)
        _say(f"built in {time.monotonic() - started_s:.0f} s, without the base")
        size_mb = _size_mb(image.root)
        _say(f"image: {size_mb} MB unpacked, {size_mb - base_mb} MB of them on top of the base")
        database = stack.enter_context(running_postgres())
        stack.enter_context(_system_folders(image.root))
        serve_and_ask(image, ours, database, work)


def build(service: Service, work: Path) -> Image:
    """Carry out the steps of a service's Dockerfile and return the image of the last stage."""
    assert service.dockerfile is not None
    context = _context(work / "context")
    images: dict[str | None, Image] = {}
    for number, stage in enumerate(read_dockerfile(service.dockerfile)):
        image = Image(work / f"stage-{number}")
        shutil.rmtree(image.root, ignore_errors=True)
        subprocess.run(["cp", "-a", _base(stage.base, work), image.root], check=True)  # noqa: S603, S607
        for name in _FROM_HERE:
            shutil.copyfile(f"/{name}", image.root / name)
        roots = {name: each.root for name, each in images.items()} | {"": context}
        with _system_folders(image.root):
            _carry_out(stage, image, roots, service.build_args)
        images[stage.name] = image
    return image


def _context(folder: Path) -> Path:
    """Make the folder that the build sees: the files of the working tree, less .dockerignore."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.check_output(listed, cwd=ROOT, text=True).splitlines()  # noqa: S603
    allowed = allowed_names(ROOT / ".dockerignore")
    for name in names:
        if Path(name).parts[0] in allowed and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _base(name: str, work: Path) -> Path:
    """Return the root file system that stands in for an image, made once."""
    suite, packages = STAND_INS[name]
    folder = work / f"base-{suite}"
    if not (folder / "usr/bin/python").is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
        words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"]
        subprocess.run([*words, f"--include={packages}", suite, folder], check=True)  # noqa: S603
        (folder / "usr/bin/python").symlink_to("python3")
    return folder


def _carry_out(
    stage: Stage, image: Image, roots: Mapping[str | None, Path], build_args: Mapping[str, str]
) -> None:
    for name, text in stage.steps:
        _say(f"{name} {text}"[:110])
        if name == "ARG":
            image.args |= {key: build_args.get(key, value) for key, value in pairs_of(text).items()}
        elif name == "ENV":
            image.env |= pairs_of(fill_in(text, {**image.env, **image.args}))
        elif name == "WORKDIR":
            image.folder = text
            (image.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            _copy(text.split(), image, roots)
        elif name == "RUN":
            network = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
            subprocess.run(image.words(["/bin/sh", "-c", text], network), check=True)  # noqa: S603
        else:
            _describe(name, text, image)
    image.args = {}


def _describe(name: str, text: str, image: Image) -> None:
    """Keep what a step says of running the image."""
    if name == "USER":
        image.user = text
    elif name == "ENTRYPOINT":
        image.entrypoint = words_of(text)
    elif name == "CMD":
        image.command = words_of(text)
    elif name == "HEALTHCHECK":
        image.healthcheck = words_of(text.partition("CMD ")[2])
    else:
        raise ValueError(f"{name} is not known here")


def _copy(words: list[str], image: Image, roots: Mapping[str | None, Path]) -> None:
    """Copy files and the contents of folders, from the context or from an earlier stage."""
    stage = words.pop(0).partition("=")[2] if words[0].startswith("--from=") else ""
    *sources, target = words
    into = image.root / os.path.join(image.folder, target).lstrip("/")  # noqa: PTH118  (may be absolute)
    into.mkdir(parents=True, exist_ok=True)
    for name in sources:
        source = roots[stage] / name.lstrip("/")
        copied = f"{source}/." if source.is_dir() else source
        subprocess.run(["cp", "-a", copied, into], check=True)  # noqa: S603, S607
        if not stage:
            subprocess.run(["chown", "-R", "0:0", into], check=True)  # noqa: S603, S607


@contextmanager
def _system_folders(root: Path) -> Iterator[None]:
    """Mount what an engine mounts into every container, as far as programs here want it."""
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)  # noqa: S603, S607
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", root / "proc"], check=True)  # noqa: S603, S607


def serve_and_ask(image: Image, services: Mapping[str, Service], database: str, work: Path) -> None:
    """Run the services, send the demo clip as a short clip and as a job, and check what comes.

    Args:
        image: that they all run.
        services: of the compose file.
        database: SQLAlchemy URL of the Postgres that stands in for the compose file's.
        work: folder for the logs.
    """
    mounts = {each.volumes["files"] for each in services.values()}
    assert mounts == {image.env["AMODAL_DATA"]}, f"not one folder for all: {mounts}"
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for service in services.values():
            env = _at(service.environment, database)
            for number in range(1, service.replicas + 1):
                words = image.words([*image.entrypoint, *(service.command or image.command)], env)
                with (work / f"{service.name}-{number}.log").open("wb") as log:
                    started = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: S603
                processes[f"{service.name}-{number}"] = started
        started_s = time.monotonic()
        _wait_until_healthy(image, processes)
        _say(f"/readyz answers after {time.monotonic() - started_s:.1f} s: {sorted(processes)}")
        _check_users(processes)
        key = image.run([*image.entrypoint, "keys", "create", "proof"], env)
        _ask(re.findall(r"\S{32,}", key)[-1], image)
    finally:
        for process in processes.values():
            process.terminate()
        statuses = {name: process.wait(60) for name, process in processes.items()}
    # uvicorn cleans up and then ends by the signal, as a program should
    assert set(statuses.values()) <= {0, -signal.SIGTERM}, f"exit statuses {statuses}"
    _say(f"told to end, all did: {statuses}")


def _at(environment: Mapping[str, str], database: str) -> dict[str, str]:
    """Return the environment with the address of our Postgres in place of the compose file's."""
    url = environment["AMODAL_DATABASE_URL"]
    driver, host = re.fullmatch(r"(postgresql\+psycopg)://\w+:\w+@(\w+)/\w+", url).groups()  # type: ignore[union-attr]
    assert host == "postgres"
    assert database.startswith(f"{driver}://")
    return {**environment, "AMODAL_DATABASE_URL": database}


def _wait_until_healthy(image: Image, processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    """Wait until the image's own health check passes."""
    deadline_s = time.monotonic() + READY_S
    words = image.words(image.healthcheck)
    while subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode:  # noqa: S603
        ended = {name: each.poll() for name, each in processes.items() if each.poll() is not None}
        assert not ended, f"ended already: {ended}"
        assert time.monotonic() < deadline_s, f"not healthy within {READY_S} s"
        time.sleep(0.5)


def _check_users(processes: Mapping[str, subprocess.Popen[bytes]]) -> None:
    for name, process in processes.items():
        status = Path(f"/proc/{process.pid}/status").read_text()
        users = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
        assert users is not None
        assert "0" not in users[1].split(), f"{name} runs as root"


def _ask(key: str, image: Image) -> None:
    """Send the demo clip in both ways; the job must give what the image's command line does."""
    video = sorted((DEMO / "videos").iterdir())[0]
    shutil.copytree(DEMO, image.root / "tmp" / "demo", dirs_exist_ok=True)
    with Client(URL, api_key=key) as client:
        started_s = time.monotonic()
        short = client.segment(video, DEMO / "visible.json")
        _say(f"/v1/segment: {len(short.frames)} frames in {time.monotonic() - started_s:.1f} s")
        job = client.wait(client.submit(video, DEMO / "visible.json"))
        assert list(client.results(job)) == list(short.frames)
        found = client.download(job, "amodal.json", image.root / "tmp").read_bytes()
    clip = f"/tmp/demo/videos/{video.name}"  # noqa: S108  (of the image)
    options = ["--visible", "/tmp/demo/visible.json", "--output", "/data/proof"]  # noqa: S108
    image.run([*image.entrypoint, "annotate", clip, *options])
    assert found == (image.root / "data/proof/amodal.json").read_bytes()
    _say(f"/v1/jobs: {job.frames_done} frames, the bytes of 'amodal annotate' in the image")


def _size_mb(root: Path) -> int:
    said = subprocess.check_output(["du", "-sxm", "--exclude=proc", root], text=True)  # noqa: S603, S607
    return int(said.split()[0])


def _say(text: str) -> None:
    print(f"prove.py: {text}", flush=True)  # noqa: T201  (its output)


if __name__ == "__main__":
    main()
