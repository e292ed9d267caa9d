"""Allowances, with a clock that is set by hand and a real database."""

import threading
import time
from pathlib import Path

import pytest

from amodal_model.errors import QuotaError
from amodal_service.database import Database, open_database
from amodal_service.job_transitions import insert_job
from amodal_service.jobs import NewJob
from amodal_service.policies import Allowance
from amodal_service.rate_limits import RequestRate, UsageKind, charge, check_jobs, check_usage

ALLOWED = Allowance(
    requests_per_minute=6, bytes_per_hour=1000, video_seconds_per_hour=60, active_jobs=2
)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/amodal.sqlite3")


def test_a_burst_is_allowed_then_one_each_ten_seconds() -> None:
    now_s = [100.0]
    rate = RequestRate(lambda: now_s[0])
    for _ in range(6):
        rate.take("a", 6)
    with pytest.raises(QuotaError, match="limit 6 requests a minute") as caught:
        rate.take("a", 6)
    assert caught.value.retry_after_s == pytest.approx(10)
    rate.take("b", 6)
    now_s[0] += 10
    rate.take("a", 6)
    with pytest.raises(QuotaError):
        rate.take("a", 6)
    now_s[0] += 60
    for _ in range(6):
        rate.take("a", 6)


def test_no_limit_is_no_limit() -> None:
    rate = RequestRate(lambda: 0.0)
    for _ in range(1000):
        rate.take("a", 0)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("bytes", r"1000 bytes used, limit 1000"), ("video_seconds", r"1000 seconds of video used")],
)
def test_what_is_used_up_comes_back_with_the_hour(
    database: Database, kind: UsageKind, message: str
) -> None:
    with database.write() as connection:
        for amount in (0.0, 40.0, 960.0):
            check_usage(connection, "a", ALLOWED)
            charge(connection, "a", kind, amount)
        with pytest.raises(QuotaError, match=message) as caught:
            check_usage(connection, "a", ALLOWED)
        assert 0 < caught.value.retry_after_s <= 3600
        check_usage(connection, "b", ALLOWED)


def test_charges_of_many_threads_add_up(database: Database) -> None:
    def charge_often() -> None:
        for _ in range(10):
            with database.write() as connection:
                charge(connection, "a", "bytes", 20)

    threads = [threading.Thread(target=charge_often) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection, pytest.raises(QuotaError, match="1000 bytes used"):
        check_usage(connection, "a", ALLOWED)


def test_jobs_that_wait_or_run_are_counted(database: Database) -> None:
    with database.write() as connection:
        for number in range(2):
            check_jobs(connection, "a", ALLOWED)
            insert_job(connection, NewJob(f"job{number}", "a", {}, "", 5))
        with pytest.raises(QuotaError, match="2 jobs wait or run, limit 2"):
            check_jobs(connection, "a", ALLOWED)
        check_jobs(connection, "b", ALLOWED)


def test_a_take_is_quick() -> None:
    rate, start_s = RequestRate(), time.process_time()
    for number in range(1000):
        rate.take(str(number), 10)
    assert time.process_time() - start_s < 0.1
