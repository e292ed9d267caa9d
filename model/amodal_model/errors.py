"""Every error this project raises on purpose.

    AmodalError
    ├── InputError      (ValueError)    something the caller gave is wrong
    │   ├── LimitError                  ... or larger than a stated limit
    │   └── DatasetError                ... or a dataset file that does not hold what it should
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


class MissingExtraError(AmodalError, ImportError):
    """An optional part is not installed; the message names the extra to install."""


class ModelError(AmodalError, RuntimeError):
    """A model file, an engine or an export does not hold."""
