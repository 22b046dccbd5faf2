"""Texts of records for people to look at: as they were measured, and whatever the recipe says without personal data."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from lmcore.curate.measure import measured_files
from lmcore.curate.privacy import blank
from storage.errors import RunError
from storage.parquet import read_parquet
from storage.store import Artifact


def shown_texts(corpus: Artifact, records: Collection[str], letters: int) -> dict[str, str]:
    """The first `letters` characters of the texts of these records of a curate artifact, masked, by record id.

    A record whose text is gone is left out. Raises RunError for a damaged file.
    """
    wanted = pa.array(sorted(set(records)), pa.string())
    found: dict[str, str] = {}
    for path in _files(corpus) if len(wanted) else ():
        if len(found) == len(wanted):
            break
        rows = pc.indices_nonzero(pc.is_in(read_parquet(path, ["record_id"])["record_id"], wanted))
        if len(rows):
            table = read_parquet(path, ["record_id", "text"]).take(rows)
            for record, text in zip(table["record_id"].to_pylist(), table["text"].to_pylist(), strict=True):
                # cut after masking, so that half an address is none that was overlooked
                found[record] = blank(text[: letters + 1000])[:letters] + ("…" if len(text) > letters else "")
    return found


def _files(corpus: Artifact) -> Iterator[Path]:
    """The measured files that a corpus was made of, as far as they are still there."""
    for entry in corpus.manifest.provenance.inputs:
        if entry.stage == "measure":
            try:
                artifact = corpus.store.find("measure", entry.key)
            except RunError:
                continue
            if artifact is not None:
                yield from measured_files(artifact.local())
