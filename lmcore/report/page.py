"""Writes `report.html`: one page, no script, nothing fetched, every text escaped.

The content-security policy allows the page's own style sheet, by its hash, and nothing else; so even a text that
slipped through the escaping could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lmcore.report import sections, words
from lmcore.report.view import RunView
from storage.atomic import write_text

POLICY = "default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
RECIPE_LETTERS = 30_000
FILTERS: dict[str, Callable[..., Any]] = {
    name: getattr(words, name) for name in ("clip", "count", "duration", "percent", "plain", "real", "short", "size")
}


def write_report(path: Path, view: RunView) -> None:
    """Write the report of a run to `path`, atomically.

    Raises RunError naming a damaged artifact file, StorageError for a disk that refuses.
    """
    write_text(path, render(view))


def render(view: RunView) -> str:
    """The page as text."""
    from lmcore.expect.verdicts import summary  # which writes figures in this package's words

    style = packaged("report.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            # Inside <style> text is raw; this file is ours.
            style=Markup(style),  # noqa: S704
            policy=POLICY.format(digest=digest),
            view=view,
            started=_minute(view.started),
            recipe_text=words.clip(_as_yaml(view.resolved), RECIPE_LETTERS),
            claims=summary(view.claims),
            headline=sections.headline(view),
            learning=sections.learning(view),
            corpus=sections.corpus(view),
            fetching=sections.fetching(view),
            vocabulary=sections.vocabulary(view),
            ledger=sections.ledger(view),
            texts=sections.texts(view),
            work=sections.work(view),
            environment=sections.environment(view),
            releases=sections.releases(view),
        )
        + "\n"
    )


@cache
def environment() -> Environment:
    """What renders the pages: every text escaped, every name defined."""
    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=words.clean,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(packaged),
    )
    made.filters.update(FILTERS)
    return made


@cache
def packaged(name: str) -> str:
    """A file of this package as text."""
    return resources.files("lmcore.report").joinpath(name).read_text(encoding="utf-8")


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100)


def _minute(instant: str) -> str:
    """An ISO 8601 instant for people, to the minute and with its zone."""
    try:
        return datetime.fromisoformat(instant).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return instant
