"""How much callers may use, what is fetched for them, and how long their files are kept.

From the environment, as `settings` are; a key may have its own allowance.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_Amount = Annotated[int, Field(ge=0)]


class Allowance(BaseSettings):
    """What one owner of API keys may use; 0 for no limit. ``AMODAL_ALLOW_...``.

    Attributes:
        requests_per_minute: evenly, with as many at once; counted by each server process.
        bytes_per_hour: of request bodies.
        video_seconds_per_hour: of clips, segmented or queued.
        active_jobs: that wait or run.
    """

    model_config = SettingsConfigDict(env_prefix="AMODAL_ALLOW_", extra="ignore", frozen=True)

    requests_per_minute: _Amount = 600
    bytes_per_hour: _Amount = 64 << 30
    video_seconds_per_hour: _Amount = 24 * 3600
    active_jobs: _Amount = 200


UNLIMITED = Allowance(
    requests_per_minute=0, bytes_per_hour=0, video_seconds_per_hour=0, active_jobs=0
)


class Policies(BaseSettings):
    """What the service does by itself. ``AMODAL_...``.

    Attributes:
        allowance: of every key that has no other.
        anonymous: whether callers on the same machine need no key.
        outbound_hosts: names that clips are fetched from and webhooks are sent to although their
            addresses are not public; separated by commas.
        fetch_bytes: size of a file that is fetched.
        fetch_seconds: time for it.
        upload_seconds: life of an unfinished upload after its last byte.
        keep_seconds: life of an ended job and its files; 0: for ever.
        quota_bytes: size of all stored files, above which nothing new is taken; 0: no limit.
        free_bytes: room to leave on the disk of the data folder.
        webhook_seconds: how long a webhook that is not accepted is tried again.
    """

    model_config = SettingsConfigDict(env_prefix="AMODAL_", extra="ignore", frozen=True)

    allowance: Allowance = Field(default_factory=Allowance)
    anonymous: bool = True
    outbound_hosts: Annotated[str, NoDecode] = ""
    fetch_bytes: Annotated[int, Field(ge=1)] = 8 << 30
    fetch_seconds: Annotated[float, Field(gt=0)] = 900.0
    upload_seconds: Annotated[float, Field(gt=0)] = 24 * 3600.0
    keep_seconds: Annotated[float, Field(ge=0)] = 30 * 24 * 3600.0
    quota_bytes: _Amount = 0
    free_bytes: _Amount = 256 << 20
    webhook_seconds: Annotated[float, Field(ge=0)] = 24 * 3600.0

    @property
    def hosts(self) -> frozenset[str]:
        """The outbound hosts as a set, in lower case."""
        names = (name.strip().lower() for name in self.outbound_hosts.split(","))
        return frozenset(name for name in names if name)
