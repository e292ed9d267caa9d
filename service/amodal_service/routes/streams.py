"""Live streams: opened, listed, looked at, killed; and the websocket they run over."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.websockets import WebSocket

from amodal_client.stream_messages import CloseCode
from amodal_model.errors import AccessError, MissingItemError, QuotaError
from amodal_service.access import Caller, Reader, Writer, identify, is_loopback_name
from amodal_service.handshakes import SOCKET_PATH
from amodal_service.request_bodies import JSON, body_schema, decode_body, read_body, validate
from amodal_service.schemas import problem_responses
from amodal_service.services import Services, ServicesDep
from amodal_service.streams import store
from amodal_service.streams.admission import check_options, stream_bytes, stream_limits
from amodal_service.streams.connection import serve_connection
from amodal_service.streams.hub import Connected, StreamHub
from amodal_service.streams.options import (
    StreamInfo,
    StreamList,
    StreamOptions,
    StreamRequest,
    Ticket,
)
from amodal_service.streams.outbox import CloseStream
from amodal_service.streams.store import TICKET_S, StreamRow

router = APIRouter(tags=["streams"])

TICKET_PREFIX = "amodal.ticket."
_OPTIONS = frozenset(StreamOptions.model_fields)
StreamId = Annotated[str, Query(max_length=64)]


def hub_of(connection: Request | WebSocket) -> StreamHub:
    """Return the streams of the app that a connection came to."""
    hub = connection.app.state.streams
    assert isinstance(hub, StreamHub)  # noqa: S101  set when the app starts
    return hub


@router.post(
    "/v1/streams",
    status_code=201,
    openapi_extra=body_schema(is_required=False, json=StreamRequest),
    responses=problem_responses(401, 403, 404, 410, 413, 422, 429, 503, 507),
)
async def open_stream(request: Request, services: ServicesDep, caller: Writer) -> Ticket:
    """Open a stream, or place one that is to be resumed.

    It is placed on the replica with the most room, or where its memory is; ``ws_url`` says where.
    Connect there with the ticket.
    """
    limit_bytes = services.settings.limits.json_bytes
    body = await read_body(request, limit_bytes, "AMODAL_LIMIT_JSON_BYTES")
    wanted = validate(StreamRequest, decode_body(body, JSON) if body else {})
    hub = hub_of(request)
    if wanted.resume_token is not None:
        owner = None if "admin" in caller.scopes else caller.owner
        placed = await hub.placement.reopen(owner, wanted.resume_token, wanted.last_result)
    else:
        options = StreamOptions.model_validate(
            wanted.model_dump(exclude={"resume_token", "last_result"})
        )
        check_options(options, hub.settings)
        placed = await hub.placement.open(caller.owner, options)
    limits = stream_limits(placed.options, hub.settings)
    return Ticket(
        stream_id=placed.stream_id,
        ws_url=_socket_url(placed.url or str(request.base_url)),
        ticket=placed.ticket,
        ticket_expires_s=TICKET_S,
        limits={name: getattr(limits, name) for name in limits.__struct_fields__},
    )


def _socket_url(base: str) -> str:
    parts = urlsplit(base)
    scheme = {"https": "wss", "http": "ws"}.get(parts.scheme, parts.scheme)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{SOCKET_PATH}"


@router.get("/v1/streams", responses=problem_responses(401, 403, 422))
async def list_streams(
    request: Request,
    services: ServicesDep,
    caller: Reader,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> StreamList:
    """Return the caller's streams, newest first; with the scope ``admin`` everybody's."""
    owner = None if "admin" in caller.scopes else caller.owner
    hub = hub_of(request)

    def find() -> list[StreamRow]:
        with services.database.read() as connection:
            return store.list_streams(connection, owner, limit)

    await hub.ledger.publish()
    return StreamList(streams=[_info(row, hub) for row in await run_sync(find)])


@router.get("/v1/streams/{stream_id}", responses=problem_responses(401, 403, 404, 422))
async def find_stream(
    stream_id: str, request: Request, services: ServicesDep, caller: Reader
) -> StreamInfo:
    """Return a stream as it is; figures of its frames only from the replica that holds it."""
    hub = hub_of(request)
    await hub.ledger.publish()
    return _info(await run_sync(_own_row, services, caller, stream_id), hub)


@router.delete(
    "/v1/streams/{stream_id}", status_code=204, responses=problem_responses(401, 403, 404, 422)
)
async def kill_stream(
    stream_id: str, request: Request, services: ServicesDep, caller: Writer
) -> Response:
    """End a stream for good, wherever it runs; its client is told."""
    hub = hub_of(request)
    await hub.ledger.publish()
    await run_sync(_own_row, services, caller, stream_id)
    await hub.kill(stream_id)
    return Response(status_code=204)


def _own_row(services: Services, caller: Caller, stream_id: str) -> StreamRow:
    with services.database.read() as connection:
        row = store.find_stream(connection, stream_id)
    is_own = row.owner == caller.owner or "admin" in caller.scopes
    if row.state == "ended" or not is_own:
        raise MissingItemError(f"no stream {stream_id[:64]!r}")
    return row


def _info(row: StreamRow, hub: StreamHub) -> StreamInfo:
    options = StreamOptions.model_validate(row.options)
    session = hub.roster.find(row.id)
    counters = session.counters() if session is not None else None
    return StreamInfo(
        stream_id=row.id,
        owner=row.owner,
        state=row.state,
        epoch=row.epoch,
        replica=row.replica,
        options=options,
        created_s=row.created_s,
        seen_s=row.seen_s,
        snapshot_seq=row.snapshot_seq,
        snapshot_bytes=row.snapshot_bytes,
        memory_bytes=stream_bytes(options),
        frames=counters.frames if counters else None,
        results=counters.results if counters else None,
        dropped=counters.dropped if counters else None,
    )


async def stream(websocket: WebSocket) -> None:
    """Run a stream over a websocket (docs/protocol.md)."""
    hub = hub_of(websocket)

    async def connect() -> Connected:
        _check_origin(websocket, hub)
        ticket = _ticket(websocket)
        if ticket is not None:
            return await hub.connect(ticket)
        has_key = "authorization" in websocket.headers  # which is looked up in the database
        owner = await run_sync(_owner, websocket) if has_key else _owner(websocket)
        return await hub.connect_new(owner, _options(websocket, hub))

    await serve_connection(websocket, hub, connect)


def _ticket(websocket: WebSocket) -> str | None:
    """Return the ticket, from the subprotocols or the query: it works once, logs may have it."""
    for each in websocket.scope.get("subprotocols", ()):
        if each.startswith(TICKET_PREFIX):
            return str(each.removeprefix(TICKET_PREFIX))
    return websocket.query_params.get("ticket")


def _owner(websocket: WebSocket) -> str:
    try:
        caller = identify(websocket, websocket.app.state.services)
        caller.check("write")
    except QuotaError as error:
        raise CloseStream(CloseCode.CREDIT_OR_QUOTA, str(error)) from None
    except AccessError as error:
        is_known = type(error) is AccessError
        raise CloseStream(CloseCode.FORBIDDEN if is_known else CloseCode.AUTH, str(error)) from None
    return caller.owner


def _options(websocket: WebSocket, hub: StreamHub) -> StreamOptions:
    """Return the options of the query; its other parameters are passed over."""
    given = {key: value for key, value in websocket.query_params.items() if key in _OPTIONS}
    try:
        options = StreamOptions.model_validate({key: _value(each) for key, each in given.items()})
        check_options(options, hub.settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = "/".join(str(part) for part in first["loc"]) or "options"
        raise CloseStream(CloseCode.BAD_MESSAGE, f"{where}: {first['msg']}") from None
    except ValueError as error:
        raise CloseStream(CloseCode.TOO_LARGE, str(error)) from None
    return options


def _value(text: str) -> str | float | int | bool:
    """Return a value of the query as JSON would have it."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_origin(websocket: WebSocket, hub: StreamHub) -> None:
    """Refuse pages of other sites: a browser sends along what it knows of the user.

    Raises:
        CloseStream: the page is of a site that is not allowed.
    """
    origin = websocket.headers.get("origin")
    if origin is None or origin.lower().rstrip("/") in hub.settings.allowed_origins:
        return
    parts = urlsplit(origin)
    if parts.netloc == websocket.headers.get("host") or is_loopback_name(parts.hostname or ""):
        return
    raise CloseStream(
        CloseCode.FORBIDDEN, f"origin {origin[:80]!r} is not allowed (AMODAL_STREAM_ORIGINS)"
    )
