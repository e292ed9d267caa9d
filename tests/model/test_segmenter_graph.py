"""Tensors that do not fit are named; absurd graphs are refused or fail in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import helper
from onnx_segmenters import FLOAT, GraphBuilder, write_generic

from amodal_model.errors import ModelError
from amodal_model.onnx_session import CPU, CUDA
from amodal_model.segmenter_graph import FLOATS, Graph
from amodal_model.segmenter_settings import SegmenterSettings

HAS_GPU = CUDA in onnxruntime.get_available_providers()


def settings(path: Path, provider: str = "cpu", *, require_gpu: bool = False) -> SegmenterSettings:
    return SegmenterSettings(
        "generic", path, {"model": path}, provider=provider, require_gpu=require_gpu
    )


def opened(path: Path) -> Graph:
    return Graph(path, settings(path))


def huge(path: Path, sides: list[int], *, is_output: bool) -> Path:
    """Write a graph of a few bytes that makes a tensor of any size."""
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, [1])
    value = graph.node("ConstantOfShape", graph.weight(np.array(sides)))
    if not is_output:
        value = graph.node("ReduceMax", value, keepdims=0)
    graph.output("y", FLOAT, None, graph.node("Add", value, x))
    return graph.save(path)


def test_what_runs_is_reported(tmp_path: Path) -> None:
    graph = opened(write_generic(tmp_path / "a.onnx"))
    assert (graph.requested, graph.actual) == ((CPU,), CPU)
    assert str(graph.inputs["image"]) == "'image' is float32 (1, 3, 48, 64)"


def test_gpu_that_is_required_is_never_silently_the_cpu(tmp_path: Path) -> None:
    path = write_generic(tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="a GPU is required, but CPUExecutionProvider runs"):
        Graph(path, settings(path, require_gpu=True))


@pytest.mark.skipif(HAS_GPU, reason="this onnxruntime has a GPU provider")
def test_provider_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write_generic(tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="CUDAExecutionProvider is not in the installed"):
        Graph(path, settings(path, "cuda"))


def test_missing_tensor_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    graph = opened(write_generic(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match="no output 'mask'; its outputs are: masks, scores"):
        graph.output("mask", FLOATS, "N")


def test_type_and_shape_that_do_not_fit_are_named(tmp_path: Path) -> None:
    graph = opened(write_generic(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=r"'image' is float32 \(1, 3, 48, 64\), need uint8 \(1, 3"):
        graph.input("image", ("uint8",), "1 3 H W")
    with pytest.raises(ModelError, match=r"output 'masks' is float32 \(2, 48, 64\), need .*1, N,"):
        graph.output("masks", FLOATS, "1 N h w")


def test_input_that_nobody_feeds_is_named(tmp_path: Path) -> None:
    graph = opened(write_generic(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=r"input 'image' is float32 .* not one that this kind"):
        graph.refuse_others(("picture",))


def test_absurd_output_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    path = huge(tmp_path / "a.onnx", [100_000, 100_000], is_output=True)
    with pytest.raises(ModelError, match=r"'y' is float32 \(100000, 100000\), 40000000000 bytes"):
        opened(path)


def test_absurd_intermediate_fails_in_one_line_and_the_process_lives(tmp_path: Path) -> None:
    # 4 exabytes: nothing can allocate it, and nothing tries while the file is loaded
    graph = opened(huge(tmp_path / "a.onnx", [2**20, 2**20, 2**20], is_output=False))
    with pytest.raises(ModelError, match=r"it fails") as caught:
        graph.run({"x": np.zeros(1, np.float32)}, "y")
    assert "\n" not in str(caught.value)
    assert opened(write_generic(tmp_path / "b.onnx")).actual == CPU


def test_feed_of_another_shape_fails_in_one_line(tmp_path: Path) -> None:
    graph = opened(write_generic(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=r"it fails: .*image") as caught:
        graph.run({"image": np.zeros((1, 3, 4, 4), np.float32)}, "masks")
    assert "\n" not in str(caught.value)


def test_wrong_operator_is_refused_in_one_line(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.input("x", FLOAT, [1])
    builder.output("y", FLOAT, [1], builder.node("NoSuchThing", x))
    with pytest.raises(ModelError, match=r"onnxruntime cannot load it: .*NoSuchThing") as caught:
        opened(builder.save(tmp_path / "a.onnx"))
    assert "\n" not in str(caught.value)


def test_sequence_is_no_tensor(tmp_path: Path) -> None:
    builder = GraphBuilder()
    x = builder.input("x", FLOAT, [1])
    value = builder.node("SequenceConstruct", x)
    builder.outputs.append(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    builder.nodes.append(helper.make_node("Identity", [value], ["y"]))
    with pytest.raises(ModelError, match=r"'y' is a seq\(tensor\(float\)\), need a tensor"):
        opened(builder.save(tmp_path / "a.onnx"))
