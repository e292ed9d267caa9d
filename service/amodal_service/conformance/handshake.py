"""Checks of the opening: subprotocol, welcome, tickets, limits, liveness."""

from __future__ import annotations

import time

from amodal_client.stream_messages import Bye, ErrorMessage, Hello, Ping, Pong
from amodal_client.stream_wire import SUBPROTOCOL
from amodal_service.conformance.probe import NotSeen, require
from amodal_service.conformance.target import MAX_MESSAGE_BYTES, Target

MAX_IDLE_S = 5.0
"""Of a server whose idle close is waited for."""


def handshake_selects_the_subprotocol(target: Target) -> None:
    """The handshake selects amodal.stream.v1."""
    with target.probe() as probe:
        chosen = probe.connection.subprotocol
        require(chosen == SUBPROTOCOL, f"subprotocol {chosen!r}, must be {SUBPROTOCOL!r}")


def welcome_comes_first(target: Target) -> None:
    """The server speaks first, with a whole welcome of a new stream."""
    with target.probe() as probe:
        welcome = probe.welcome()
        require(welcome.session == "new", f"session {welcome.session!r}, must be 'new'")
        require(welcome.epoch >= 1, f"epoch {welcome.epoch}, must be 1 or more")
        require(welcome.received_seq == -1, f"received_seq {welcome.received_seq}, must be -1")
        require(welcome.credits >= 1, f"credits {welcome.credits}, must be 1 or more")
        require(bool(welcome.resume_token), "resume_token is empty")
        require(welcome.memory_bytes > 0, f"memory_bytes {welcome.memory_bytes}, must be told")


def limits_come_in_the_welcome(target: Target) -> None:
    """The welcome tells every limit."""
    with target.probe(max_objects=3) as probe:
        limits = probe.welcome().limits
        for name in ("message_bytes", "pixels", "objects", "idle_s", "resume_s", "unacked_results"):
            require(getattr(limits, name) > 0, f"limit {name} is {getattr(limits, name)}")
        require(limits.objects == 3, f"limit objects is {limits.objects}, 3 were asked for")


def compression_is_off(target: Target) -> None:
    """permessage-deflate is not negotiated even when offered."""
    with target.probe(compression="deflate") as probe:
        names = [each.name for each in probe.connection.protocol.extensions]
        require(not names, f"extensions {names} were negotiated")


def subprotocol_is_needed(target: Target) -> None:
    """A connection that does not offer amodal.stream.v1 is closed with 4400."""
    with target.probe(subprotocols=()) as probe:
        probe.expect_close(4400, what="without subprotocol")


def ticket_opens_its_stream(target: Target) -> None:
    """A ticket of POST /v1/streams leads to the stream it is of, with its options."""
    opened = target.open(mode="lossless", max_objects=2)
    with target.probe(opened) as probe:
        chosen = probe.connection.subprotocol
        require(chosen == SUBPROTOCOL, f"subprotocol {chosen!r}: the ticket was chosen, or none")
        welcome = probe.welcome()
        require(welcome.stream_id == opened.stream_id, f"stream {welcome.stream_id} in welcome")
        require(welcome.limits.objects == 2, f"limit objects is {welcome.limits.objects}, not 2")


def ticket_works_once(target: Target) -> None:
    """A ticket that was used is refused with 4401."""
    opened = target.open()
    with target.probe(opened) as probe:
        probe.welcome()
        with target.probe(opened) as again:
            again.expect_close(4401, what="second use of a ticket")


def unknown_ticket_is_refused(target: Target) -> None:
    """A ticket that was never issued is refused: error, then 4401."""
    opened = target.open()._replace(ticket="no-such-ticket")
    with target.probe(opened) as probe:
        probe.expect_close(4401, what="unknown ticket")
        require(bool(probe.all(ErrorMessage)), "no error message before the close")
        require(probe.all(ErrorMessage)[0].is_fatal, "the error must be fatal")


def ping_is_answered(target: Target) -> None:
    """A ping is answered by a pong with the same number."""
    with target.probe() as probe:
        probe.welcome()
        probe.say(Hello("amodal conformance"))
        for number, t in enumerate((12.5, 0.0), start=1):
            probe.say(Ping(t))
            pong = probe.wait_for(Pong, "pong", number)
            require(pong.t == t, f"pong {pong.t}, must be {t}")


def unknown_words_are_passed_over(target: Target) -> None:
    """Unknown ops and keys of control messages are passed over."""
    with target.probe() as probe:
        probe.welcome()
        probe.send('{"op": "x-unknown", "anything": [1, 2]}')
        probe.send('{"op": "ping", "t": 7, "x-unknown": {}}')
        pong = probe.wait_for(Pong, "pong after an unknown op")
        require(pong.t == 7, f"pong {pong.t}, must be 7")
        require(not probe.all(ErrorMessage), "an error for an unknown op")


def message_limit_is_named(target: Target) -> None:
    """A message over message_bytes: error that names the limit, then 4413; or 1009."""
    with target.probe(max_message_bytes=65536) as probe:
        limit = probe.welcome().limits.message_bytes
        if limit > MAX_MESSAGE_BYTES:
            raise NotSeen(f"limit {limit} bytes is more than is sent here")
        probe.send(bytes(limit + 1))
        closed = probe.expect_close(4413, 1009, what=f"message of {limit + 1} bytes")
        if closed.code == 4413:
            details = [each.detail for each in probe.all(ErrorMessage)]
            require(bool(details), "no error message before the close")
            require(str(limit) in details[-1], f"the error does not name {limit}: {details[-1]}")


def idle_stream_is_closed(target: Target) -> None:
    """A client that says nothing for idle_s gets bye and 4408; one that pings does not."""
    with target.probe() as probe, target.probe() as quiet:
        idle_s = probe.welcome().limits.idle_s
        quiet.welcome()
        if idle_s > MAX_IDLE_S:
            raise NotSeen(f"idle_s is {idle_s:g}, more than {MAX_IDLE_S:g} are not waited for")
        end_s = time.monotonic() + 1.5 * idle_s
        while time.monotonic() < end_s:
            probe.say(Ping())
            probe.hear(lambda: False, timeout_s=idle_s / 4)
        require(probe.closed is None, f"closed with {probe.closed} although it pinged")
        quiet.expect_close(4408, what=f"silence of {idle_s:g} s")
        require(bool(quiet.all(Bye)), "no bye before the close")


HANDSHAKE = (
    handshake_selects_the_subprotocol,
    welcome_comes_first,
    limits_come_in_the_welcome,
    compression_is_off,
    subprotocol_is_needed,
    ticket_opens_its_stream,
    ticket_works_once,
    unknown_ticket_is_refused,
    ping_is_answered,
    unknown_words_are_passed_over,
    message_limit_is_named,
    idle_stream_is_closed,
)
