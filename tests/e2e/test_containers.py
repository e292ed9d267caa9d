"""The Dockerfile and the compose file: what they name exists, and `docker/prove.py` reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_settings import BaseSettings
from recipes import (
    Service,
    allowed_names,
    fill_in,
    pairs_of,
    read_compose,
    read_dockerfile,
    words_of,
)

from amodal_service.policies import Allowance, Policies
from amodal_service.settings import Limits, Settings

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
STAGES = read_dockerfile(DOCKER / "Dockerfile")


@pytest.fixture
def services() -> dict[str, Service]:
    return read_compose(DOCKER / "compose.yaml", {"POSTGRES_PASSWORD": "secret"})


def _setting_names() -> set[str]:
    def names(kind: type[BaseSettings]) -> set[str]:
        prefix = str(kind.model_config.get("env_prefix"))
        return {f"{prefix}{name}".upper() for name in kind.model_fields}

    return names(Settings) | names(Limits) | names(Policies) | names(Allowance)


def _texts(name: str) -> list[str]:
    return [step.text for step in STAGES[-1].steps if step.name == name]


def test_the_services_are_a_server_two_workers_and_postgres(services: dict[str, Service]) -> None:
    replicas = {name: each.replicas for name, each in services.items()}
    assert replicas == {"postgres": 1, "server": 1, "worker": 2}
    server, worker = services["server"], services["worker"]
    assert server.dockerfile == worker.dockerfile == DOCKER / "Dockerfile"
    assert server.environment == worker.environment
    assert server.volumes["files"] == worker.volumes["files"] == "/data"
    assert server.build_args == {"EXTRA": "cpu"}


def test_every_setting_that_a_container_gets_is_one(services: dict[str, Service]) -> None:
    gpu = read_compose(DOCKER / "compose.gpu.yaml", {})
    given = [each.environment for each in (*services.values(), *gpu.values())]
    given += [pairs_of(fill_in(text, {"PATH": ""})) for text in _texts("ENV")]
    named = {name for each in given for name in each if name.startswith("AMODAL_")}
    assert {"AMODAL_DATABASE_URL", "AMODAL_DATA", "AMODAL_HOST", "AMODAL_REQUIRE_GPU"} <= named
    assert named - _setting_names() == set()


def test_what_the_dockerfile_copies_is_in_the_context() -> None:
    allowed = allowed_names(ROOT / ".dockerignore")
    copied = [step.text.split()[:-1] for step in STAGES[0].steps if step.name == "COPY"]
    names = {name for names in copied for name in names}
    assert names <= allowed
    assert all((ROOT / name).exists() for name in names)


def test_the_image_is_not_run_as_root_and_says_how_it_is() -> None:
    assert _texts("USER") == ["amodal"]
    assert words_of(_texts("ENTRYPOINT")[0]) == ["amodal"]
    (check,) = _texts("HEALTHCHECK")
    assert "/readyz" in words_of(check.partition("CMD ")[2])[-1]


@pytest.mark.parametrize("line", ["ADD x y", "SHELL x", "run x"])
def test_a_step_that_is_not_known_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM x\n{line}\n")
    with pytest.raises(ValueError, match="is not known here"):
        read_dockerfile(tmp_path / "Dockerfile")


def test_a_password_must_be_given() -> None:
    with pytest.raises(ValueError, match="POSTGRES_PASSWORD must be set"):
        read_compose(DOCKER / "compose.yaml", {})


def test_variables_have_defaults_as_in_a_compose_file() -> None:
    assert fill_in("${A:-x} ${B} $C ${D:-y}", {"B": "b", "C": "c", "D": ""}) == "x b c y"
