"""The checks of the streaming protocol: this server passes, and each of them can fail."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from altering_proxy import Alter, Faults, Message, altering_proxy, binary, control
from command_line import Run
from service_processes import ServiceProcess, free_port, wait_until

from amodal_client.stream_wire import HEADER
from amodal_model.errors import UnavailableError
from amodal_service.conformance.checks import CHECKS, Check, judge, run_checks
from amodal_service.conformance.target import Target

IDLE_S = 4.0
BROKEN_TIMEOUT_S = 2.0 * IDLE_S
"""Longer than a server takes to close an idle stream."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    settings = {
        "AMODAL_DATA": str(folder / "data"),
        "AMODAL_PORT": str(port),
        "AMODAL_STREAM_IDLE_S": str(IDLE_S),
    }
    process = ServiceProcess("serve", settings, folder / "log", "--no-worker")
    target = Target(f"http://127.0.0.1:{port}")

    def is_up() -> bool:
        assert process.is_running, process.log.read_text()
        try:
            return bool(target.request("GET", "/healthz").status_code == 200)
        except UnavailableError:
            return False

    wait_until(is_up)
    yield target.url
    process.stop()


def test_this_server_conforms(server: str) -> None:
    verdicts = list(run_checks(Target(server)))
    assert [each.name for each in verdicts] == [check.__name__ for check in CHECKS]
    assert [(each.name, each.why) for each in verdicts if each.outcome == "fail"] == []
    unseen = {each.name for each in verdicts if each.outcome == "not seen"}
    assert unseen <= {"realtime_latest_frame_wins", "deadline_drops_late_frames"}  # a fast machine


def test_a_proxy_that_changes_nothing_conforms(server: str) -> None:
    names = {"lossless_gives_every_result", "hot_resume_replays_results", "end_is_for_good"}
    checks = [check for check in CHECKS if check.__name__ in names]
    with altering_proxy(server, Faults()) as url:
        assert [judge(each, Target(url)).outcome for each in checks] == ["pass"] * 3


def without(op: str) -> Alter:
    return control(op, lambda said: [])


def with_value(op: str, key: str, value: Any) -> Alter:
    return control(op, lambda said: [{**said, key: value}])


def _greet(message: Message) -> list[Message]:
    status = json.dumps({"op": "status", "level": "info", "message": "hello"})
    return [status, message] if '"welcome"' in str(message) else [message]


def _misunderstand(message: Message) -> list[Message]:
    return ['{"op": "ack"}'] if "x-unknown" in str(message) else [message]


def _other_limit(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**said, "limits": {**said["limits"], "objects": 99}}]


def _shifted(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**said, "ranges": [[first - 1, last - 1] for first, last in said["ranges"]]}]


def _ack_later(said: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**said, "effective_seq": said["effective_seq"] + 1}]


def _lose_some(message: bytearray) -> list[bytearray]:
    seq = HEADER.unpack_from(message)[5]
    return [] if seq == 9 else [message]


def _lose_time(message: bytearray) -> list[bytearray]:
    message[16:24] = bytes(8)
    return [message]


def _unmarked(message: bytearray) -> list[bytearray]:
    message[1] = 0
    return [message]


def _first_credit_lost() -> Alter:
    numbers = itertools.count()
    return control("credit", lambda said: [said] if next(numbers) else [])


def _a_drop_for_a_result(message: Message) -> list[Message]:
    if isinstance(message, str) or HEADER.unpack_from(message)[5] != 3:
        return [message]
    return [json.dumps({"op": "dropped", "ranges": [[3, 3]], "cause": "deadline"})]


FAULTS: dict[str, Callable[[], Faults]] = {
    "handshake_selects_the_subprotocol": lambda: Faults(has_subprotocol=False),
    "welcome_comes_first": lambda: Faults(_greet),
    "limits_come_in_the_welcome": lambda: Faults(control("welcome", _other_limit)),
    "compression_is_off": lambda: Faults(has_compression=True),
    "subprotocol_is_needed": lambda: Faults(codes={4400: 1000}),
    "ticket_opens_its_stream": lambda: Faults(with_value("welcome", "stream_id", "another")),
    "ticket_works_once": lambda: Faults(codes={4401: 4400}),
    "unknown_ticket_is_refused": lambda: Faults(without("error")),
    "ping_is_answered": lambda: Faults(with_value("pong", "t", 0.25)),
    "unknown_words_are_passed_over": lambda: Faults(from_client=_misunderstand),
    "message_limit_is_named": lambda: Faults(with_value("error", "detail", "too large")),
    "idle_stream_is_closed": lambda: Faults(without("bye")),
    "lossless_gives_every_result": lambda: Faults(binary(_lose_some)),
    "realtime_accounts_for_every_frame": lambda: Faults(
        control("dropped", lambda said: [said, said])
    ),
    "realtime_latest_frame_wins": lambda: Faults(with_value("dropped", "cause", "overload")),
    "paced_takes_the_rate_that_was_asked": lambda: Faults(from_client=binary(_lose_time)),
    "credit_comes_back": lambda: Faults(_first_credit_lost()),
    "flood_is_warned_then_closed": lambda: Faults(without("status")),
    "deadline_drops_late_frames": lambda: Faults(control("dropped", _shifted)),
    "lossless_knows_no_deadline": lambda: Faults(_a_drop_for_a_result),
    "undecodable_frame_is_dropped_alone": lambda: Faults(with_value("dropped", "detail", "")),
    "too_many_objects_are_named": lambda: Faults(with_value("dropped", "detail", "too many")),
    "model_is_told_of_gaps": lambda: Faults(from_client=binary(_lose_time)),
    "removal_and_reset_are_acknowledged": lambda: Faults(control("prompt_ack", _ack_later)),
    "short_binary_is_refused": lambda: Faults(codes={4400: 1000}),
    "unknown_binary_op_is_refused": lambda: Faults(codes={4400: 1011}),
    "lying_header_is_refused": lambda: Faults(with_value("error", "is_fatal", False)),
    "unknown_codec_is_refused": lambda: Faults(codes={4415: 4400}),
    "garbage_text_is_refused": lambda: Faults(without("error")),
    "seq_must_rise": lambda: Faults(codes={4400: 1000}),
    "end_is_for_good": lambda: Faults(statuses={404: 201, 410: 201}),
    "second_connection_supersedes": lambda: Faults(codes={4409: 1011}),
    "hot_resume_replays_results": lambda: Faults(binary(_unmarked)),
    "resume_tokens_are_checked": lambda: Faults(statuses={404: 201, 410: 201}),
    "killed_stream_is_closed": lambda: Faults(codes={4404: 1000}),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_can_fail(server: str, check: Check) -> None:
    with altering_proxy(server, FAULTS[check.__name__]()) as url:
        verdict = judge(check, Target(url, timeout_s=BROKEN_TIMEOUT_S))
    if verdict.outcome == "not seen":
        pytest.skip(verdict.why)
    assert verdict.outcome == "fail", verdict
    assert verdict.why
    assert "out of reach" not in verdict.why


def test_garbage_from_a_server_is_a_violation(server: str) -> None:
    ping = next(check for check in CHECKS if check.__name__ == "ping_is_answered")
    for words in ("no JSON", '{"op": "pong"}'):
        with altering_proxy(server, Faults(lambda _, words=words: [words])) as url:  # type: ignore[misc]
            assert judge(ping, Target(url)).outcome == "fail"


def test_the_command_prints_a_table_and_fails_where_a_check_does(
    server: str, amodal: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    ran = amodal("conformance", server, "--only", "ping", "--only", "kill")
    assert (ran.code, ran.out.count("pass")) == (0, 3)  # two rows and the sum
    with altering_proxy(server, FAULTS["ping_is_answered"]()) as url:
        ran = amodal("conformance", url, "--only", "ping", "--json")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert not told["is_conforming"]
    assert told["checks"][0]["outcome"] == "fail"
    assert "pong" in told["checks"][0]["why"]


def test_a_server_that_is_not_there_is_one_line(amodal: Run) -> None:
    ran = amodal("conformance", f"http://127.0.0.1:{free_port()}")
    assert ran.code == 2
    assert len(ran.err.strip().splitlines()) == 1


def test_every_check_says_what_must_hold() -> None:
    for check in CHECKS:
        assert (check.__doc__ or "").strip().endswith(".")


def test_checks_of_another_name_are_not_found(amodal: Run, tmp_path: Path) -> None:
    ran = amodal("conformance", "http://127.0.0.1:1", "--only", "nonsense")
    assert ran.code == 2
    assert "ping_is_answered" in ran.err.replace("\n", "")


def test_the_client_on_the_protocol_page_runs(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(__file__).parents[3] / "docs" / "protocol.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    address = server.removeprefix("http://")
    exec(compile(code.replace("127.0.0.1:8420", address), str(page), "exec"), {})  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 31
    assert "(1, 'hidden')" in lines[14]
    assert "'results': 30" in lines[-1]
