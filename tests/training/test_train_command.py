"""``amodal train`` end to end on the bundled clip: what it leaves, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_model.errors import InputError
from amodal_model.model_files import find_model
from amodal_training.train_command import train

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop"


@pytest.mark.usefixtures("quick_selection")
def test_training_leaves_a_model_that_can_be_loaded(tmp_path: Path) -> None:
    train([DEMO], tmp_path / "run", steps=1, size="small", memory=False, workers=0)
    folder = find_model(tmp_path / "run")
    assert folder.graph().is_file()
    assert folder.description["network"]["uses_memory"] is False


def test_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'huge' is not one of small, base"):
        train([DEMO], tmp_path / "run", size="huge")
