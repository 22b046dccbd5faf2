"""Work in progress and what was set aside: what of it must go, and a crawl that goes on without a page."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

from pydantic import ValidationError

from lmcore.collect.web import FRONTIER
from lmcore.documents import FORGOTTEN, SPLITS
from lmcore.forget.answers import DATABASES, DOWNLOADS, downloads_that_go
from lmcore.forget.find import Found
from lmcore.forget.quotes import Quotes
from lmcore.forget.quoting import does_quote, may_quote
from lmcore.train.params import Job
from storage.errors import RunError
from storage.parquet import read_parquet
from storage.store import CORPUS_STAGES, Store


def to_remove(store: Store, found: Found, quotes: Quotes) -> list[tuple[Path, str]]:
    """Folders and files outside finished artifacts that hold something of it or of which nobody can say, and why.

    Work is lost only where it could not go on anyway, or takes minutes: a training on tokens that held it is removed
    with its checkpoints, a curation measures the files that held it again, a crawl is kept (see `clean_crawl`), and of
    other collections all that can be told to hold nothing of it (see `answers`).
    """
    paths = [(path, "what a deletion left") for path in sorted((store.root / ".gone").glob("*"))]
    for folder in sorted((store.root / ".aside").glob("*-*")):
        if why := _why_affected(folder, found, quotes):
            paths.append((folder, f"set aside; {why}"))
    for work in sorted((store.root / ".work").glob("*-*")):
        stage = work.name.partition("-")[0]
        if stage == "collect" and work / FRONTIER in found.unreadable:
            paths.append((work, "an unfinished crawl that cannot be read"))
        elif stage == "collect":
            unreadable = {path for path in found.unreadable if path.parent == work}
            lost = [path for one in sorted(unreadable) for path in sorted(work.glob(f"{one.name}*"))]
            paths += [(path, "cannot be read; what it held is asked for again") for path in lost]
            left = [path for path in sorted(work.iterdir()) if path not in lost and _is_of_a_dead_crawl(path)]
            paths += [(path, "is written again") for path in left]
            paths += downloads_that_go(work, found, quotes)
        elif stage == "measure":
            parts = [path for path in (work / "pending", *_measured(work, found)) if path.exists()]
            paths += [(path, "is measured again") for path in parts]
        elif stage in ("compare", "curate"):
            paths += [(path, "is written again") for path in sorted(work.iterdir()) if path.name != "attempts.json"]
        elif stage == "tokens":
            paths.append((work, "unfinished tokens; nobody can say of which texts"))
        elif _trains_on(work, found):
            paths.append((work, "an unfinished training on tokens that held it"))
        elif _quotes(work, quotes):
            paths.append((work, f"unfinished work of {stage} that quotes it"))
    return paths


def remove(path: Path) -> None:
    """Remove a file or a folder; links are removed, never followed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clean_crawl(path: Path, found: Found) -> None:
    """Turn the pages of a crawl that are meant into forgotten ones, of which only the links are kept."""
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as base:
            base.execute("pragma secure_delete = on")
            meant = [
                name
                for name, final_name, text in base.execute("select name, final_name, text from page").fetchall()
                if found.meant.page(name, final_name) or (text.strip() and found.meant.text(text))
            ]
            base.execute("begin immediate")
            base.executemany(
                "update page set title = '', text = '', meta = '{}', etag = '', canonical = '', body = x'',"
                " state = 'done', outcome = ?, reason = '' where name = ? and body is not null",
                [(FORGOTTEN, name) for name in meant],
            )
            base.execute("commit")
            base.execute("vacuum")
            base.execute("pragma wal_checkpoint(truncate)")
    except sqlite3.Error as error:
        raise RunError(f"cannot change the crawl {path}: {error}", "run the same command again") from error


def _is_of_a_dead_crawl(path: Path) -> bool:
    """Whether a file in a crawl's folder is none that it continues from: its output is written anew each time."""
    if path.name.endswith(".damaged"):
        return True
    return not (path.name.startswith((FRONTIER, *DATABASES)) or path.name in ("attempts.json", DOWNLOADS))


def _measured(work: Path, found: Found) -> list[Path]:
    """The files of unfinished measuring that hold one of the records, or cannot be read."""
    paths = []
    for path in sorted((work / "out" / "measured").iterdir() if (work / "out" / "measured").is_dir() else ()):
        try:
            held = path.suffix != ".parquet" or _has(path, found)
        except RunError:
            held = True
        if held:
            paths.append(path)
    return paths


def _trains_on(work: Path, found: Found) -> bool:
    """Whether an unfinished training reads tokens that held one of the records: it cannot go on without them."""
    try:
        job = Job.model_validate_json((work / "job.json").read_bytes())
    except FileNotFoundError:
        return False
    except ValidationError:
        return True
    return job.tokens.name in {path.name for path in found.held if path.parent.name == "tokens"}


def _quotes(work: Path, quotes: Quotes) -> bool:
    return any(path.is_file() and may_quote(path) and _reads_quote(path, quotes) for path in sorted(work.rglob("*")))


def _reads_quote(path: Path, quotes: Quotes) -> bool:
    try:
        return does_quote(path, quotes)
    except RunError:
        return True  # half a file, or a damaged one


def _why_affected(folder: Path, found: Found, quotes: Quotes) -> str:
    """Why something that was set aside must go: it holds one of the records, quotes one, or cannot be read; or ""."""
    stage = folder.name.partition("-")[0]
    held, readable = folder in found.held, folder not in found.unreadable
    if stage == "tokens":
        try:
            held = any(_has(folder / split / "documents.parquet", found) for split in SPLITS)
        except RunError:
            readable = False
    if held:
        return "it holds the text"
    if not readable:
        return "nobody can say what it holds"
    return "it quotes the text" if stage not in CORPUS_STAGES and _quotes(folder, quotes) else ""


def _has(path: Path, found: Found) -> bool:
    return not found.meant.records.isdisjoint(read_parquet(path, ["record_id"])["record_id"].to_pylist())
