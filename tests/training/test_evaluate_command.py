import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from amodal_model.errors import AmodalError, InputError
from amodal_training.evaluate_command import evaluate, parse_also

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(evaluate)


def test_baselines_alone_are_printed_and_written(passing_dataset: Path, tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    result = CliRunner().invoke(
        app, [str(passing_dataset), "--model", "none", "--json", str(target)]
    )
    assert result.exit_code == 0, result.output
    assert "union_by_masks" in result.stdout
    content = json.loads(target.read_text())
    assert content["mode"] == "causal"
    assert "filled_box" in content["methods"]
    assert [path.name for path in tmp_path.glob("*.json*")] == ["figures.json"]


def test_json_into_a_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="folder that exists"):
        evaluate(tmp_path / "nowhere", json_path=tmp_path / "missing" / "figures.json")


def test_unknown_model_is_one_clear_line(passing_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(AmodalError) as error:
        evaluate(passing_dataset, model=str(tmp_path / "no-model"))
    assert "no-model" in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_to_evaluate_is_refused(passing_dataset: Path) -> None:
    with pytest.raises(InputError, match="--model none"):
        evaluate(passing_dataset, model="none", no_baselines=True)


def test_unknown_mode_is_a_usage_error(passing_dataset: Path) -> None:
    result = CliRunner().invoke(app, [str(passing_dataset), "--mode", "backwards"])
    assert result.exit_code == 2
    assert "backwards" in result.output


def test_also_names_one_more_model() -> None:
    assert parse_also("bound=runs/a=b", "offline") == ("bound (offline)", "runs/a=b")


@pytest.mark.parametrize("entry", ["", "name", "name=", "=folder"])
def test_also_of_another_form_is_refused(entry: str) -> None:
    with pytest.raises(InputError, match="NAME=MODEL"):
        parse_also(entry, "causal")
