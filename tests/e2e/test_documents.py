"""What the documents name is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docker/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "README.md"])
def test_modules_that_a_map_names_exist(document: str) -> None:
    named = set(re.findall(r"[\w*]+\.py\b", (ROOT / document).read_text()))
    assert named
    parts = ("model", "training", "service", "examples")
    assert [name for name in sorted(named) if not any(_modules(part, name) for part in parts)] == []


def test_make_targets_of_the_readme_exist() -> None:
    named = set(re.findall(r"^make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named
    assert named - targets == set()


def test_every_runtime_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[>=<;]", line)[0] for group in groups for line in group}
    reasons = (ROOT / "docs/decisions/0003-dependencies.md").read_text()
    assert [name for name in sorted(names) if name not in reasons] == []


def test_every_pinned_version_is_exact() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []


def _modules(part: str, name: str) -> list[Path]:
    return list((ROOT / part).rglob(name))
