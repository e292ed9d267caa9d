"""Files of a new job that are elsewhere already: in an upload, below ``imports/``, or at a URL."""

from __future__ import annotations

from amodal_model.errors import InputError
from amodal_service.access import Caller
from amodal_service.address_guard import AddressGuard, parse_url
from amodal_service.schemas import FileSource
from amodal_service.services import Services
from amodal_service.uploads import find_upload, parts_of


def name_of(services: Services, caller: Caller, source: FileSource) -> str | None:
    """Return the file name that a source suggests.

    Raises:
        MissingItemError: no such upload of the caller.
    """
    if source.upload_id is not None:
        with services.database.read() as connection:
            return find_upload(connection, source.upload_id, caller.owner).name or None
    return source.key or (source.url.path if source.url else None)


def take_source(services: Services, caller: Caller, source: FileSource, target: str) -> None:
    """Copy a file to a job's key; what is at a URL is only judged now and fetched by the worker.

    Raises:
        MissingItemError: no such file, or no such upload of the caller.
        InputError: an upload that is not whole, or a URL that leads to no public address.
        StorageError: no room.
    """
    if source.key is not None:
        key = f"imports/{source.key}"
        services.room.check(services.storage.describe(key).size_bytes)
        services.storage.copy(key, target)
    elif source.upload_id is not None:
        _take_upload(services, caller, source.upload_id, target)
    else:
        url = parse_url(str(source.url))
        port = url.port or (443 if url.scheme == b"https" else 80)
        AddressGuard(services.policies.hosts).addresses(url.host.decode(), port)


def _take_upload(services: Services, caller: Caller, upload_id: str, target: str) -> None:
    with services.database.read() as connection:
        upload = find_upload(connection, upload_id, caller.owner)
        parts = parts_of(connection, upload_id)
    if not upload.is_whole:
        raise InputError(
            f"upload {upload_id} is at byte {upload.offset} of {upload.size_bytes}: not finished"
        )
    services.room.check(upload.size_bytes)
    services.storage.join([part.key for part in parts], target)
