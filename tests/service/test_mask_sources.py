"""Which prompts each clip gets, and the one line for what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest

from amodal_model.errors import InputError, ModelError
from amodal_model.onnx_session import CPU, CUDA, provider_of
from amodal_model.youtube_vis import VideoEntry
from amodal_service.mask_sources import Runtime, finders_for

BOX = {"track_id": 4, "frame_index": 0, "bbox_xyxy": [1, 1, 9, 9]}
VIDEOS = [VideoEntry(7, "a", 64, 48, 3, 25.0), VideoEntry(9, "b", 64, 48, 5, 25.0)]


def _finders(tmp_path: Path, videos: list[VideoEntry], *objects: dict[str, Any]) -> Any:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"objects": objects}))
    make_finders = finders_for(path, None)
    assert make_finders is not None
    return make_finders(videos)


def test_without_prompts_and_masks_a_file_gives_the_visible_masks() -> None:
    assert finders_for(None, None) is None


def test_a_single_clip_needs_no_video_id(tmp_path: Path) -> None:
    (finder,) = _finders(tmp_path, VIDEOS[:1], BOX)
    assert finder.track_ids == (4,)
    assert finder.prompts[0][0].bbox_xyxy == (1, 1, 9, 9)


def test_each_video_gets_its_own_prompts_and_one_without_any_is_left_out(tmp_path: Path) -> None:
    first, second = _finders(tmp_path, VIDEOS, {**BOX, "video_id": 9, "frame_index": 4})
    assert first is None
    assert list(second.prompts) == [4]


def test_other_prompts_are_other_settings(tmp_path: Path) -> None:
    settings = [
        _finders(tmp_path, VIDEOS[:1], {**BOX, "track_id": track_id})[0].settings
        for track_id in (1, 1, 2)
    ]
    assert settings[0] == settings[1] != settings[2]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (BOX, r"objects\[0\] needs a 'video_id', there are several videos"),
        ({**BOX, "video_id": 8}, "video_id 8 is not among the 2 videos"),
        ({**BOX, "video_id": 7, "frame_index": 3}, "a: .* frame 3 does not exist"),
    ],
)
def test_prompts_for_no_video_or_no_frame_are_refused(
    tmp_path: Path, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _finders(tmp_path, VIDEOS, entry)


def test_unknown_sources_and_missing_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="'magic' is not one of prompted"):
        finders_for(None, "magic")
    with pytest.raises(InputError, match="needs prompts; name their file"):
        finders_for(None, "prompted")


def test_the_provider_is_that_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"objects": [BOX]}))
    make_finders = finders_for(path, None, Runtime("nonsense"))
    assert make_finders is not None
    with pytest.raises(ModelError, match="provider 'nonsense' is not one of"):
        make_finders(VIDEOS[:1])


def test_prompted_objects_are_not_followed_on_the_cpu_where_a_gpu_is_required(
    tmp_path: Path,
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"objects": [BOX]}))
    make_finders = finders_for(path, None, Runtime("cpu", require_gpu=True))
    assert make_finders is not None
    with pytest.raises(ModelError, match="a GPU is required, but CPUExecutionProvider runs"):
        make_finders(VIDEOS[:1])


def test_a_provider_is_known_by_what_it_asks_for() -> None:
    assert provider_of((CPU,)) == "cpu"
    assert provider_of((CUDA, CPU)) == "cuda"
    assert provider_of(("torch",)) == "auto"
