"""What the curation tests share: real text, rows, collected folders, and one way to run the stage."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from pathlib import Path

import pyarrow as pa
import pytest
from three_stages import curate_folders, nowhere

from lmcore.curate.gates import GatesParams
from lmcore.curate.params import CurateParams
from lmcore.documents import DOCUMENT, make_table, record_id
from lmcore.progress import silent
from storage.atomic import write_json
from storage.parquet import write_parquet

REFERENCES = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("record_id", "artifact_digest", "file")]
)
MODULES = (
    "argparse bisect codecs collections concurrent.futures configparser contextlib csv datetime decimal difflib email "
    "enum fractions functools gettext heapq html inspect io ipaddress json logging mailbox math optparse os pathlib "
    "pickle platform random re sched shlex shutil socket statistics string struct subprocess tarfile tempfile textwrap "
    "threading tokenize trace traceback types unittest urllib.parse urllib.request uuid warnings weakref xml.dom "
    "zipfile"
)


@pytest.fixture(scope="session")
def docstrings():
    """Some hundred different pieces of real documentation of 60 to 600 words, written by people."""
    texts = set()
    for name in MODULES.split():
        module = importlib.import_module(name)
        public = [value for label, value in vars(module).items() if not label.startswith("_")]
        for thing in [module, *filter(inspect.isroutine, public), *filter(inspect.isclass, public)]:
            members = vars(thing).values() if inspect.isclass(thing) else []
            for part in [thing, *filter(inspect.isroutine, members)]:
                text = part.__doc__
                if isinstance(text, str) and 60 <= len(text.split()) <= 600:
                    texts.add(inspect.cleandoc(text))
    assert len(texts) > 150
    return sorted(texts)


@pytest.fixture(scope="session")
def row():
    """row(text, url=..., source=...): one DOCUMENT row with every column."""

    def make(text, url="http://site/page", source="docs", **changes):
        return {
            "record_id": record_id(source, url, text),
            "source": source,
            "url": url,
            "title": f"Page {url}",
            "text": text,
            "kind": "prose",
            "lang": "en",
            "license": "PSF-2.0",
            "license_source": "recipe",
            "edition": "1",
            "synthetic": False,
            "page_of_origin": url,
            "parent_record": None,
            "tags": [],
            "turns": None,
            "meta": "{}",
            **changes,
        }

    return make


@pytest.fixture(scope="session")
def collected():
    """collected(folder, rows, files=1): a finished collect artifact with the rows in the order given."""

    def make(folder, rows, files=1):
        size = -(-len(rows) // files) or 1
        for number in range(files):
            part = make_table(rows[number * size : (number + 1) * size], DOCUMENT)
            write_parquet(folder / "documents" / f"{number:05d}.parquet", part)
        write_parquet(folder / "references.parquet", REFERENCES.empty_table())
        write_json(folder / "edition.json", {"edition": "1", "source": "docs", "parent": None, "depth": 1})
        return folder

    return make


@pytest.fixture(scope="session")
def pages(docstrings, row):
    """A page a docstring, all of one source."""
    return [row(text, url=f"http://site/{number:04d}.html") for number, text in enumerate(docstrings)]


@pytest.fixture
def run_curate(tmp_path):
    """run_curate(folders, **params): the stage in a work folder of its own; gives the out folder and the metrics."""
    count = 0

    def run(folders, *, work=None, workers=1, report=silent, before=None, locate=nowhere, forgotten=None, **params):
        nonlocal count
        count += 1
        params = {"gates": dict.fromkeys(GatesParams.model_fields, 0) | {"max_dropped_share": 1}} | params
        made = curate_folders(
            work or tmp_path / f"work-{count}",
            folders,
            locate=locate,
            before=before,
            params=CurateParams.model_validate(params),
            workers=workers,
            report=report,
            forgotten=forgotten,
        )
        return made.out, made.metrics

    return run


@pytest.fixture(scope="session")
def content():
    """content(out): digest of every file by its name."""

    def digest(out: Path):
        return {
            str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(out.rglob("*"))
            if file.is_file()
        }

    return digest
