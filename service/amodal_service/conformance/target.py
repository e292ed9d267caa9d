"""The server under test: its requests and its websockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import httpx2
import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from amodal_client.stream_wire import SUBPROTOCOL
from amodal_model.errors import UnavailableError
from amodal_service.conformance.probe import Probe, Violation, require

MAX_MESSAGE_BYTES = 64 << 20
"""Of a message from the server; larger ones end the connection."""


class Opened(NamedTuple):
    """The answer to ``POST /v1/streams``."""

    stream_id: str
    ws_url: str
    ticket: str


class _Answer(msgspec.Struct):
    """What the answer to ``POST /v1/streams`` must have."""

    stream_id: str
    ws_url: str
    ticket: str
    ticket_expires_s: float
    limits: dict[str, float]

    def as_opened(self) -> Opened:
        """Return the part that is needed."""
        return Opened(self.stream_id, self.ws_url, self.ticket)


@dataclass(frozen=True)
class Target:
    """The server under test.

    Attributes:
        url: as ``http://HOST:PORT``.
        api_key: sent with every request, if there is one.
        timeout_s: how long an answer is waited for.
    """

    url: str
    api_key: str | None = None
    timeout_s: float = 10.0

    @property
    def ws_url(self) -> str:
        """The address of the websocket."""
        parts = urlsplit(self.url)
        scheme = {"https": "wss", "http": "ws"}.get(parts.scheme, parts.scheme)
        return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/v1/stream"

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return the answer to a request.

        Raises:
            UnavailableError: the server is out of reach.
        """
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        url = f"{self.url.rstrip('/')}{path}"
        try:
            return httpx2.request(
                method, url, json=body, headers=headers, timeout=self.timeout_s, trust_env=False
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise UnavailableError(f"{self.url}: {error}") from None

    def open(self, **options: Any) -> Opened:
        """Open or resume a stream with ``POST /v1/streams``."""
        answer = self.request("POST", "/v1/streams", options)
        require(
            answer.status_code == 201,
            f"POST /v1/streams answered {answer.status_code}, not 201: {answer.text[:200]}",
        )
        try:
            return msgspec.json.decode(answer.content, type=_Answer).as_opened()
        except msgspec.DecodeError as error:
            raise Violation(f"the answer to POST /v1/streams: {error}") from None

    def probe(
        self,
        opened: Opened | None = None,
        *,
        subprotocols: Sequence[str] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Probe:
        """Connect: with the ticket of an opened stream, or at once with options in the query.

        Raises:
            UnavailableError: the server is out of reach.
            Violation: the handshake fails.
        """
        offered = [SUBPROTOCOL] if subprotocols is None else list(subprotocols)
        url = self.ws_url if opened is None else opened.ws_url
        if opened is not None:
            offered.append(f"amodal.ticket.{opened.ticket}")
        if options:
            url = f"{url}?{urlencode(options)}"
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else None
        try:
            connection = connect(
                url,
                subprotocols=[Subprotocol(each) for each in offered] or None,
                additional_headers=headers,
                compression=compression,
                proxy=None,
                open_timeout=self.timeout_s,
                close_timeout=1.0,
                ping_interval=None,
                max_size=MAX_MESSAGE_BYTES,
            )
        except OSError as error:
            raise UnavailableError(f"{url}: {error}") from None
        except (WebSocketException, ValueError) as error:
            raise Violation(f"the websocket handshake failed: {error}") from None
        return Probe(connection, self.timeout_s)
