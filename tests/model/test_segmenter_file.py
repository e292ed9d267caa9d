"""Hostile ONNX files are refused before a runtime sees them, in one line each."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_segmenters import FLOAT, GraphBuilder, write_generic, write_yolo

from amodal_model import segmenter_file
from amodal_model.errors import ModelError
from amodal_model.segmenter_file import check_onnx_file, read_facts


def write_external(path: Path, location: str) -> Path:
    """Write a graph whose weight lies in another file."""
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, [4])
    weight = TensorProto()
    weight.name, weight.data_type = "w", FLOAT
    weight.dims.append(4)
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    graph.weights.append(weight)
    graph.output("y", FLOAT, [4], graph.node("Add", x, "w"))
    return graph.save(path)


def one_line(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_onnx_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_operators_of_a_model_are_found(tmp_path: Path) -> None:
    facts = check_onnx_file(write_generic(tmp_path / "a.onnx"))
    assert ("", "Gather") in facts.operators
    assert not facts.external


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert one_line(tmp_path / "none.onnx").endswith("none.onnx: no such file")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.touch()
    assert "0 bytes" in one_line(path)


@pytest.mark.parametrize("content", [b"hello" * 99, b"\x89PNG\r\n\x1a\n" + bytes(99), bytes(64)])
def test_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    assert "not an ONNX file" in one_line(path)


def test_every_truncation_is_refused_or_still_onnx(tmp_path: Path) -> None:
    path = write_generic(tmp_path / "a.onnx")
    content = path.read_bytes()
    refused = 0
    for length in range(1, len(content), 7):
        path.write_bytes(content[:length])
        try:
            check_onnx_file(path)
        except ModelError:
            refused += 1
    assert refused > 0.9 * len(range(1, len(content), 7))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(min_size=1, max_size=200))
def test_any_bytes_end_in_facts_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(ModelError):
        assert read_facts(path)


def test_custom_operator_is_named(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, [1])
    graph.output("y", FLOAT, [1], graph.node("Evil", x, domain="my.ops"))
    path = graph.save(tmp_path / "a.onnx", {"my.ops": 1})
    assert "operator 'my.ops:Evil' is a custom one" in one_line(path)


def test_function_of_the_model_itself_is_no_custom_operator(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.input("x", FLOAT, [1])
    graph.output("y", FLOAT, [1], graph.node("Twice", x, domain="local"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1]
    )
    model = helper.make_model(
        helper.make_graph(graph.nodes, "g", graph.inputs, graph.outputs),
        opset_imports=opsets,
        functions=[twice],
    )
    path = tmp_path / "a.onnx"
    path.write_bytes(model.SerializeToString())
    assert ("local", "Twice") in check_onnx_file(path).functions


def test_custom_operator_in_a_branch_is_found(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Evil", [], ["z"], domain="my.ops")],
        "inner",
        [],
        [helper.make_tensor_value_info("z", FLOAT, [1])],
    )
    graph = GraphBuilder()
    x = graph.input("x", TensorProto.BOOL, [1])
    value = graph.node("If", x, then_branch=inner, else_branch=inner)
    graph.output("y", FLOAT, [1], value)
    assert "my.ops:Evil" in one_line(graph.save(tmp_path / "a.onnx", {"my.ops": 1}))


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "a/../../secret.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "m").mkdir()
    path = write_external(tmp_path / "m" / "a.onnx", location)
    assert "its weights lie outside its folder" in one_line(path)


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w.bin").symlink_to(tmp_path / "secret.bin")
    path = write_external(tmp_path / "m" / "a.onnx", "w.bin")
    assert "its weights lie outside its folder" in one_line(path)


def test_weights_beside_the_file_are_fine_and_missing_ones_named(tmp_path: Path) -> None:
    path = write_external(tmp_path / "a.onnx", "w.bin")
    assert "weights file 'w.bin' is missing" in one_line(path)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    assert check_onnx_file(path).external == {"w.bin"}


def test_weights_of_a_constant_node_are_checked_too(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros(4, np.float32), "c")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    graph = GraphBuilder()
    graph.output("y", FLOAT, [4], graph.node("Constant", value=weight))
    assert "outside its folder" in one_line(graph.save(tmp_path / "a.onnx"))


def test_file_above_the_limit_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_generic(tmp_path / "a.onnx")
    with path.open("r+b") as file:
        file.truncate(segmenter_file.MAX_FILE_BYTES + 1)
    assert f"an ONNX file has 1 to {segmenter_file.MAX_FILE_BYTES}" in one_line(path)


def test_nesting_and_fields_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.onnx"
    content = b""
    # a graph in an attribute of a node in a graph, 20 times
    for _ in range(20):
        for field in (6, 5, 1):
            size = len(content)
            length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
            content = bytes([field << 3 | 2]) + length + content
    path.write_bytes(b"\x3a" + bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) + content)
    assert "nest deeper than 32" in one_line(path)
    monkeypatch.setattr(segmenter_file, "MAX_FIELDS", 10)
    yolo = write_yolo(tmp_path / "b.onnx", np.zeros((1, 6, 4)), np.zeros((1, 1, 4, 4)))
    assert "more than 10 fields" in one_line(yolo)
