"""One execution of a job: left in the middle and gone on with, it ends as if it had not been."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_clips import SmallClip, write_small_clip

from amodal_model.clip import Mode
from amodal_service import job_history, job_transitions, jobs
from amodal_service.annotation import annotate
from amodal_service.job_files import prompts_key, video_key, visible_key
from amodal_service.job_run import JobRun, StopSignal
from amodal_service.job_transitions import Superseded
from amodal_service.jobs import Job, NewJob
from amodal_service.journal import read_checkpoint
from amodal_service.progress import Reporter
from amodal_service.settings import Settings
from amodal_service.workplace import Workplace, open_workplace

FRAMES = 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    with open_workplace(Settings(data=tmp_path / "data", chunk_frames=6)) as place:
        yield place


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SmallClip:
    return write_small_clip(tmp_path_factory.mktemp("clips"), "clip.mp4", FRAMES)


def _add(place: Workplace, clip: SmallClip, mode: str, masks: str = "given") -> str:
    job_id = jobs.new_job_id()
    place.storage.put(video_key(job_id), clip.video)
    if masks == "given":
        place.storage.put(visible_key(job_id), clip.visible)
    elif masks == "prompted":
        place.storage.put(prompts_key(job_id), clip.prompts)
    outputs = ["coco-rle", "davis"]
    request = {"video_name": clip.video.name, "mode": mode, "masks": masks, "outputs": outputs}
    with place.database.write() as connection:
        job_transitions.insert_job(connection, NewJob(job_id, "o", request, "", 5))
    return job_id


def _claim(place: Workplace, job_id: str) -> Job:
    with place.database.write() as connection:
        job = job_transitions.claim(connection, job_id, 1, "w")
    assert job is not None
    return job


def _finish(place: Workplace, job: Job) -> None:
    with JobRun(place, job, StopSignal()) as run:
        number = 0
        while not run.finish_chunk(number):
            number += 1
        run.publish()


def test_an_execution_that_is_told_to_stop_does_not_count_its_frames_to_the_end(
    place: Workplace, clip: SmallClip
) -> None:
    stop = StopSignal()
    stop.set()
    job = _claim(place, _add(place, clip, "causal", "motion"))
    with pytest.raises(Superseded, match="told to stop"), JobRun(place, job, stop):
        pass
    with place.database.read() as connection:
        assert jobs.find_job(connection, job.id).frames_total is None


@pytest.mark.parametrize("masks", ["given", "prompted", "motion"])
@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_an_execution_goes_on_after_the_chunks_of_another(
    place: Workplace, clip: SmallClip, mode: Mode, masks: str, tmp_path: Path
) -> None:
    job_id = _add(place, clip, mode, masks)
    with JobRun(place, _claim(place, job_id), StopSignal()) as first:
        assert not first.finish_chunk(0)
        assert not first.finish_chunk(1)
    _finish(place, _claim(place, job_id))
    output = tmp_path / "out"
    annotate(clip.options(output, masks, mode=mode, formats=("coco-rle",)), Reporter())
    with place.database.read() as connection:
        artifacts = job_history.artifacts_of(connection, job_id)
        assert [chunk.frames for chunk in job_history.chunks_of(connection, job_id)] == [6, 6, 6, 2]
    assert {artifact.name for artifact in artifacts} >= {"amodal.json", "coco-rle.jsonl"}
    for artifact in artifacts:
        if artifact.name == "davis.zip":
            continue
        expected = (output / artifact.name).read_bytes()
        assert place.storage.get(artifact.key) == expected, artifact.name


def test_a_source_goes_on_with_what_it_remembers(place: Workplace, clip: SmallClip) -> None:
    """Without its state a source of prompts finds nothing after the frame of the prompts."""
    job_id = _add(place, clip, "causal", "prompted")
    with JobRun(place, _claim(place, job_id), StopSignal()) as first:
        first.finish_chunk(0)
    job = _claim(place, job_id)
    assert job.checkpoint_key is not None
    checkpoint = read_checkpoint(io.BytesIO(place.storage.get(job.checkpoint_key)))
    assert checkpoint is not None
    assert [name for name in checkpoint[1] if name.startswith("finder/")]
    with JobRun(place, job, StopSignal()) as second:
        second.finish_chunk(1)
    with place.database.read() as connection:
        last = job_history.chunks_of(connection, job_id)[-1]
    records = [json.loads(line) for line in place.storage.get(last.key).splitlines()]
    assert all(record["objects"][0]["visible_segmentation"] for record in records)


def test_a_superseded_execution_leaves_nothing_in_storage(
    place: Workplace, clip: SmallClip
) -> None:
    job_id = _add(place, clip, "causal")
    with JobRun(place, _claim(place, job_id), StopSignal()) as zombie:
        _finish(place, _claim(place, job_id))
        before = {found.key for found in place.storage.list("jobs")}
        with pytest.raises(Superseded):
            zombie.finish_chunk(0)
    assert {found.key for found in place.storage.list("jobs")} == before


def test_a_finished_job_keeps_its_input_records_and_results_alone(
    place: Workplace, clip: SmallClip
) -> None:
    job_id = _add(place, clip, "causal")
    _finish(place, _claim(place, job_id))
    kinds = {found.key.split("/")[2] for found in place.storage.list("jobs")}
    assert kinds == {"input", "records", "artifacts"}


def test_an_execution_that_is_told_to_stop_stops_at_the_next_frame(
    place: Workplace, clip: SmallClip
) -> None:
    stop = StopSignal()
    with JobRun(place, _claim(place, _add(place, clip, "offline")), stop) as run:
        stop.set()
        with pytest.raises(Superseded, match="told to stop"):
            run.finish_chunk(0)
