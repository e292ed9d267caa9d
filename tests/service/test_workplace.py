"""What jobs and requests of one process share, and where it must run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import amodal_model
from amodal_model.errors import ModelError
from amodal_model.onnx_session import provider_of
from amodal_model.stream import AmodalSegmenter
from amodal_service.mask_sources import Runtime
from amodal_service.settings import Settings
from amodal_service.workplace import open_workplace


def test_networks_beside_the_model_run_where_it_does(tmp_path: Path) -> None:
    with open_workplace(Settings(data=tmp_path)) as place:
        requested = place.segmenter.engine.info.requested
        assert place.runtime == Runtime(provider_of(requested), require_gpu=False)


def test_nothing_starts_where_a_gpu_is_required_and_the_follower_runs_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = amodal_model.load

    def load_all_the_same(model: str, **_: Any) -> AmodalSegmenter:
        return load(model, provider="cpu")

    monkeypatch.setattr(amodal_model, "load", load_all_the_same)
    settings = Settings(data=tmp_path, require_gpu=True)
    with pytest.raises(ModelError, match="a GPU is required"), open_workplace(settings):
        pass
