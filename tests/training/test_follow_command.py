"""From footage to a network that follows, by the commands."""

from pathlib import Path
from typing import Any

import pytest
import typer
from small_clips import write_small_clip
from small_scenes import write_small_library
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from amodal_model.follow_network import FollowNetwork
from amodal_model.follower_learned import LearnedFollower
from amodal_model.model_files import find_helper
from amodal_training import follow_command
from amodal_training.follow_command import follow_train, scenes
from amodal_training.follow_scenes import scene_files
from amodal_training.follow_trainer import FollowConfig
from amodal_training.veil_scenes import read_veil_scene


def _run(command: object, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_scenes_are_drawn_and_a_network_is_trained_and_served(
    tmp_path: Path, passing_dataset: Path
) -> None:
    (tmp_path / "footage").mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_small_clip(tmp_path / "footage", name, 4)
    shapes = tmp_path / "shapes.npz"
    write_small_library(shapes)
    drawn, run = str(tmp_path / "scenes"), tmp_path / "run"
    said = _run(
        scenes, str(tmp_path / "footage"), "-o", drawn, "--shapes", str(shapes), "--drawn", "2"
    )
    assert "2 drawn scenes from 2 videos" in said
    crossed = str(tmp_path / "crossed")
    kinds = ["--labeled", str(passing_dataset), "--drawn", "1", "--from-labeled", "3", "--veils"]
    _run(scenes, str(tmp_path / "footage"), "-o", crossed, "--shapes", str(shapes), *kinds)
    of_drawn = [read_veil_scene(path).drawn.all() for path in scene_files(Path(crossed))]
    assert sum(of_drawn) == 1
    assert len(of_drawn) > 1
    said = _run(follow_train, drawn, "-o", str(run), "--minutes", "0.02", "--streams", "2")
    assert "wrote" in said
    assert "run 1" in repr(LearnedFollower(find_helper("follower", run)))


class StoppedError(Exception):
    """Raised in place of training."""


@pytest.mark.parametrize("init", [None, "shipped"])
def test_a_run_begins_from_its_seed_or_from_the_network_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str | None
) -> None:
    """A network made before the seed is set would be another one each time."""
    given: dict[str, Any] = {}

    def stop(_files: object, _run: Path, config: FollowConfig, _say: object, **rest: Any) -> None:
        given.update(rest, keeps_norms=config.keeps_norms)
        raise StoppedError

    monkeypatch.setattr(follow_command, "train_follower", stop)
    with pytest.raises(StoppedError):
        follow_train(tmp_path, tmp_path / "run", init=init)
    assert isinstance(given["start"], FollowNetwork) == given["keeps_norms"] == (init is not None)
