"""Checks of ``amodal.stream.v1`` from outside: any server, by its bytes alone.

checks -> handshake, frames, refusals, endings -> target -> probe. Nothing here uses the server or
the client of this project but for the message types.
"""
