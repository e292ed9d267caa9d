"""The TOML file of a segmenter: what it says, and one clear line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from amodal_model.errors import InputError
from amodal_model.segmenter_settings import IMAGENET_MEAN, read_settings


def write(folder: Path, text: str) -> Path:
    for name in ("m.onnx", "e.onnx", "d.onnx"):
        (folder / name).write_bytes(b"x")
    path = folder / "my.toml"
    path.write_text(text)
    return path


YOLO = 'kind = "yolo"\nmodel = "m.onnx"\n'
SAM2 = 'kind = "sam2"\nencoder = "e.onnx"\ndecoder = "d.onnx"\n'


def test_two_lines_are_enough(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, YOLO))
    assert settings.models == {"model": tmp_path / "m.onnx"}
    assert (settings.fit, settings.provider, settings.max_objects) == ("letterbox", "auto", 32)
    assert settings.tensors["detections"] == "output0"
    assert settings.normalisation.mean == (0, 0, 0)


def test_sam2_is_normalised_as_it_was_trained(tmp_path: Path) -> None:
    settings = read_settings(write(tmp_path, SAM2))
    assert settings.normalisation.mean == IMAGENET_MEAN
    assert (settings.fit, settings.thresholds.mask) == ("stretch", 0.0)


def test_exporter_sets_the_names_and_a_table_changes_them(tmp_path: Path) -> None:
    text = SAM2 + 'exporter = "onnxruntime"\n[tensors]\nmasks = "m"\n'
    tensors = read_settings(write(tmp_path, text)).tensors
    assert (tensors["embedding"], tensors["masks"]) == ("image_embeddings", "m")


def test_every_key_is_read(tmp_path: Path) -> None:
    text = (
        YOLO
        + 'provider = "cpu"\nrequire_gpu = false\nthreads = 2\nmax_objects = 7\n'
        + 'input_size = [320, 640]\nfit = "stretch"\nclasses = [0, 2]\n'
        + '[normalisation]\nscale = 1\nmean = [1, 2, 3]\nstd = [4, 5, 6]\nchannels = "bgr"\n'
        + "[thresholds]\nscore = 0.1\nmask = 0.2\nnms_iou = 0.3\nduplicate_iou = 0.4\n"
    )
    settings = read_settings(write(tmp_path, text))
    assert (settings.threads, settings.max_objects, settings.classes) == (2, 7, (0, 2))
    assert (settings.input_size, settings.fit) == ((320, 640), "stretch")
    assert settings.normalisation.std == (4, 5, 6)
    assert settings.thresholds.nms_iou == 0.3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "kind is missing: sam2, yolo, generic"),
        ('kind = "sam"', "kind is 'sam', need one of sam2, yolo, generic"),
        ('kind = "yolo"', "model is None, need the name of an ONNX file"),
        ('kind = "yolo"\nmodel = "x.onnx"', "model is 'x.onnx', no such file"),
        (SAM2 + 'model = "m.onnx"', "unknown key model; known: decoder, encoder"),
        (YOLO + "treshold = 1", "unknown key treshold; known: classes, fit"),
        (YOLO + "[thresholds]\nscor = 1", r"unknown key thresholds.scor; known: duplicate_iou"),
        (YOLO + "[tensors]\nimg = 'a'", r"unknown key tensors.img; known: detections, image"),
        (YOLO + "[thresholds]\nscore = 1.5", r"thresholds.score is 1.5, need a number from 0 to 1"),
        (YOLO + "[thresholds]\nscore = nan", r"thresholds.score is nan"),
        (YOLO + "[thresholds]\nscore = true", r"thresholds.score is True"),
        (YOLO + "thresholds = 3", "thresholds is 3, need a table"),
        (YOLO + "threads = 0", "threads is 0, need a whole number from 1 to 256"),
        (YOLO + "threads = 1.0", r"threads is 1.0, need a whole number"),
        (YOLO + "max_objects = 5000", "max_objects is 5000, need a whole number from 1 to 256"),
        (YOLO + "input_size = [9, 99999]", r"need \[height, width\], each 1 to 4096"),
        (YOLO + "input_size = 640", r"input_size is 640, need \[height, width\]"),
        (YOLO + "provider = 'tpu'", "provider is 'tpu', need one of auto, cpu, cuda, tensorrt"),
        (YOLO + "require_gpu = 1", "require_gpu is 1, need true or false"),
        (YOLO + "classes = ['cat']", r"classes is \['cat'\], need a list of whole numbers"),
        (YOLO + "[normalisation]\nstd = [1, 0, 1]", "std is .* need three numbers from 1e-06"),
        (YOLO + "[normalisation]\nmean = [1, 0]", "mean is .* need three numbers"),
        (YOLO + "fit = 'crop'", "fit is 'crop', need one of stretch, letterbox, native"),
        (YOLO + "exporter = 'samexporter'", "unknown key exporter"),
        ("kind = [", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_settings(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_settings(tmp_path / "none.toml")
    with pytest.raises(InputError, match="limit 65536"):
        read_settings(write(tmp_path, "#" * 70000))
