"""What readers of model files have in common: whatever a file is not is one UserError that names it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lmcore.models.families import ModelConfig
from lmcore.models.io import empty_model
from lmcore.models.network import Network
from storage.errors import RunError, UserError


class NotWholeError(Exception):
    """The file is not what it should be; the message says where."""


@contextlib.contextmanager
def must_be(path: Path, what: str, mend: str) -> Iterator[None]:
    """Raise UserError for an OSError, a NotWholeError ("`path` is `what`: ...") or a RunError, which names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}", mend) from error
    except NotWholeError as error:
        raise UserError(f"{path} is {what}: {error}", mend) from error
    except RunError as error:
        raise UserError(error.what, mend) from error


def blank_model(config: ModelConfig, vocab_size: int) -> Network:
    """A model without numbers of a shape that a file claims. NotWholeError for sizes that no computer can count."""
    try:
        return empty_model(config, vocab_size)
    except (RuntimeError, TypeError, ValueError, MemoryError, OverflowError) as error:
        raise NotWholeError("a model of its shape cannot be") from error
