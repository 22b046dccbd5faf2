"""What changed in a source from one edition to another: `collect-train diff`."""

from __future__ import annotations

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lmcore.collect.changes import NAMES, REMOVED, compare, names_of
from lmcore.collect.editions import read_edition
from lmcore.curate.privacy import blank
from storage.errors import UserError
from storage.parquet import read_parquet
from storage.store import Artifact, Store
from storage.text import printable


def show_diff(store: Store, source: str, console: Console, *, edition: str, against: str, limit: int) -> None:
    """Added, changed, removed and unchanged records of a source: counts, and the first `limit` URLs of each kind.

    `edition` is the newest when empty, `against` the edition that it was made from. Raises UserError when there is no
    such source or edition.
    """
    made = _editions(store, source)
    new = _named(made, source, edition) if edition else made[-1]
    rounds, parent = _rounds(store, new)
    old = _named(made, source, against) if against else parent
    changes = compare(_names(store, old) if old else NAMES.empty_table(), _names(store, new))
    before = _edition(old) if old else "nothing"
    console.print(Text(f"{source}: {_edition(new)} against {before}", style="bold"))
    counts = Table("added", "changed", "removed", "unchanged")
    lists = (changes.added, changes.changed, changes.removed)
    counts.add_row(*(f"{len(urls):,}" for urls in lists), f"{changes.unchanged:,}")
    console.print(counts)
    why = {} if against else {url: reason for each in reversed(rounds) for url, reason in _why_gone(each).items()}
    for sign, style, urls in zip("+~-", ("green", "yellow", "red"), lists, strict=True):
        for url in urls[:limit]:
            reason = f"  ({why[url]})" if sign == "-" and url in why else ""
            console.print(Text(printable(f"{sign} {blank(url)}{reason}"), style=style), soft_wrap=True)
        if len(urls) > limit:
            console.print(Text(f"{sign} {len(urls) - limit:,} more: --limit {len(urls)}", style="dim"))


def _editions(store: Store, source: str) -> list[Artifact]:
    """The finished collections of a source, in the order they were made."""
    found = [a for a in store.readable("collect") if _source(a) == source]
    if not found:
        names = sorted({_source(artifact) for artifact in store.readable("collect")})
        raise UserError(
            f"no source {source!r} has been collected in {store.root}", f"there are: {', '.join(names) or 'none'}"
        )
    return sorted(found, key=lambda artifact: artifact.manifest.provenance.finished)


def _named(made: list[Artifact], source: str, edition: str) -> Artifact:
    found = [artifact for artifact in made if _edition(artifact) == edition]
    if not found:
        names = dict.fromkeys(_edition(artifact) for artifact in made)
        raise UserError(f"{source} has no edition {edition!r}", f"there are: {', '.join(names)}")
    return found[-1]


def _rounds(store: Store, artifact: Artifact) -> tuple[list[Artifact], Artifact | None]:
    """The artifacts of an edition's rounds from the last to the first, and that of the edition before."""
    rounds, at = [artifact], _parent(store, artifact)
    while at and _edition(at) == _edition(artifact):
        rounds.append(at)
        at = _parent(store, at)
    return rounds, at


def _parent(store: Store, artifact: Artifact) -> Artifact | None:
    parent = read_edition(artifact.local())["parent"]
    return store.by_digest(parent, "collect") if parent else None


def _names(store: Store, artifact: Artifact) -> pa.Table:
    return names_of(artifact.local(), lambda digest: store.by_digest(digest, "collect").local())


def _why_gone(artifact: Artifact) -> dict[str, str]:
    path = artifact.local() / REMOVED
    if not path.exists():  # an edition of the time before reasons were noted
        return {}
    return {row["url"]: row["reason"] for row in read_parquet(path).to_pylist()}


def _source(artifact: Artifact) -> str:
    return str(artifact.manifest.provenance.params["source"]["name"])


def _edition(artifact: Artifact) -> str:
    return str(artifact.manifest.provenance.params["edition"])
