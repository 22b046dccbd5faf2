"""`forget` from beginning to end: what would be done, and doing it.

    1  the tombstone is written: from now on nothing collects the text again
    2  quotes are blotted, unfinished work and set-aside artifacts that hold the text are removed
    3  tokens, curated, measured, then collected artifacts are rewritten without it (`storage.rewrite`)
    4  the tombstone is marked finished

The collected text goes last, and of several editions the newest first, so that at every instant the store still says
what is meant and no edition refers to a record that is gone. A `forget` that was killed is run again and finds the
rest; nobody builds meanwhile (`Store.alone`).

Artifacts keep their keys and are found by their old digests too: an edition still has its parent, a model its corpus.
What is built on them is built anew by the next run, because its key follows their content. Models are named, not
touched: their weights cannot be rid of a text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from lmcore.collect.editions import read_edition
from lmcore.collect.web import FRONTIER
from lmcore.collect.wikipedia_store import PAGES
from lmcore.curate.normalise import normalise
from lmcore.forget.answers import answers_that_hold, clean_answers, clean_pages
from lmcore.forget.artifacts import drop_collected, drop_curated, drop_measured, drop_tokens
from lmcore.forget.find import Found, find, learnt_by
from lmcore.forget.places import places_of_texts
from lmcore.forget.quotes import Quotes
from lmcore.forget.quoting import blot_in_place, does_quote, is_database, searched_files, write_blotted
from lmcore.forget.unfinished import clean_crawl, remove, to_remove
from storage.atomic import disk_errors, fault
from storage.errors import RunError
from storage.locks import Locked, file_lock
from storage.registry import Registry
from storage.rewrite import Change, rewrite
from storage.store import Artifact, Store
from storage.tombstones import Tombstone, read_tombstones, write_tombstone

_ORDER = ("tokens", "curate", "measure", "collect")


@dataclass(frozen=True)
class Takedown:
    """What forgetting a text would do to a store."""

    found: Found
    quotes: Quotes
    rewrites: tuple[Artifact, ...]  # in this order
    quoting: tuple[tuple[Path, str], ...]  # files, each with the folder of its artifact or ""
    searched: int  # files that were looked through for quotes
    leftovers: tuple[tuple[Path, str], ...]  # unfinished work and what was set aside: removed, and why
    crawls: tuple[Path, ...]  # unfinished crawls: the pages become forgotten ones
    tombstone: Tombstone  # as it would be written; `models` and `tokenizers` learnt from it
    known: Tombstone | None  # as it is now
    exports: tuple[Artifact, ...]  # of these models
    releases: tuple[str, ...]  # of these models: NAME@NUMBER, the champion first

    @property
    def nothing_left(self) -> bool:
        """Whether the store holds nothing of it any more."""
        return not (self.rewrites or self.quoting or self.leftovers or self.crawls)


def plan_takedown(store: Store, what: str) -> Takedown:
    """Look through the store. Changes nothing. Raises what `find` raises."""
    tombstones = read_tombstones(store.root)
    found = find(store, what, tombstones)
    known = next((tombstone for tombstone in tombstones if tombstone.what == found.what), None)
    searched = list(searched_files(store))
    quotes = Quotes.of(text for row in found.rows.values() for text in (row["text"], normalise(row["text"])))
    if quotes:
        quotes = _without_common(store, found, quotes)
    quoting = [file for file in searched if quotes and does_quote(file[0], quotes)]
    answers = answers_that_hold(store, found, quotes) if found.rows else []
    leftovers = to_remove(store, found, quotes) if found.rows else []
    models, tokenizers = learnt_by(store, found)
    tombstone = Tombstone(
        what=found.what,
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        urls=tuple(sorted(found.lasting_urls)),
        records=tuple(sorted(found.meant.records)),
        texts=tuple(sorted(found.meant.texts)),
        models=tuple(sorted(models)),
        tokenizers=tuple(sorted(tokenizers)),
    )
    if known:
        tombstone = known.joined(tombstone)
    held = [artifact for artifact in store.readable(*_ORDER) if artifact.path in found.held]
    held.sort(key=_age, reverse=True)
    return Takedown(
        found=found,
        quotes=quotes,
        rewrites=tuple(sorted(held, key=lambda artifact: _ORDER.index(artifact.stage))),
        quoting=tuple(quoting),
        searched=len(searched),
        leftovers=tuple(leftovers),
        crawls=tuple(sorted([*(path for path in found.held if path.is_file()), *answers])),
        tombstone=tombstone,
        known=known,
        exports=tuple(a for a in store.readable("export") if _model_of(a) in tombstone.models),
        releases=tuple(_releases(store, tombstone.models)),
    )


def carry_out(store: Store, takedown: Takedown, tell: Callable[[str], None] = lambda _: None) -> Tombstone:
    """Do it, and look again: gives the finished tombstone. The caller holds `store.alone()`.

    Raises RunError when a database that quotes the text is in use, or when something is left.
    """
    with contextlib.ExitStack() as stack:
        if any(is_database(path) for path, _ in takedown.quoting):
            stack.enter_context(_database_lock(store))
        what = takedown.found.what
        write_tombstone(
            store.root, what, lambda known: known.joined(takedown.tombstone) if known else takedown.tombstone
        )
        fault("forget.after-tombstone")
        _blot(takedown, tell)
        fault("forget.after-quotes")
        for path, _ in takedown.leftovers:
            tell(f"removing {path.relative_to(store.root)}")
            with disk_errors(path):
                remove(path)
            fault("forget.leftover-removed")
        for path in takedown.crawls:
            tell(f"taking it out of {path.relative_to(store.root)}")
            if path.name == PAGES:
                clean_pages(path, takedown.found)
            elif path.name == FRONTIER:
                clean_crawl(path, takedown.found)
            else:
                clean_answers(path, takedown.found, takedown.quotes)
    for artifact in takedown.rewrites:
        tell(f"taking it out of {artifact.stage}/{artifact.key[:12]}")
        rewrite(artifact.path, _change(artifact.stage, takedown.found))
        fault("forget.rewritten")
    left = plan_takedown(store, what)
    paths = [artifact.path for artifact in left.rewrites] + [path for path, _ in left.leftovers] + list(left.crawls)
    paths += [path for path, _ in searched_files(store) if takedown.quotes and does_quote(path, takedown.quotes)]
    if paths:
        raise RunError(f"something of {what} is still in {paths[0]}", "this is a fault of this program: report it")
    fault("forget.before-finished")
    finished = datetime.now(UTC).isoformat(timespec="seconds")

    def finish(known: Tombstone | None) -> Tombstone:
        return (known or takedown.tombstone).model_copy(update={"finished": finished})

    return write_tombstone(store.root, what, finish)


def _age(artifact: Artifact) -> tuple[str, int, str]:
    """When it was made. An edition may refer to older ones; of two made in one second the depth tells."""
    depth = read_edition(artifact.path)["depth"] if artifact.stage == "collect" else 0
    return artifact.manifest.provenance.finished, depth, artifact.key


def _change(stage: str, found: Found) -> Change:
    def change(artifact: Path, target: Path) -> dict[str, Any]:
        records = found.held[artifact]
        if stage == "collect":
            return drop_collected(artifact, target, records, found.rows)
        if stage == "measure":
            return drop_measured(artifact, target, records)
        if stage == "curate":
            return drop_curated(artifact, target, records)
        return drop_tokens(artifact, target, records)

    return change


def _blot(takedown: Takedown, tell: Callable[[str], None]) -> None:
    by_artifact: dict[str, list[Path]] = {}
    for path, artifact in takedown.quoting:
        tell(f"blotting {path}")
        if artifact:
            by_artifact.setdefault(artifact, []).append(path)
        else:
            blot_in_place(path, takedown.quotes)
            fault("forget.blotted")
    for folder, paths in by_artifact.items():

        def change(artifact: Path, target: Path, paths: list[Path] = paths) -> None:
            for path in paths:
                write_blotted(path, target / path.relative_to(artifact), takedown.quotes)

        rewrite(Path(folder), change)
        fault("forget.blotted")


def _without_common(store: Store, found: Found, quotes: Quotes) -> Quotes:
    """The passages that stand in no text that is kept."""
    for place in places_of_texts(store):
        if place.damaged is None:
            for table in place.batches():
                kept = table.filter(pc.invert(found.meant.rows(table)))
                quotes = quotes.without(kept["text"].to_pylist())
    return quotes


@contextlib.contextmanager
def _database_lock(store: Store) -> Iterator[None]:
    """Held while a Prefect server works on the store's own database."""
    try:
        with file_lock(store.root / ".prefect" / "lock", wait=False):
            yield
    except Locked as error:
        raise RunError(
            f"Prefect's database in {store.root / '.prefect'} quotes the text and is in use",
            "stop `collect-train up` and the runs of this store, then run the same command again",
        ) from error


def _model_of(artifact: Artifact) -> str | None:
    return next((entry.key for entry in artifact.manifest.provenance.inputs if entry.stage == "train"), None)


def _releases(store: Store, models: tuple[str, ...]) -> list[str]:
    registry = Registry(store.root)
    named: list[tuple[bool, str]] = []
    for name in registry.names():
        state = registry.read(name)
        for release in state.releases:
            if release.model_key in models:
                champion = release.number == state.champion
                named.append((not champion, f"{name}@{release.number}" + (" (champion)" if champion else "")))
    return [name for _, name in sorted(named)]
