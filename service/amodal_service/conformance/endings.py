"""Checks of endings: bye, superseding, resume, kill."""

from __future__ import annotations

from amodal_client.stream_messages import Ack, Bye
from amodal_client.stream_wire import REPLAYED
from amodal_service.conformance.frames import check_accounts
from amodal_service.conformance.probe import require
from amodal_service.conformance.target import Target


def end_is_for_good(target: Target) -> None:
    """After end: waiting frames finish, bye, 1000; the stream cannot be resumed."""
    with target.probe(mode="lossless") as probe:
        token = probe.welcome().resume_token
        probe.frame(0)
        probe.frame(1)
        check_accounts(probe, probe.finish())
        require(len(probe.results) == 2, f"{len(probe.results)} results of 2 frames")
    answer = target.request("POST", "/v1/streams", {"resume_token": token})
    require(
        answer.status_code in (404, 410), f"resume after end answered {answer.status_code}, not 404"
    )


def second_connection_supersedes(target: Target) -> None:
    """A second connection takes the stream over: the first is closed with 4409, epoch rises."""
    with target.probe(target.open(mode="lossless")) as first:
        welcome = first.welcome()
        first.frame(0)
        first.hear(lambda: first.outcomes == 1)
        opened = target.open(resume_token=welcome.resume_token, last_result=0)
        with target.probe(opened) as second:
            again = second.welcome()
            require(again.stream_id == welcome.stream_id, "another stream came back")
            require(again.session == "hot", f"session {again.session!r}, must be 'hot'")
            require(
                again.epoch > welcome.epoch, f"epoch {again.epoch} after {welcome.epoch}: must rise"
            )
            first.expect_close(4409, what="the connection before")
            second.frame(1)
            second.hear(lambda: second.outcomes == 1)
            require(second.outcomes == 1, "the new connection gets no results")


def hot_resume_replays_results(target: Target) -> None:
    """Hot resume: results that had not arrived come again, marked, in order; then it goes on."""
    with target.probe(target.open(mode="lossless")) as first:
        token = first.welcome().resume_token
        for seq in range(4):
            first.frame(seq)
        first.hear(lambda: first.outcomes == 4)
        first.say(Ack(0))
        first.vanish()
    opened = target.open(resume_token=token, last_result=1)
    with target.probe(opened) as second:
        welcome = second.welcome()
        require(welcome.session == "hot", f"session {welcome.session!r}, must be 'hot'")
        require(welcome.received_seq == 3, f"received_seq {welcome.received_seq}, must be 3")
        second.hear(lambda: len(second.results) >= 2)
        replayed = [(each.header.seq, each.header.flags & REPLAYED) for each in second.results]
        require(
            replayed == [(2, REPLAYED), (3, REPLAYED)],
            f"replayed (seq, flag) {replayed}, must be 2 and 3 with flag {REPLAYED}",
        )
        metas = [each.meta for each in second.results]
        require(
            metas == [each.meta for each in first.results[2:]],
            "a replayed result is not the one that was sent",
        )
        second.frame(4)
        bye = second.finish()
        seqs = [each.header.seq for each in second.results]
        require(seqs == [2, 3, 4], f"results of {seqs} after a resume, must be of 2, 3 and 4")
        flags = second.results[-1].header.flags
        require(not flags & REPLAYED, "a new result has the flag of a replayed one")
        require(bye.counters.results == 5, f"bye counts {bye.counters.results} results, not 5")


def resume_tokens_are_checked(target: Target) -> None:
    """A resume token that was never given is refused with 404 or 410."""
    answer = target.request("POST", "/v1/streams", {"resume_token": "no-such-token"})
    require(answer.status_code in (404, 410), f"answered {answer.status_code}, must be 404")


def killed_stream_is_closed(target: Target) -> None:
    """DELETE /v1/streams/ID: bye, then 4404."""
    with target.probe() as probe:
        stream_id = probe.welcome().stream_id
        answer = target.request("DELETE", f"/v1/streams/{stream_id}")
        require(answer.status_code == 204, f"DELETE answered {answer.status_code}, must be 204")
        probe.expect_close(4404, what="killed")
        require(bool(probe.all(Bye)), "no bye before the close")


ENDINGS = (
    end_is_for_good,
    second_connection_supersedes,
    hot_resume_replays_results,
    resume_tokens_are_checked,
    killed_stream_is_closed,
)
