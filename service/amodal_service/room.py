"""Whether there is room for more files: on the disk, and within the quota of all stored files."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

from amodal_model.errors import StorageError
from amodal_service.policies import Policies
from amodal_service.storage import Storage

COUNT_EVERY_S = 30.0


class Room:
    """Asked before anything new is stored.

    Stored files are counted again twice a minute at most; what was granted since is added.
    """

    def __init__(self, storage: Storage, folder: Path, policies: Policies) -> None:
        self._storage = storage
        self._folder = folder
        self._policies = policies
        self._lock = threading.Lock()
        self._stored_bytes = 0
        self._counted_s = -COUNT_EVERY_S

    def check(self, wanted_bytes: int) -> None:
        """Grant room for some bytes.

        Raises:
            StorageError: the quota or the disk does not have it.
        """
        free = shutil.disk_usage(self._folder).free
        if free - wanted_bytes < self._policies.free_bytes:
            raise StorageError(
                f"{wanted_bytes} bytes wanted, the disk has {free} of which "
                f"{self._policies.free_bytes} stay free (AMODAL_FREE_BYTES)"
            )
        quota = self._policies.quota_bytes
        if not quota:
            return
        with self._lock:
            if time.monotonic() - self._counted_s >= COUNT_EVERY_S:
                self._stored_bytes = self._storage.total_bytes()
                self._counted_s = time.monotonic()
            if self._stored_bytes + wanted_bytes > quota:
                raise StorageError(
                    f"{wanted_bytes} bytes wanted, {self._stored_bytes} are stored, quota {quota} "
                    "(AMODAL_QUOTA_BYTES)"
                )
            self._stored_bytes += wanted_bytes
