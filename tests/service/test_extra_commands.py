"""Commands of other packages: found without importing, loaded when called."""

import sys
from importlib.metadata import EntryPoint

import pytest
import typer

from amodal_model.errors import MissingExtraError
from amodal_service.extra_commands import GROUP, add_extra_commands, load_command


def _entry(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_a_command_is_loaded_by_its_entry_point() -> None:
    assert load_command(_entry("train", "json:dumps")).__name__ == "dumps"


def test_a_missing_part_is_named_with_what_to_install() -> None:
    with pytest.raises(MissingExtraError, match="'amodal train' needs absent_package") as caught:
        load_command(_entry("train", "absent_package.commands:train"))
    assert "pip install 'amodal[cpu,train]'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_of_our_own_is_not_called_a_missing_part() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"amodal_service\.absent"):
        load_command(_entry("train", "amodal_service.absent:train"))


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(MissingExtraError, match="sys:version is not a command"):
        load_command(_entry("train", "sys:version"))


def _listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], entries: list[EntryPoint]
) -> str:
    """Return the help of an application with these commands of other packages."""
    monkeypatch.setattr("amodal_service.extra_commands.entry_points", lambda group: entries)
    app = typer.Typer()
    app.command("own")(lambda: None)
    add_extra_commands(app)
    app(["--help"], standalone_mode=False)
    return capsys.readouterr().out


def test_listing_the_commands_imports_none_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [_entry("train", "absent_package:train"), _entry("other", "absent_package:other")]
    listed = _listed(monkeypatch, capsys, entries)
    assert "Train on unlabeled video" in listed
    assert "From absent_package" in listed
    assert "absent_package" not in sys.modules


def test_commands_of_the_project_itself_are_not_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [_entry("results", "json:dumps"), _entry("other", "json:dumps")]
    listed = _listed(monkeypatch, capsys, entries)
    assert "other" in listed
    assert "results" not in listed


def test_arguments_and_help_go_to_the_command_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [_entry("double", "test_doubling:double")]
    monkeypatch.setattr("amodal_service.extra_commands.entry_points", lambda group: entries)
    monkeypatch.setitem(sys.modules, "test_doubling", _Doubling())
    app = typer.Typer()
    app.command("own")(lambda: None)
    add_extra_commands(app)
    with pytest.raises(SystemExit) as caught:
        app(["double", "21", "--loud"], standalone_mode=False)
    assert (caught.value.code, capsys.readouterr().out) == (0, "42!\n")
    with pytest.raises(SystemExit):
        app(["double", "--help"], standalone_mode=False)
    assert "Double a number." in capsys.readouterr().out


class _Doubling:
    @staticmethod
    def double(number: int, loud: bool = False) -> None:
        """Double a number."""
        sys.stdout.write(f"{2 * number}{'!' if loud else ''}\n")
