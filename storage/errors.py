"""The errors a person can meet: what went wrong and where, then how to mend it.

Every error that reaches a user is one of these. The command line prints the two lines and exits with
`exit_code`; anything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class CollectTrainError(Exception):
    """One clear failure. `what` says what and where, `mend` says how to put it right."""

    exit_code = 1

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}\n  to mend: {mend}")
        self.what = what
        self.mend = mend

    @property
    def sentence(self) -> str:
        """Both in one line."""
        return f"{self.what}; to mend: {self.mend}"

    def __reduce__(self) -> tuple[type[CollectTrainError], tuple[str, str]]:
        return type(self), (self.what, self.mend)


class UserError(CollectTrainError, ValueError):
    """The request cannot be carried out as written: unknown recipe, key, type, command value. Exit code 2."""

    exit_code = 2


class RunError(CollectTrainError, RuntimeError):
    """The request was right and the world was not: dead server, full disk, damaged file. Exit code 1."""


class StorageError(RunError):
    """The disk refused: full, read-only, not permitted. The path is in `what`."""
