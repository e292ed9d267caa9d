"""The machinery of results on a tiny dataset: train, record, resume, write the page, draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from amodal_model.engine_torch import TorchEngine  # noqa: E402
from amodal_model.errors import DatasetError, InputError  # noqa: E402
from amodal_model.masks import box_mask, empty_mask  # noqa: E402
from amodal_model.memory import MemoryState  # noqa: E402
from amodal_model.network import NetworkConfig  # noqa: E402
from amodal_model.stream import AmodalSegmenter, StreamConfig  # noqa: E402
from amodal_training import results_methods, train_command  # noqa: E402
from amodal_training.evaluation import EvaluationOptions, evaluate_dataset  # noqa: E402
from amodal_training.evaluation_method import Method, segmenter_method  # noqa: E402
from amodal_training.metrics import FIGURES  # noqa: E402
from amodal_training.occluders import PastedSequence  # noqa: E402
from amodal_training.results_command import choose_jobs, results  # noqa: E402
from amodal_training.results_methods import (  # noqa: E402
    BlindNetwork,
    job_method,
    new_network,
    oracle_method,
    run_config,
)
from amodal_training.results_pictures import draw_cases  # noqa: E402
from amodal_training.results_records import dataset_record, read_records  # noqa: E402
from amodal_training.results_runs import BUDGET, ORACLE, RUNS, Job, find_run, list_jobs  # noqa: E402
from amodal_training.rollout import Following, roll_out  # noqa: E402
from amodal_training.sequences import MaskSequence  # noqa: E402

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "tabletop"
TINY = NetworkConfig((8, 8, 8), (1, 1, 1))


def job(name: str, seed: int = 0) -> Job:
    return Job(find_run(name), seed)


def test_jobs_begin_with_the_first_seeds_of_what_matters() -> None:
    names = [one.name for one in list_jobs()]
    assert names[:3] == ["memory-0", "no_memory-0", "supervised-0"]
    assert len(names) == len(set(names)) == 15
    assert {run.name for run in RUNS if len(run.seeds) == 3} == {
        *("memory", "no_memory", "supervised")
    }


def test_runs_differ_in_what_they_say_and_in_nothing_else() -> None:
    """Equal budget and tuning: the settings are those of `memory` but for paste and following."""
    for one in list_jobs():
        expected = BUDGET._replace(seed=one.seed)
        config = run_config(one)
        assert config._replace(paste=expected.paste, following=None) == expected
    assert run_config(job("supervised")) == run_config(job("memory"))
    assert run_config(job("no_memory")) == run_config(job("memory"))


def test_runs_of_one_seed_begin_with_the_same_weights() -> None:
    first = new_network(find_run("memory"), 0, TINY).state_dict()
    for name in ("no_memory", "supervised", "no_occluder_channel"):
        other = new_network(find_run(name), 0, TINY).state_dict()
        assert first.keys() == other.keys()
        assert all(torch.equal(first[key], value) for key, value in other.items()), name
    assert not torch.equal(
        new_network(find_run("memory"), 1, TINY).stem.weight, first["stem.weight"]
    )


def test_unknown_job_is_refused() -> None:
    assert [one.name for one in choose_jobs(["base-0", "memory-2"])] == ["base-0", "memory-2"]
    assert choose_jobs([]) == list_jobs()
    with pytest.raises(InputError, match="--only memory-9: not one of memory-0"):
        choose_jobs(["memory-9"])


def test_blind_network_does_not_see_others() -> None:
    rng = np.random.default_rng(0)
    crop = torch.from_numpy(rng.random((2, 3, 96, 96)).astype(np.float32))
    other = crop.clone()
    other[:, 1] = 0
    context, memory = torch.zeros(2, 6), MemoryState(torch.zeros(2, 4, 96, 96), torch.zeros(2, 2))
    blind = new_network(find_run("no_occluder_channel"), 0, TINY).eval()
    assert isinstance(blind, BlindNetwork)
    assert torch.equal(*(blind.complete(c, context, memory)[0] for c in (crop, other)))
    seeing = new_network(find_run("memory"), 0, TINY).eval()
    assert not torch.equal(*(seeing.complete(c, context, memory)[0] for c in (crop, other)))


class Ball:
    """A ball that moves 3 pixels a frame."""

    def sample(self, rng: np.random.Generator, frames: int) -> MaskSequence:
        rows, columns = np.mgrid[:80, :160]
        masks = [
            box_mask((columns - 40 - 3 * i) ** 2 + (rows - 40) ** 2 < 200) for i in range(frames)
        ]
        return MaskSequence((80, 160), list(masks), [np.zeros((80, 160), np.uint8)] * frames)


def passing_under(frames_hidden: int) -> PastedSequence:
    """A ball of which, from frame 8 on, nothing shows: a wall lies over all of the right half."""
    sequence = Ball().sample(np.random.default_rng(0), 8 + frames_hidden)
    answers = [mask for mask in sequence.target if mask is not None]
    nothing, wall = np.zeros((80, 160), np.uint8), np.zeros((80, 160), np.uint8)
    wall[:, 30:] = 1
    own = answers[:8] + [empty_mask((80, 160))] * frames_hidden
    coverage = [mask.full().astype(np.uint8) for mask in answers[:8]] + [wall] * frames_hidden
    return PastedSequence(own, coverage, answers, [nothing] * len(answers))


def test_memory_that_is_not_told_of_others_forgets_what_they_hide() -> None:
    def remembered(following: Following | None) -> float:
        batch = roll_out([passing_under(2)], following)  # maps are those before a frame is written
        return float(batch.maps[-1, 0][batch.answer[-1] > 127].mean())

    assert remembered(None) > 200
    assert remembered(find_run("no_occluder_channel").following) < 20


def test_without_registration_a_hidden_object_is_sought_where_it_was() -> None:
    def off_centre(following: Following | None) -> float:
        answer = roll_out([passing_under(5)], following).answer[-1] > 127
        return float(abs(np.nonzero(answer)[1].mean() + 0.5 - 48))

    assert off_centre(None) < 10
    assert off_centre(find_run("no_alignment").following) > 20


def figures(dataset: Path, method: Method) -> dict[str, float]:
    options = EvaluationOptions(baselines=False)
    pairs = evaluate_dataset(dataset, [method], options).rows[0].pairs
    return {name: float(np.nanmean(figure(pairs))) for name, figure in FIGURES.items()}


def test_oracle_places_better_than_no_registration() -> None:
    """Memory alone, untrained: the true motion must be worth something where things move."""
    network = new_network(find_run("memory"), 0, TINY).eval()
    found = {
        name: figures(DEMO, job_method(job(name), network))
        for name in ("oracle_alignment", "no_alignment")
    }
    assert found["oracle_alignment"]["miou_occ"] > found["no_alignment"]["miou_occ"] + 0.03


def test_oracle_of_a_still_object_moves_nothing(passing_dataset: Path) -> None:
    network = new_network(find_run("memory"), 0, TINY).eval()
    config = StreamConfig(placement=ORACLE.placement, motion=ORACLE.motion)
    method = oracle_method("oracle", AmodalSegmenter(TorchEngine(network), config))
    assert figures(passing_dataset, method)["permanence"] > 0.85


@pytest.fixture
def tiny_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of two steps with a tiny network, learning from the demo clip alone."""
    budget = BUDGET._replace(steps=2, sequences=2, frames=6, precision="32-true")
    monkeypatch.setattr(results_methods, "BUDGET", budget)
    monkeypatch.setitem(train_command.SIZES, "small", TINY)
    monkeypatch.setattr(results_methods, "SilhouetteSource", lambda library: Ball())
    monkeypatch.setattr(results_methods, "read_library", lambda path: None)


def test_runs_are_trained_recorded_and_written(
    tiny_runs: None,
    passing_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit_json: Callable[[Path, Callable[[Any], None]], None],
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    names = ["memory-0", "no_memory-0", "supervised-0", "oracle_alignment-0"]
    call = partial(
        results,
        dataset=[passing_dataset],
        train=True,
        only=names,
        labeled=DEMO,
        shapes=tmp_path,
        checkpoints=tmp_path / "runs",
        docs=docs,
        pictures_of="passing",
    )
    call()
    records = read_records(docs / "results")
    assert {key for key in records if key[0] != "shipped"} == {
        *(("memory", "0"), ("no_memory", "0"), ("supervised", "0"), ("oracle_alignment", "0"))
    }
    assert {path.name for path in (tmp_path / "runs").iterdir()} == set(names[:3])
    settings = [dict(records[name, "0"].settings) for name in ("memory", "supervised")]
    assert [one.pop("is_labeled") for one in settings] == [False, True]
    assert [bool(one.pop("about")) for one in settings] == [True, True]
    assert settings[0] == settings[1], "labels are the only difference"
    assert {variant for name, variant in records if name == "shipped"} == {
        *("causal", "offline", "noise", "alone", "first_mask", "first_box")
    }
    page = (docs / "results.md").read_text()
    assert "memory - no_memory" in page
    assert "the network takes masks alone" in page
    assert "**amodal, causal, masks from the first box**" in page
    for case in ("best", "median", "worst"):
        assert f"images/results-{case}.png" in page
        assert cv2.imread(str(docs / "images" / f"results-{case}.png")) is not None
    before = {path: path.stat().st_mtime_ns for path in docs.rglob("*.json")}
    (docs / "images" / "results-worst.png").unlink()
    call(pictures_of="elsewhere")
    assert "images/results-worst.png" not in (docs / "results.md").read_text(), "not to be shown"
    call()
    assert "images/results-worst.png" in (docs / "results.md").read_text()
    (tmp_path / "runs").rename(tmp_path / "gone")
    capsys.readouterr()
    call()
    assert "memory-0: recorded already\n" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in docs.rglob("*.json")}
    edit_json(docs / "results" / "memory-0.json", lambda it: it["settings"].update(size="base"))
    edit_json(docs / "results" / "shipped-noise.json", lambda it: it["settings"].update(sha256="0"))
    call()
    assert "memory-0: recorded already, with other settings\n" in capsys.readouterr().out
    now = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert now == {"memory-0.json", "shipped-noise.json"}
    again = read_records(docs / "results")["shipped", "noise"].settings
    assert again == records["shipped", "noise"].settings, "evaluated anew: another model's record"


def test_without_records_the_page_says_so(tmp_path: Path) -> None:
    results(docs=tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "Not drawn yet." in page
    assert "- Not recorded: adaptation" in page


def test_notes_and_other_figures_are_taken_in(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "notes.md").write_text("- Thin objects are lost.\n")
    (tmp_path / "results" / "elsewhere.toml").write_text(
        '[object_step]\nvalue = 0.45\nhow = "amodal bench"\n'
    )
    results(docs=tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "- Thin objects are lost." in page
    assert "0.450 (amodal bench) | yes, the aim |" in page


def test_training_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs --labeled, --shapes and at least one --dataset"):
        results(docs=tmp_path, train=True)
    with pytest.raises(InputError, match="no such folder"):
        results(docs=tmp_path / "absent")


def test_pictures_need_the_tracks_of_the_record(passing_dataset: Path, tmp_path: Path) -> None:
    network = new_network(find_run("memory"), 0, TINY).eval()
    method = segmenter_method("causal", AmodalSegmenter(TorchEngine(network)), "causal")
    options = EvaluationOptions(baselines=False)
    record = dataset_record(evaluate_dataset(passing_dataset, [method], options), "causal")
    assert len(draw_cases(passing_dataset, record, method, tmp_path)) == 3
    short = EvaluationOptions(baselines=False, limit_clips=1)
    other = dataset_record(evaluate_dataset(passing_dataset, [method], short), "causal")
    with pytest.raises(DatasetError, match="tracks, the record has"):
        draw_cases(DEMO, other, method, tmp_path)
