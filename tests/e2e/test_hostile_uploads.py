"""Hostile files against a real server; ``python tests/hostile_uploads.py 500`` sends many more."""

from pathlib import Path

import hostile_uploads


def test_hostile_files_are_answered_without_a_5xx(tmp_path: Path) -> None:
    seen = hostile_uploads.run(28, 3, tmp_path)
    answers, jobs = seen["answers"], seen["jobs"]
    assert isinstance(answers, dict)
    assert isinstance(jobs, dict)
    assert set(answers) <= {200, 201, 413, 422}
    assert sum(answers.values()) == 28 + 3
    assert sum(jobs.values()) == answers[201] > 0
    assert set(jobs) <= {"succeeded", "failed"}
    first, last = str(seen["descriptors"]).split(" -> ")
    # database connections come and go; a leak would leave one for each of the 31 files
    assert int(last) <= int(first) + 8
