"""What the tests of this room share: running the stage, reading and comparing what it left."""

from pathlib import Path

from lmcore.collect.editions import load_edition
from lmcore.collect.params import CollectRuntime, FilesSource, WebSource
from lmcore.collect.source import collect
from lmcore.progress import silent
from storage.digest import digest_file
from storage.parquet import read_parquet


def nowhere(digest):
    raise AssertionError(f"no other artifact is needed, least of all {digest}")


def web(site, **params):
    given = {"name": "frozen", "seeds": (site.url + "/",), "delay": 0, "timeout": 10, "min_chars": 100}
    return WebSource(**{**given, **params})


def run(work, params, *, edition="first", parent=None, parent_digest=None, locate=nowhere, report=silent, **runtime):
    return collect(
        work,
        edition=edition,
        parent=parent,
        parent_digest=parent_digest,
        locate=locate,
        params=params,
        runtime=CollectRuntime(**runtime),
        report=report,
    )


def digests(out):
    """sha256 of every data file of an artifact: what its content digest is made of."""
    files = (path for path in Path(out).rglob("*") if path.is_file())
    names = {path.relative_to(out).as_posix(): path for path in files}
    return {name: digest_file(path) for name, path in sorted(names.items()) if not name.startswith("provenance/")}


def documents(work):
    return load_edition(work / "out", nowhere).to_pylist()


def log(work):
    return read_parquet(work / "out" / "provenance" / "fetch_log.parquet").to_pylist()


def outcomes(work):
    """Outcome by the path of the URL."""
    return {"/" + row["url"].split("/", 3)[3]: row["outcome"] for row in log(work)}


__all__ = ["FilesSource", "digests", "documents", "log", "nowhere", "outcomes", "run", "web"]
