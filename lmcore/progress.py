"""How long work tells whoever watches how far it has come, without knowing who that is."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Called as often as is convenient; the watcher throttles.

    `done` and `total` are in any one unit (total None: unknown), `note` is one short line such as
    "412 pages, 3 failed". Never put scraped text into it unescaped.
    """

    def __call__(self, done: float, total: float | None, note: str = "") -> None:
        """Say how far the work is."""


def silent(done: float, total: float | None, note: str = "") -> None:
    """A report that nobody reads."""
