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
from lmcore.curate.boilerplate import boilerplate_lines, boilerplate_share
from lmcore.curate.classifier import Classifier, train_classifier
from lmcore.curate.labelled import read_labelled
from lmcore.curate.measure import bands_file, lines_file, measured_files
from lmcore.curate.pairs import PAIR, find_pairs
from lmcore.curate.params import CompareParams, CompareRuntime
from lmcore.curate.reference import Reference, train_reference
from lmcore.curate.templates import TemplateCounts
from lmcore.progress import Report
from storage.atomic import disk_errors, fault, write_json
from storage.errors import UserError
from storage.parquet import read_parquet, replace_parquet, write_parquet

PAIRS, LINES, COUNTS = "pairs.parquet", "boilerplate.parquet", "templates.parquet"
LINE = pa.schema([pa.field("line", pa.uint64(), nullable=False)])  # hash of a line, see `boilerplate`
Floats = NDArray[np.float64]


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
        pairs = find_pairs(
            _parts(new), _parts(known), min_jaccard=params.min_jaccard, memory_mb=runtime.memory_mib, report=report
        )
        replace_parquet(out / PAIRS, pairs)
    fault("compare.pairs")
    files = [path for folder in new for path in measured_files(folder)]
    report(0, None, "looking for boilerplate")
    lines = _lines(work, new, known, earlier, params, runtime)
    write_parquet(out / LINES, pa.table({"line": lines}, schema=LINE))
    lines = np.unique(np.concatenate([lines, read_boilerplate(earlier)]))
    lasting = earlier[0] if earlier else out
    signals: dict[str, Callable[[list[str]], Floats]] = {BOILERPLATE: lambda texts: boilerplate_share(texts, lines)}
    signals[TEMPLATE] = _templates(files, out, earlier, report).share
    if params.reference.sources:
        signals[REFERENCE] = _reference(files, lasting, params, report).bits
    if params.classifier.wanted:
        signals[CLASSIFIER] = _classifier(files, lasting, params, report).quality
    tables = [BESIDE.empty_table()]
    for number, path in enumerate(files):
        tables.append(_beside(path, signals))
        report(number + 1, len(files), f"{number + 1:,} of {len(files):,} files beside the others")
    write_parquet(out / FILE, pa.concat_tables(tables).sort_by("record_id"))
    figures = {
        "texts": sum(table.num_rows for table in tables),
        "pairs": read_parquet(out / PAIRS, ["jaccard"]).num_rows,
        "boilerplate_lines": read_parquet(out / LINES).num_rows,
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
    work: Path,
    new: Sequence[Path],
    known: Sequence[Path],
    earlier: Sequence[Path],
    params: CompareParams,
    runtime: CompareRuntime,
) -> NDArray[np.uint64]:
    temporary = work / "lines"
    files = ([lines_file(path) for folder in some for path in measured_files(folder)] for some in (new, known))
    least = params.boilerplate.min_documents
    found = boilerplate_lines(*files, min_documents=least, memory_mb=runtime.memory_mib, temporary=temporary)
    shutil.rmtree(temporary, ignore_errors=True)
    return np.setdiff1d(found, read_boilerplate(earlier))


def _templates(files: Sequence[Path], out: Path, earlier: Sequence[Path], report: Report) -> TemplateCounts:
    """Runs of words counted over the first texts of the corpus, and over these texts."""
    report(0, None, "counting templates")
    if earlier:
        counts = TemplateCounts.load(earlier[0] / COUNTS)
    else:
        words = sum(int(read_parquet(file, ["n_words"])["n_words"].to_numpy().sum()) for file in files)
        counts = TemplateCounts.for_words(words)
    seen: set[str] = set()
    for file in files:
        table = read_parquet(file, ["words_hash", "text"])
        hashes = table["words_hash"].to_pylist()
        once = [place for digest, place in {d: n for n, d in enumerate(hashes)}.items() if digest not in seen]
        seen.update(hashes)
        counts.add(table["text"].take(pa.array(once, pa.int64())).to_pylist())
    if not earlier:
        counts.save(out / COUNTS)
    return counts


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
        table = read_parquet(file, ["source", "text"])
        for source, text in zip(table["source"].to_pylist(), table["text"].to_pylist(), strict=True):
            if source in sources:
                yield text


def _beside(path: Path, signals: dict[str, Callable[[list[str]], Floats]]) -> pa.Table:
    """BESIDE rows of one measured file."""
    table = read_parquet(path, ["record_id", "text"])
    texts = table["text"].to_pylist()
    columns = {
        name: np.round(signals[name](texts), 6).astype(np.float32)
        if name in signals
        else np.full(len(texts), np.nan, np.float32)
        for name in BESIDE.names[1:]
    }
    return pa.table({"record_id": table["record_id"], **columns}, schema=BESIDE)
