"""``amodal annotate`` as a user runs it: real files in, files and exit codes out."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from command_line import Ran, Run

from amodal_model.masks import box_mask, encode_rle
from amodal_model.youtube_vis import read_mask_file

MakeScene = Callable[..., Any]


def _annotate(amodal: Run, scene: Any, output: Path, *more: object) -> Ran:
    return amodal("annotate", scene.video, "--visible", scene.visible, "--output", output, *more)


def _content(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "amodal.json").read_text())
    return content


def _frame_times(output: Path) -> list[float]:
    lines = (output / "frames.csv").read_text().splitlines()
    assert lines[0] == "frame_index,pts_s"
    return [float(line.split(",")[1]) for line in lines[1:]]


def test_a_clip_in_gives_whole_silhouettes_out(
    amodal: Run, scene: MakeScene, tmp_path: Path
) -> None:
    made = scene(count=24)
    ran = _annotate(amodal, made, tmp_path / "out", "--overlay", "--format", "coco-rle")
    assert ran == (0, f"{tmp_path / 'out' / 'amodal.json'}\n", "")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "amodal.json",
        "coco-rle.jsonl",
        "frames.csv",
        "overlay.mp4",
    ]
    content = _content(tmp_path / "out")
    assert content["info"] == {"made by": "a test"}
    assert [(v["id"], v["length"]) for v in content["videos"]] == [(3, 24)]
    assert [a["id"] for a in content["annotations"]] == [10, 20]
    block, ball = content["annotations"]
    assert block["states"] == ["visible"] * 24
    assert "hidden" in ball["states"]
    assert _frame_times(tmp_path / "out") == [round(0.04 * n, 6) for n in range(24)]
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24


def test_amodal_masks_contain_the_visible_ones(
    amodal: Run, scene: MakeScene, tmp_path: Path
) -> None:
    made = scene(count=16)
    assert _annotate(amodal, made, tmp_path / "out").code == 0
    given, whole = read_mask_file(made.visible), read_mask_file(tmp_path / "out" / "amodal.json")
    for index in range(16):
        amodal_masks = whole.masks_at(3, index)
        for track_id, visible in given.masks_at(3, index).items():
            assert not (visible.full() & ~amodal_masks[track_id].full()).any()


def test_offline_mode_has_the_same_shape(amodal: Run, scene: MakeScene, tmp_path: Path) -> None:
    assert _annotate(amodal, scene(), tmp_path / "out", "--mode", "offline").code == 0
    for annotation in _content(tmp_path / "out")["annotations"]:
        assert len(annotation["segmentations"]) == 20


def test_variable_frame_rate_keeps_its_times(amodal: Run, scene: MakeScene, tmp_path: Path) -> None:
    times_ms = [0, 40, 200, 220, 1000, 1010]
    made = scene(count=6, pts_ms=times_ms)
    assert _annotate(amodal, made, tmp_path / "out", "--overlay").code == 0
    assert _frame_times(tmp_path / "out") == [t / 1000 for t in times_ms]
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        stamps = [round(float(f.time or 0), 3) for f in container.decode(video=0)]
    assert stamps == [t / 1000 for t in times_ms]


@pytest.mark.parametrize(
    ("pix_fmt", "size"), [("gray", (96, 128)), ("yuv444p", (97, 127)), ("yuv420p10le", (96, 128))]
)
def test_grey_odd_and_deep_video_is_annotated(
    amodal: Run,
    scene: MakeScene,
    tmp_path: Path,
    pix_fmt: str,
    size: tuple[int, int],
) -> None:
    made = scene("a.mkv", codec="ffv1", pix_fmt=pix_fmt, size=size, count=5)
    assert _annotate(amodal, made, tmp_path / "out", "--overlay").code == 0
    assert len(_content(tmp_path / "out")["annotations"][0]["areas"]) == 5


def test_a_rotated_video_is_annotated_upright(
    amodal: Run, scene: MakeScene, tmp_path: Path
) -> None:
    made = scene("a.mp4", size=(128, 96), count=5)
    content = bytearray(made.video.read_bytes())
    start = content.find(b"tkhd") + 44
    quarter = (0, 65536, 0, -65536, 0, 0, 128 << 16, 0, 1 << 30)
    content[start : start + 36] = struct.pack(">9i", *quarter)
    made.video.write_bytes(bytes(content))
    ran = _annotate(amodal, made, tmp_path / "out")  # masks for the picture as it is stored
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "frames are 128x96, its visible masks 96x128" in ran.err
    upright = scene("b.mp4", size=(96, 128), count=5)
    text = upright.visible.read_text().replace("b.mp4", "a.mp4")
    upright.visible.write_text(text)
    ran = amodal("annotate", made.video, "--visible", upright.visible, "--output", tmp_path / "out")
    assert ran.code == 0


def test_folders_of_transparent_and_deep_images_are_annotated(
    amodal: Run, visible_for: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(4):
        image = np.full((96, 128, 4), 120, np.uint8)
        deep = image.astype(np.uint16) * 257
        cv2.imwrite(str(folder / f"{index}.png"), image if index % 2 else deep)
    visible = visible_for(tmp_path / "visible.json", "frames", 4, (96, 128), 10.0)
    ran = amodal("annotate", folder, "--visible", visible, "--output", tmp_path / "out")
    assert ran.code == 0
    assert _frame_times(tmp_path / "out") == [0.0, 0.1, 0.2, 0.3]


@pytest.fixture
def dataset(scene: MakeScene, tmp_path: Path) -> Path:
    """A dataset of two videos whose tracks have the same ids."""
    folder = tmp_path / "dataset"
    (folder / "videos").mkdir(parents=True)
    content: dict[str, Any] = {}
    for number, name in enumerate(("one.mp4", "two.mp4")):
        made = scene(name, count=8)
        made.video.rename(folder / "videos" / name)
        own = json.loads(made.visible.read_text())
        own["videos"][0]["id"] = number
        for annotation in own["annotations"]:
            annotation["video_id"] = number
        for key in ("videos", "annotations"):
            content.setdefault(key, []).extend(own[key])
    (folder / "visible.json").write_text(json.dumps(content))
    return folder


def test_a_dataset_gives_one_file_of_masks_and_a_folder_a_clip(
    amodal: Run, dataset: Path, tmp_path: Path
) -> None:
    ran = amodal("annotate", dataset, "-o", tmp_path / "out", "--overlay", "--format", "davis")
    assert (ran.code, ran.err) == (0, "")
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").glob("*/*")}
    assert {"one/frames.csv", "one/overlay.mp4", "two/frames.csv", "two/overlay.mp4"} <= found
    content = _content(tmp_path / "out")
    assert [v["file_name"] for v in content["videos"]] == ["one.mp4", "two.mp4"]
    keys = [(a["video_id"], a["id"]) for a in content["annotations"]]
    assert keys == [(0, 10), (0, 20), (1, 10), (1, 20)]
    again = amodal("annotate", dataset, "-o", tmp_path / "out", "--format", "davis")
    assert again.code == 0  # over an existing output


def test_a_dataset_is_not_overwritten_by_its_own_results(amodal: Run, dataset: Path) -> None:
    (dataset / "amodal.json").write_text("the truth")
    ran = amodal("annotate", dataset, "--output", dataset)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "is the input" in ran.err
    assert (dataset / "amodal.json").read_text() == "the truth"


def test_odd_file_names_are_files(amodal: Run, scene: MakeScene, tmp_path: Path) -> None:
    made = scene("http:%03d é.mp4", count=2)
    assert _annotate(amodal, made, tmp_path / "out").code == 0
    assert _content(tmp_path / "out")["videos"][0]["file_name"] == "http:%03d é.mp4"


def test_many_objects_in_a_frame_are_annotated(
    amodal: Run, scene: MakeScene, tmp_path: Path
) -> None:
    made = scene(count=2)
    content = json.loads(made.visible.read_text())
    block = content["annotations"][0]
    content["annotations"] = [{**block, "id": n} for n in range(100)]
    made.visible.write_text(json.dumps(content))
    ran = _annotate(amodal, made, tmp_path / "out")
    assert ran.code == 0
    assert ran.err.count("\n") == 1
    assert "visible masks overlap in 2 of 2 frames" in ran.err
    assert len(_content(tmp_path / "out")["annotations"]) == 100


def test_masks_on_few_frames_and_of_one_pixel_are_annotated(
    amodal: Run, scene: MakeScene, tmp_path: Path
) -> None:
    made = scene(count=6)
    content = json.loads(made.visible.read_text())
    dot = {"size": [96, 128], "counts": _dot_counts()}
    content["annotations"][0]["segmentations"] = [None, None, dot, None, None, None]
    content["annotations"][1]["segmentations"] = [None] * 6
    made.visible.write_text(json.dumps(content))
    assert _annotate(amodal, made, tmp_path / "out").code == 0
    seen, never = _content(tmp_path / "out")["annotations"]
    assert seen["states"][:2] == [None, None]
    assert seen["visible_segmentations"][2] == dot
    assert seen["states"][2] in {"visible", "partial"}
    assert never["states"] == [None] * 6


def _dot_counts() -> str:
    mask = np.zeros((96, 128), bool)
    mask[5, 7] = True
    return encode_rle(box_mask(mask))["counts"]


def _edit(made: Any, **changes: Any) -> None:
    """Change the masks of track 10."""
    content = json.loads(made.visible.read_text())
    content["annotations"][0] |= changes
    made.visible.write_text(json.dumps(content))


RLE = {"size": [96, 128], "counts": "not runs at all"}
SMALL = {"size": [10, 10], "counts": "T3"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_id": 99}, "track 10: video id 99 is not in 'videos'"),
        ({"segmentations": [None] * 3}, "track 10: 3 segmentations"),
        ({"segmentations": [SMALL] + [None] * 19}, "track 10, frame 0: mask size"),
        ({"segmentations": [None] * 19 + [RLE]}, "track 10, frame 19: RLE"),
        ({"id": 20}, "two annotations of one video share an id"),
    ],
)
def test_masks_that_do_not_hold_are_one_line_and_leave_nothing(
    amodal: Run,
    scene: MakeScene,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
) -> None:
    made = scene(count=20)
    _edit(made, **changes)
    ran = _annotate(amodal, made, tmp_path / "out")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("length", "message"), [(18, "frames or more"), (22, "20 frames")])
def test_another_number_of_frames_than_masks_is_one_line(
    amodal: Run,
    scene: MakeScene,
    visible_for: Callable[..., Path],
    tmp_path: Path,
    length: int,
    message: str,
) -> None:
    made = scene(count=20)
    visible_for(made.visible, "clip.mp4", length, (96, 128), 25.0)
    ran = _annotate(amodal, made, tmp_path / "out")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert f"its visible masks have {length}" in ran.err
    assert not (tmp_path / "out").exists()


def _broken_video(path: Path, kind: str) -> None:
    content = path.read_bytes()
    if kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    else:
        replaced = {"text": b"no video\n" * 40, "empty": b"", "cut": content[: len(content) // 2]}
        path.write_bytes(replaced[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such file"),
        ("folder", "a folder without frames"),
        ("text", "not a video that can be read"),
        ("empty", "empty file (0 bytes)"),
        ("cut", "damaged or truncated"),
    ],
)
def test_what_is_no_whole_video_is_one_line_and_leaves_nothing(
    amodal: Run, scene: MakeScene, tmp_path: Path, kind: str, message: str
) -> None:
    made = scene(size=(240, 320), count=30)
    _broken_video(made.video, kind)
    ran = _annotate(amodal, made, tmp_path / "out")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_a_video_of_one_pixel_is_one_line(amodal: Run, scene: MakeScene, tmp_path: Path) -> None:
    made = scene("dot.mkv", codec="ffv1", pix_fmt="gray", size=(1, 1), count=2)
    ran = _annotate(amodal, made, tmp_path / "out")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "frame is 1x1, limit 16 to 16384" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "p.json"), "--visible or from --prompts or --masks, not both"),
        (("--masks", "magic"), "--visible or from --prompts or --masks, not both"),
        (("--format", "gif"), "unknown format 'gif'"),
        (("--model", "nowhere"), "nowhere"),
        (("--visible", "absent.json"), "absent.json: no such file"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(
    amodal: Run,
    scene: MakeScene,
    tmp_path: Path,
    arguments: tuple[str, str],
    message: str,
) -> None:
    ran = _annotate(amodal, scene(count=2), tmp_path / "out", *arguments)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_broken_json_is_one_line(amodal: Run, scene: MakeScene, tmp_path: Path) -> None:
    made = scene(count=2)
    made.visible.write_text(made.visible.read_text()[:-20])
    ran = _annotate(amodal, made, tmp_path / "out")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "not JSON" in ran.err
