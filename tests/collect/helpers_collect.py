"""What the tests of this room share: running the stage, reading and comparing what it left."""

from pathlib import Path
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from lmcore.collect.editions import load_edition
from lmcore.collect.kinds import reader
from lmcore.collect.params import CollectRuntime, FilesSource, WebSource
from lmcore.collect.source import collect
from lmcore.collect.unpack import Member, Unreadable
from lmcore.curate.normalise import normalise
from lmcore.progress import silent
from storage.digest import canonical_json, digest_file
from storage.parquet import read_parquet


def nowhere(digest):
    raise AssertionError(f"no other artifact is needed, least of all {digest}")


def web(site, **params):
    given = {"name": "frozen", "seeds": (site.url + "/",), "delay": 0, "timeout": 10, "min_chars": 100}
    return WebSource(**{**given, **params})


def run(
    work,
    params,
    *,
    edition="first",
    parent=None,
    parent_digest=None,
    locate=nowhere,
    report=silent,
    articles=(),
    **runtime,
):
    return collect(
        work,
        edition=edition,
        parent=parent,
        parent_digest=parent_digest,
        locate=locate,
        params=params,
        runtime=CollectRuntime(**runtime),
        report=report,
        articles=articles,
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


def read(params, name, data, folder, others=None):
    """What the reader of a file of this name makes of these bytes: good items and problems by part.

    Holds every reader to what records need of it, whatever the bytes are. `others` are files beside it.
    """
    for beside, text in {**(others or {}), name: data}.items():
        (folder / beside).write_bytes(text)
    good, bad, parts = [], {}, set()
    for item in reader(params, name)(Member(name, folder / name), params):
        if item.problem:
            assert "\n" not in item.problem
            bad.setdefault(item.problem, []).append(item.part)
            continue
        good.append(item)
        assert item.part not in parts, "two records of one name"
        parts.add(item.part)
        canonical_json(item.meta).encode()
        assert item.meta["extractor"]
        quote(f"{item.part}{item.origin}")
        assert "\0" not in item.text
        assert all(isinstance(text.encode(), bytes) for text in (item.text, item.title))
        for text, clean in ((item.text, str), (normalise(item.text), normalise)):  # what is collected, and curated
            at = 0
            for role, said in item.turns or ():
                assert role.encode()
                assert said == said.strip() != ""
                at = text.index(clean(said), at) + len(clean(said))
    return good, bad


def try_read(*args, **kwargs):
    """As `read`; the reason when the file is unreadable."""
    try:
        return read(*args, **kwargs)
    except Unreadable as error:
        if "\n" in error.reason or str(args[3]) in error.reason:
            raise AssertionError(f"a reason of more lines, or with a path: {error.reason}") from error
        return error.outcome


def broken(whole, at, junk, cut):
    """A file with `junk` written over it at a share of its length, and the end cut off."""
    place = int(at * len(whole))
    return (whole[:place] + junk + whole[place + len(junk) :])[: max(1, int(cut * len(whole)))]


damage = given(at=st.floats(0, 1), junk=st.binary(max_size=40), cut=st.one_of(st.just(1.0), st.floats(0.1, 1)))


__all__ = [
    "FilesSource",
    "broken",
    "damage",
    "digests",
    "documents",
    "log",
    "nowhere",
    "outcomes",
    "read",
    "run",
    "web",
]
