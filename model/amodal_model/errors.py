"""Every error this project raises on purpose.

    AmodalError
    ├── InputError      (ValueError)    something the caller gave is wrong
    │   ├── LimitError                  ... or larger than a stated limit
    │   ├── DatasetError                ... or a dataset file that does not hold what it should
    │   ├── MissingItemError (LookupError)   ... or names something that is not there
    │   │   └── ExpiredError            ... any more
    │   └── ConflictError               ... or contradicts what is already there
    ├── AccessError     (PermissionError) the caller may not do this
    │   └── UnknownCallerError          ... because nobody knows who calls
    ├── QuotaError      (RuntimeError)  the caller has used up an allowance; says when to come back
    ├── StorageError    (OSError)       files cannot be stored or read: full, or out of reach
    ├── UnavailableError (RuntimeError) not now: starting, draining, or a part is out of reach
    │   └── NoSlotError                 ... or there is no memory for another stream
    ├── MissingExtraError (ImportError) an optional part is not installed
    └── ModelError      (RuntimeError)  a model file, engine or export that does not hold

The message of each is one line: what was wrong, the value, the limit.
"""


class AmodalError(Exception):
    """Root of the errors of this project."""


class InputError(AmodalError, ValueError):
    """Something the caller gave is wrong."""


class LimitError(InputError):
    """An input is larger than a stated limit."""


class DatasetError(InputError):
    """A dataset file does not hold what it should."""


class MissingItemError(InputError, LookupError):
    """The caller names something that is not there, or not the caller's."""


class ExpiredError(MissingItemError):
    """The caller names something that is no longer there."""


class ConflictError(InputError):
    """A request contradicts what is already there."""


class AccessError(AmodalError, PermissionError):
    """The caller may not do this."""


class UnknownCallerError(AccessError):
    """The caller gave no key, or one that is not valid."""


class QuotaError(AmodalError, RuntimeError):
    """The caller has used up an allowance.

    Attributes:
        retry_after_s: seconds until there is room again.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StorageError(AmodalError, OSError):
    """Files cannot be stored or read: the store is full or out of reach."""


class UnavailableError(AmodalError, RuntimeError):
    """Not now: starting, draining, or a part of the service is out of reach."""


class NoSlotError(UnavailableError):
    """There is no memory for another stream."""


class MissingExtraError(AmodalError, ImportError):
    """An optional part is not installed; the message names the extra to install."""


class ModelError(AmodalError, RuntimeError):
    """A model file, an engine or an export does not hold."""
