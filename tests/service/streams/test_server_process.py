"""Live streams over real sockets and real server processes, killed, drained and replaced."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from live_streams import Result, frame, given_all, masks_of
from service_processes import wait_until
from stream_socket import Socket, StreamServer, stream_server
from websockets.exceptions import InvalidStatus

import amodal_model
from amodal_client.stream_messages import (
    Bye,
    Checkpoint,
    CloseCode,
    Dropped,
    End,
    ErrorMessage,
    GoAway,
    Ping,
    Pong,
)
from amodal_model.masks import BoxedMask, mask_iou
from amodal_model.results import FrameResult
from amodal_service.api_keys import create_key
from amodal_service.database import open_database

Scene = list[dict[int, BoxedMask]]
SIZE = (120, 160)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[StreamServer]:
    """A server that no test kills; with API keys ``key``."""
    settings = {"AMODAL_STREAM_MESSAGE_BYTES": "8192", "AMODAL_STREAM_ORIGINS": "https://ours.org"}
    with stream_server(data, data / "log", settings) as server:
        yield server


@pytest.fixture(autouse=True)
def _connections_are_closed() -> Iterator[None]:
    yield
    Socket.close_all()


@pytest.fixture(scope="module")
def undisturbed(boxes_scene: Scene) -> list[FrameResult]:
    """The results of the scene, out of one uninterrupted run of the shipped model."""
    segmenter = amodal_model.load("shipped")
    state, results = segmenter.start(SIZE), []
    for visible in boxes_scene:
        result, state = segmenter.step(None, visible, state)
        results.append(result)
    return results


def sent(scene: Scene, seq: int, flags: int = 0) -> bytes:
    return frame(seq, given_all(scene[seq]), width=SIZE[1], height=SIZE[0], flags=flags)


def least_iou(result: Result, expected: FrameResult) -> float:
    """Return the least IoU of an object's amodal mask with the expected one."""
    masks = masks_of(result)
    assert list(masks) == [each.track_id for each in expected.objects]
    return min(
        (mask_iou(masks[each.track_id], each.amodal) for each in expected.objects), default=1.0
    )


def open_stream() -> dict[str, Any]:
    """Return what the streams of these tests ask for."""
    return {"mode": "lossless", "max_message_bytes": 8192}


def test_a_stream_over_a_socket_is_the_segmenter_step_by_step(
    server: StreamServer, boxes_scene: Scene, undisturbed: list[FrameResult]
) -> None:
    socket = server.place(**open_stream())
    welcome = socket.welcome()
    assert (welcome.session, welcome.epoch, welcome.received_seq) == ("new", 1, -1)
    for seq in range(30):
        socket.exchange(sent(boxes_scene, seq), seq)
    assert [each.header.seq for each in socket.results] == list(range(30))
    for result, expected in zip(socket.results, undisturbed, strict=False):
        assert least_iou(result, expected) == 1.0
        assert list(expected.order) == list(result.meta.order)
        own = {each.track_id: each for each in result.meta.objects}
        for each in expected.objects:
            assert own[each.track_id].state == each.state
            assert own[each.track_id].score == pytest.approx(each.score, abs=1e-3)
    socket.say(Ping(4.5))
    assert socket.until(Pong).t == 4.5
    socket.say(End())
    assert socket.read_to_the_end() == CloseCode.NORMAL
    (goodbye,) = socket.all(Bye)
    assert (goodbye.counters.frames, goodbye.counters.results) == (30, 30)


def test_a_killed_server_goes_on_where_its_snapshot_is(
    tmp_path: Path, boxes_scene: Scene, undisturbed: list[FrameResult]
) -> None:
    with stream_server(tmp_path, tmp_path / "log") as server:
        socket = server.place(**open_stream())
        token = socket.welcome().resume_token
        for seq in range(20):
            socket.exchange(sent(boxes_scene, seq), seq)
        stored = socket.until(Checkpoint).seq
        for seq in range(20, 24):
            socket.exchange(sent(boxes_scene, seq), seq)
        server.process.kill()
        assert socket.read_to_the_end() == 1006
        server.start()
        again = server.place(resume_token=token, last_result=23)
        welcome = again.welcome()
        assert (welcome.session, welcome.epoch) == ("warm", 2)
        assert stored <= welcome.received_seq <= 23
        for seq in range(welcome.received_seq + 1, 60):
            again.exchange(sent(boxes_scene, seq, flags=1), seq)
    assert [each.header.seq for each in again.results] == list(range(welcome.received_seq + 1, 60))
    ious = [least_iou(each, undisturbed[each.header.seq]) for each in again.results]
    print(f"after SIGKILL: worst IoU {min(ious):.4f}, from seq {welcome.received_seq + 1}")  # noqa: T201
    assert min(ious) >= 0.98


def test_a_server_that_is_stopped_says_so_and_loses_nothing(
    tmp_path: Path, boxes_scene: Scene, undisturbed: list[FrameResult]
) -> None:
    with stream_server(tmp_path, tmp_path / "log") as server:
        socket = server.place(**open_stream())
        token = socket.welcome().resume_token
        for seq in range(10):
            socket.exchange(sent(boxes_scene, seq), seq)
        for seq in (10, 11):
            socket.send(sent(boxes_scene, seq))
        socket.say(Ping(1.0))
        socket.until(Pong)  # both have been read
        assert server.process.stop() in (0, -signal.SIGTERM)
        assert socket.read_to_the_end() == CloseCode.GOING_AWAY
        assert [each.reason for each in socket.all(GoAway)] == ["drain"]
        (goodbye,) = socket.all(Bye)
        assert (goodbye.counters.frames, goodbye.counters.results) == (12, 12)
        assert socket.results[-1].header.seq == 11
        server.start()
        again = server.place(resume_token=token, last_result=11)
        welcome = again.welcome()
        assert (welcome.session, welcome.received_seq) == ("warm", 11)
        for seq in range(12, 40):
            again.exchange(sent(boxes_scene, seq), seq)
    assert min(least_iou(each, undisturbed[each.header.seq]) for each in again.results) >= 0.98


def test_a_stream_goes_on_at_another_server_when_its_own_dies(
    tmp_path: Path, boxes_scene: Scene, undisturbed: list[FrameResult]
) -> None:
    with (
        stream_server(tmp_path, tmp_path / "one.log") as first,
        stream_server(tmp_path, tmp_path / "two.log") as second,
    ):
        ready = [first, second]
        socket = first.place(**open_stream())
        token = socket.welcome().resume_token
        port = socket.web.remote_address[1]
        own = next(each for each in ready if f":{port}" in each.url)
        other = next(each for each in ready if each is not own)
        for seq in range(20):
            socket.exchange(sent(boxes_scene, seq), seq)
        while socket.until(Checkpoint).seq < 19:
            pass
        own.process.kill()

        def is_placed_here() -> bool:
            answer = other.post(resume_token=token, last_result=19)
            return answer.status_code == 201 and answer.json()["ws_url"] == other.socket_url

        wait_until(is_placed_here, 20)
        again = other.place(resume_token=token, last_result=19)
        welcome = again.welcome()
        assert (welcome.session, welcome.received_seq, welcome.epoch) == ("warm", 19, 2)
        for seq in range(20, 40):
            again.exchange(sent(boxes_scene, seq), seq)
    assert min(least_iou(each, undisturbed[each.header.seq]) for each in again.results) >= 0.98


def test_a_broken_connection_is_gone_on_with_hot(server: StreamServer, boxes_scene: Scene) -> None:
    socket = server.place(**open_stream())
    welcome = socket.welcome()
    for seq in range(3):
        socket.exchange(sent(boxes_scene, seq), seq)
    socket.send(sent(boxes_scene, 3))
    socket.read_results(3)
    socket.cut()
    again = server.place(resume_token=welcome.resume_token, last_result=2)
    second = again.welcome()
    assert (second.session, second.received_seq, second.epoch) == ("hot", 3, 2)
    third = server.place(resume_token=second.resume_token, last_result=3)
    third.welcome()
    assert again.read_to_the_end() == CloseCode.SUPERSEDED
    third.say(End())
    assert third.read_to_the_end() == CloseCode.NORMAL
    assert server.post(resume_token=second.resume_token).status_code == 410


# Who may do what --------------------------------------------------------------------------------


def new_key(data: Path, name: str, *scopes: str) -> str:
    database = open_database(f"sqlite:///{data}/amodal.sqlite3")
    with database.write() as connection:
        token = create_key(connection, name, scopes).token
    database.close()
    return token


def ask(server: StreamServer, method: str, path: str, key: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{server.url}/v1/streams{path}", headers=headers)


def test_streams_are_seen_and_killed_by_their_owner_and_admins(
    server: StreamServer, data: Path
) -> None:
    own, other = (new_key(data, name, "read", "write") for name in ("own", "other"))
    admin, reader = new_key(data, "admin", "read", "write", "admin"), new_key(data, "r", "read")
    answer = server.post(own, **open_stream())
    assert answer.status_code == 201
    placed = answer.json()
    path = f"/{placed['stream_id']}"
    socket = Socket(placed["ws_url"], placed["ticket"])
    token = socket.welcome().resume_token
    assert [each["stream_id"] for each in ask(server, "GET", "", own).json()["streams"]] == [
        placed["stream_id"]
    ]
    assert ask(server, "GET", "", other).json()["streams"] == []
    ids = {each["stream_id"] for each in ask(server, "GET", "", admin).json()["streams"]}
    assert placed["stream_id"] in ids
    found = ask(server, "GET", path, own).json()
    assert (found["state"], found["epoch"], found["frames"]) == ("connected", 1, 0)
    for stranger in (other, reader):
        assert ask(server, "GET", path, stranger).status_code == 404
    assert ask(server, "DELETE", path, other).status_code == 404
    assert ask(server, "DELETE", path, reader).status_code == 403
    assert server.post(other, resume_token=token).status_code == 404
    assert server.post(reader).status_code == 403
    assert server.post("amodal_nonsense").status_code == 401
    assert ask(server, "DELETE", path, admin).status_code == 204
    assert socket.read_to_the_end() == CloseCode.UNKNOWN_STREAM
    assert [each.reason for each in socket.all(Bye)] == ["killed"]
    wait_until(lambda: ask(server, "GET", path, own).status_code == 404)
    assert server.post(own, resume_token=token).status_code == 410
    assert ask(server, "GET", "/absent", own).status_code == 404


def refusal(socket: Socket) -> tuple[int, str]:
    """Return the close code, and what was said of it."""
    code = socket.read_to_the_end()
    (error,) = socket.all(ErrorMessage)
    assert error.is_fatal
    return code, error.detail


def test_a_ticket_opens_one_connection(server: StreamServer) -> None:
    placed = server.post(**open_stream()).json()
    Socket(placed["ws_url"], placed["ticket"]).welcome()
    code, detail = refusal(Socket(placed["ws_url"], placed["ticket"]))
    assert (code, detail) == (CloseCode.AUTH, "the ticket is not valid: unknown, used or expired")
    again = server.post(**open_stream()).json()
    assert Socket(f"{again['ws_url']}?ticket={again['ticket']}").welcome().epoch == 1


def test_a_local_client_needs_no_ticket_and_a_key_needs_its_scope(
    server: StreamServer, data: Path
) -> None:
    url = f"{server.socket_url}?mode=lossless&max_message_bytes=8192"
    assert Socket(url).welcome().credits == 4
    wrong = {"authorization": "Bearer amodal_nonsense"}
    assert refusal(Socket(url, additional_headers=wrong))[0] == CloseCode.AUTH
    reader = {"authorization": f"Bearer {new_key(data, 'reader', 'read')}"}
    assert refusal(Socket(url, additional_headers=reader))[0] == CloseCode.FORBIDDEN
    code, detail = refusal(Socket(f"{server.socket_url}?mode=sideways"))
    assert code == CloseCode.BAD_MESSAGE
    assert detail.startswith("mode:")
    code, detail = refusal(Socket(f"{server.socket_url}?max_objects=1000&max_message_bytes=8192"))
    assert (code, detail) == (
        CloseCode.TOO_LARGE,
        "max_objects is 1000, limit 256 (AMODAL_STREAM_OBJECTS)",
    )


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.org"])
def test_pages_of_other_sites_are_refused(server: StreamServer, origin: str) -> None:
    placed = server.post(**open_stream()).json()
    code, detail = refusal(Socket(placed["ws_url"], placed["ticket"], origin=origin))
    assert code == CloseCode.FORBIDDEN
    assert "AMODAL_STREAM_ORIGINS" in detail
    Socket(placed["ws_url"], placed["ticket"]).welcome()  # the ticket was not used up


@pytest.mark.parametrize("origin", ["https://ours.org", "http://localhost:3000", "{own}"])
def test_pages_of_our_own_and_allowed_sites_are_not(server: StreamServer, origin: str) -> None:
    placed = server.post(**open_stream()).json()
    own = origin.format(own=server.url)
    Socket(placed["ws_url"], placed["ticket"], origin=own).welcome()


def test_the_subprotocol_is_needed_and_messages_are_not_compressed(server: StreamServer) -> None:
    assert refusal(Socket(server.socket_url, subprotocols=None))[0] == CloseCode.BAD_MESSAGE
    socket = Socket(f"{server.socket_url}?max_message_bytes=8192", compression="deflate")
    assert socket.web.protocol.extensions == []
    assert socket.web.subprotocol == "amodal.stream.v1"
    with pytest.raises(InvalidStatus):
        Socket(server.socket_url.replace("/v1/stream", "/v1/absent"))


def test_messages_over_the_limit_close_with_the_number(server: StreamServer) -> None:
    url = f"{server.socket_url}?max_message_bytes=4096"
    socket = Socket(url)
    socket.send(frame(0, (), bytes(5000)))
    code, detail = refusal(socket)
    size = len(frame(0, (), bytes(5000)))
    assert code == CloseCode.TOO_LARGE
    assert detail == f"message is {size} bytes, limit 4096 (max_message_bytes)"
    huge = Socket(url)
    huge.send(frame(0, (), bytes(200_000)))
    assert huge.read_to_the_end() == CloseCode.TOO_LARGE_MESSAGE


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"short", CloseCode.BAD_MESSAGE),
        (frame(0)[:40], CloseCode.BAD_MESSAGE),
        (b"\x02" + frame(0)[1:], CloseCode.BAD_MESSAGE),
        (frame(0, codec=9), CloseCode.CODEC),
        (frame(0)[:32] + b"\xc1" * (len(frame(0)) - 32), CloseCode.BAD_MESSAGE),
        (frame(0).replace(b"counts", b"coun\xff\xff"), CloseCode.BAD_MESSAGE),
        ("{nonsense", CloseCode.BAD_MESSAGE),
        ("[]", CloseCode.BAD_MESSAGE),
        ('{"op": "ack"}', CloseCode.BAD_MESSAGE),
        ('{"op": "reset", "id": "' + "x" * 300 + '"}', CloseCode.BAD_MESSAGE),
        ('{"op":' * 2000, CloseCode.BAD_MESSAGE),
    ],
)
def test_garbage_is_answered_and_closed(
    server: StreamServer, message: bytes | str, code: int
) -> None:
    socket = Socket(f"{server.socket_url}?max_message_bytes=8192")
    socket.welcome()
    socket.web.send(message)
    assert refusal(socket)[0] == code


def test_unknown_ops_are_passed_over_and_bad_frames_leave_the_stream_alone(
    server: StreamServer, boxes_scene: Scene
) -> None:
    socket = Socket(f"{server.socket_url}?mode=lossless&max_message_bytes=8192")
    socket.welcome()
    socket.web.send('{"op": "sing", "song": [1, 2]}')
    socket.send(frame(0, (), b"no image", codec=1))
    dropped = socket.until(Dropped)
    assert (dropped.ranges, dropped.cause) == (((0, 0),), "decode_error")
    assert dropped.detail == "payload is not a JPEG image"
    socket.exchange(sent(boxes_scene, 1), 1)
    assert socket.results[0].meta.dropped == 1
