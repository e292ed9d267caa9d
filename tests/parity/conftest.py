"""Both engines over the same weights."""

from __future__ import annotations

import pytest

from amodal_model.engine_onnx import OnnxEngine
from amodal_model.model_files import ModelFolder
from amodal_model.stream import AmodalSegmenter


@pytest.fixture(scope="session")
def onnx_segmenter(tiny_model_folder: ModelFolder) -> AmodalSegmenter:
    return AmodalSegmenter(OnnxEngine(tiny_model_folder, "cpu"))


@pytest.fixture(params=["torch", "onnx"])
def each_segmenter(request: pytest.FixtureRequest) -> AmodalSegmenter:
    """The tiny network on torch, then on ONNX Runtime."""
    name = {"torch": "tiny_segmenter", "onnx": "onnx_segmenter"}[request.param]
    segmenter = request.getfixturevalue(name)
    assert isinstance(segmenter, AmodalSegmenter)
    return segmenter
