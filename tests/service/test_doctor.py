"""What is installed and what really runs."""

import json
import sys
from pathlib import Path

import pytest

from amodal_model.errors import ModelError
from amodal_model.model_files import find_helper
from amodal_service.doctor import (
    Examination,
    examine,
    open_follower,
    report_lines,
    run_model,
)


@pytest.fixture(scope="module")
def found() -> Examination:
    return examine()


def test_the_shipped_model_really_runs(found: Examination) -> None:
    assert found.problems == []
    assert found.model["actual"] in found.model["requested"]
    assert found.model["step_ms"] > 0


def test_codecs_versions_and_threads_are_there(found: Examination) -> None:
    assert found.codecs["h264"]
    assert found.codecs["libx264"]
    assert found.cpu_threads >= 1
    assert found.versions["numpy"]
    assert found.versions["python"] == sys.version.split()[0]


def test_the_report_names_what_runs_and_what_is_missing(found: Examination) -> None:
    text = "\n".join(report_lines(found))
    assert found.model["actual"] in text
    assert text.endswith("no problems found")
    broken = Examination({}, {}, 1, {}, {}, {"training": ["torch"]}, ["two wheels"])
    lines = report_lines(broken)
    assert lines[-1] == "problem: two wheels"
    assert any(line.endswith("missing: torch") for line in lines)


def test_the_report_as_json_holds_the_same(found: Examination) -> None:
    content = json.loads("\n".join(report_lines(found, as_json=True)))
    assert content["model"]["actual"] == found.model["actual"]
    assert content["problems"] == []


def test_a_model_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ModelError, match="nowhere"):
        run_model("nowhere")


def test_the_follower_is_named_with_what_it_runs_on(found: Examination) -> None:
    assert found.follower["actual"] == found.model["actual"]
    line = next(each for each in report_lines(found) if each.startswith("follower"))
    assert found.follower["name"] in line
    assert found.follower["actual"] in line


def test_follower_weights_that_are_not_those_described_are_a_problem(tmp_path: Path) -> None:
    shipped = find_helper("follower", "shipped").path
    for name in ("model.json", "model.onnx"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    assert open_follower(str(tmp_path))["name"]
    with (tmp_path / "model.onnx").open("ab") as file:
        file.write(b"0")
    with pytest.raises(ModelError, match="sha256 differs"):
        open_follower(str(tmp_path))
