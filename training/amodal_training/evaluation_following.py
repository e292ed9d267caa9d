"""Visible masks as they come from prompts: each object followed from its first mask or its box.

The prompt is the first true visible mask of an object, or the box of it, and nothing after; the
clips are followed as the service follows them, told by the segmenter where objects are expected.
Methods and baselines get what was found, and P is united with it. What is measured stays as it was,
as with disturbed masks (``evaluation_noise``). True masks as prompts: for evaluation alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from amodal_model.follower_classical import ClassicalFollower
from amodal_model.follower_learned import LearnedFollower
from amodal_model.masks import BoxedMask
from amodal_model.model_files import find_helper
from amodal_model.pictures import Picture
from amodal_model.source_prompted import PromptedSource
from amodal_model.stream import AmodalSegmenter
from amodal_model.visible_source import Prompt
from amodal_training.evaluation_clip import EvaluationClip

FirstPrompt = Literal["first_mask", "first_box"]


def prompted_source(follower: str) -> PromptedSource:
    """Return a source of prompted objects by the name of its follower.

    Args:
        follower: ``shipped``, ``classical``, or the folder of a network.

    Raises:
        ModelError: no such network.
    """
    if follower == "classical":
        return PromptedSource(ClassicalFollower())
    return PromptedSource(LearnedFollower(find_helper("follower", follower)))


def following(
    segmenter: AmodalSegmenter, first: FirstPrompt, source: PromptedSource | None = None
) -> Callable[[EvaluationClip], EvaluationClip]:
    """Return what gives a clip followed visible masks in place of the true ones.

    Args:
        segmenter: says where objects are expected.
        first: what is said of each object in the first frame that shows it.
        source: follows the objects; by default as served.
    """
    source = source or PromptedSource()

    def follow(clip: EvaluationClip) -> EvaluationClip:
        prompts = first_prompts(clip, first)
        state, stream = source.start(clip.video.frame_size), segmenter.start(clip.video.frame_size)
        frames: list[dict[int, BoxedMask]] = []
        for index, image in enumerate(clip.frames()):
            expected = segmenter.expect(stream)
            found, state = source.find(image, prompts.get(index, ()), state, expected)
            stream = segmenter.advance(found, stream, picture=Picture(image))[1]
            frames.append(found)
        return replace(clip, visible_frames=tuple(frames), is_looked_at=True)

    return follow


def first_prompts(clip: EvaluationClip, first: FirstPrompt) -> dict[int, list[Prompt]]:
    """Return by frame a prompt for each object that the frame is the first to show."""
    prompts: dict[int, list[Prompt]] = defaultdict(list)
    known: set[int] = set()
    for index, masks in enumerate(clip.visible_frames):
        for track_id, mask in sorted(masks.items()):
            if track_id in known:
                continue
            known.add(track_id)
            x0, y0, x1, y1 = mask.bbox_xyxy
            box = (float(x0), float(y0), float(x1), float(y1))
            is_mask = first == "first_mask"
            prompt = Prompt(track_id, mask=mask) if is_mask else Prompt(track_id, bbox_xyxy=box)
            prompts[index].append(prompt)
    return dict(prompts)
