"""Stage `compare`: the texts that are new beside each other and beside all that were there before.

Takes the new measure artifacts, those known already, and the comparisons made then. What it leaves is about the new
texts only; together with the earlier comparisons it tells of every pair of texts that are alike.

Layout of `work/out`: pairs.parquet (which texts are alike), beside.parquet (signals of the new texts that hang on
other texts), boilerplate.parquet (the lines of the new texts that are boilerplate), stats.json; and of the first
comparison of a corpus what all later ones go by: templates.parquet, reference/, classifier/.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lmcore.curate.bands import Part, require_rows
from lmcore.curate.beside import BESIDE, BOILERPLATE, CLASSIFIER, FILE, REFERENCE, TEMPLATE
from lmcore.curate.boilerplate import boilerplate_share
from lmcore.curate.classifier import Classifier, train_classifier
from lmcore.curate.copies import one_of_copies
from lmcore.curate.labelled import read_labelled
from lmcore.curate.line_counts import boilerplate_lines
from lmcore.curate.measure import bands_file, lines_file, measured_files
from lmcore.curate.pairs import PAIR, find_pairs
from lmcore.curate.params import CompareParams, CompareRuntime
from lmcore.curate.reference import Reference, train_reference
from lmcore.curate.templates import TemplateCounts
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.errors import UserError
from storage.parquet import batches, parquet_facts, read_parquet, replace_parquet, write_parquet

PAIRS, LINES, COUNTS = "pairs.parquet", "boilerplate.parquet", "templates.parquet"
LINE = pa.schema([pa.field("line", pa.uint64(), nullable=False)])  # hash of a line, see `boilerplate`
Floats = NDArray[np.float64]
Signals = dict[str, Callable[[list[str]], Floats]]
_ROWS = 250  # texts looked at together
_LINES_SHARE = 4  # of the memory allowed, one part is for counting lines


def compare_measured(
    work: Path,
    new: Sequence[Path],
    known: Sequence[Path],
    earlier: Sequence[Path],
    *,
    params: CompareParams,
    runtime: CompareRuntime,
    report: Report,
) -> dict[str, Any]:
    """Compare the texts of the measure artifacts `new` into `work/out` and give the figures for the summary.

    `known` are the measure artifacts of before, `earlier` the comparisons among them, oldest first. The result does
    not hang on the order of `new`. Raises RunError for an unreadable input, UserError for a reference or labels that
    there are not enough texts of.
    """
    out = work / "out"
    if not (out / PAIRS).exists():
        near, memory = params.min_jaccard, runtime.memory_mib
        replace_parquet(
            out / PAIRS, find_pairs(_parts(new), _parts(known), min_jaccard=near, memory_mb=memory, report=report)
        )  # not held by a name: templates need the memory
    fault("compare.pairs")
    files = [path for folder in new for path in measured_files(folder)]
    report(0, None, "looking for boilerplate")
    lines = _lines(new, known, earlier, params, runtime)
    write_parquet(out / LINES, pa.table({"line": lines}, schema=LINE))
    lines = np.unique(np.concatenate([lines, read_boilerplate(earlier)]))
    table = _beside_all(files, _signals(files, lines, out, earlier, params, report), report)
    write_parquet(out / FILE, table.sort_by("record_id"))
    figures = {
        "texts": table.num_rows,
        "pairs": parquet_facts(out / PAIRS).num_rows,
        "boilerplate_lines": parquet_facts(out / LINES).num_rows,
    }
    write_json(out / "stats.json", figures)
    return figures


def read_pairs(folder: Path) -> pa.Table:
    """The pairs of a compare artifact."""
    return read_parquet(folder / PAIRS, PAIR.names)


def read_boilerplate(compared: Sequence[Path]) -> NDArray[np.uint64]:
    """The hashes of all lines that these comparisons call boilerplate, sorted."""
    found = [read_parquet(folder / LINES, LINE.names)["line"].to_numpy() for folder in compared]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))


def _parts(folders: Sequence[Path]) -> list[Part]:
    parts = [Part(bands_file(path), path) for folder in folders for path in measured_files(folder)]
    for part in parts:
        require_rows(part)
    return parts


def _lines(
    new: Sequence[Path],
    known: Sequence[Path],
    earlier: Sequence[Path],
    params: CompareParams,
    runtime: CompareRuntime,
) -> NDArray[np.uint64]:
    files = ([lines_file(path) for folder in some for path in measured_files(folder)] for some in (new, known))
    found = boilerplate_lines(
        *files, min_documents=params.boilerplate.min_documents, memory_mb=runtime.memory_mib // _LINES_SHARE
    )
    return np.setdiff1d(found, read_boilerplate(earlier))


def _signals(
    files: Sequence[Path],
    lines: NDArray[np.uint64],
    out: Path,
    earlier: Sequence[Path],
    params: CompareParams,
    report: Report,
) -> Signals:
    """What gives each signal that is asked for. The models first: learning takes memory that templates then take."""
    lasting = earlier[0] if earlier else out
    signals: Signals = {BOILERPLATE: lambda texts: boilerplate_share(texts, lines)}
    if params.reference.sources:
        signals[REFERENCE] = _reference(files, lasting, params, report).bits
    if params.classifier.wanted:
        signals[CLASSIFIER] = _classifier(files, lasting, params, report).quality
    signals[TEMPLATE] = _templates(files, out, earlier, report).share
    return signals


def _templates(files: Sequence[Path], out: Path, earlier: Sequence[Path], report: Report) -> TemplateCounts:
    """Runs of words counted over the first texts of the corpus, and over these texts."""
    report(0, None, "counting templates")
    once = one_of_copies(files)
    if earlier:
        counts = TemplateCounts.load(earlier[0] / COUNTS)
    else:
        counts = TemplateCounts.for_words(sum(_words(file) for file in files))
    first = 0
    for batch in _batches(files, "text"):
        wanted = once[first : first + batch.num_rows]
        first += batch.num_rows
        counts.add(batch["text"].filter(pa.array(wanted)).to_pylist())
    if not earlier:
        counts.save(out / COUNTS)
    return counts


def _words(file: Path) -> int:
    return int(read_parquet(file, ["n_words"])["n_words"].to_numpy().sum())


def _reference(files: Sequence[Path], lasting: Path, params: CompareParams, report: Report) -> Reference:
    folder = lasting / "reference"
    if folder.exists():
        return Reference.load(folder)
    report(0, None, "learning the reference")
    wanted = params.reference
    model = train_reference(_texts_of(files, wanted.sources), max_chars=wanted.max_chars, order=wanted.order)
    if not model.n_grams:
        raise UserError(
            f"compare.reference.sources are {', '.join(wanted.sources)}, and they gave no text",
            "name sources that give some, or leave compare.reference out",
        )
    _saved(folder, model.save)
    return model


def _classifier(files: Sequence[Path], lasting: Path, params: CompareParams, report: Report) -> Classifier:
    folder = lasting / "classifier"
    if folder.exists():
        return Classifier.load(folder)
    report(0, None, "learning what is good")
    wanted = params.classifier
    if wanted.labelled:
        examples: Iterator[tuple[str, bool]] = read_labelled(
            Path(wanted.labelled), text_field=wanted.text_field, label_field=wanted.label_field
        )
    else:
        examples = (
            (text, good)
            for good, sources in ((True, wanted.good), (False, wanted.bad))
            for text in _texts_of(files, sources)
        )
    model = train_classifier(examples, wanted)
    _saved(folder, model.save)
    return model


def _saved(folder: Path, save: Callable[[Path], None]) -> None:
    """The folder appears whole or not at all."""
    part = folder.with_name(f".{folder.name}.part")
    with disk_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        save(part)
        part.rename(folder)


def _texts_of(files: Sequence[Path], sources: Sequence[str]) -> Iterator[str]:
    for file in files:
        if not set(read_parquet(file, ["source"])["source"].unique().to_pylist()) & set(sources):
            continue
        for batch in _batches([file], "source", "text"):
            for source, text in zip(batch["source"].to_pylist(), batch["text"].to_pylist(), strict=True):
                if source in sources:
                    yield text


def _beside_all(files: Sequence[Path], signals: Signals, report: Report) -> pa.Table:
    """BESIDE rows of all files, in their order."""
    tables = [BESIDE.empty_table()]
    for number, path in enumerate(files):
        tables += [_beside(batch, signals) for batch in _batches([path], "record_id", "text")]
        report(number + 1, len(files), f"{number + 1:,} of {len(files):,} files beside the others")
    return pa.concat_tables(tables)


def _beside(batch: pa.RecordBatch, signals: Signals) -> pa.Table:
    """BESIDE rows of some measured texts."""
    texts = batch["text"].to_pylist()
    columns = {
        name: np.round(signals[name](texts), 6).astype(np.float32)
        if name in signals
        else np.full(len(texts), np.nan, np.float32)
        for name in BESIDE.names[1:]
    }
    return pa.table({"record_id": batch["record_id"], **columns}, schema=BESIDE)


def _batches(files: Sequence[Path], *columns: str) -> Iterator[pa.RecordBatch]:
    """Measured rows, some MiB of text at a time."""
    for file in files:
        yield from batches(file, list(columns), _ROWS)
