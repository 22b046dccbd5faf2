"""Near-duplicates beside gaoya, rensa and datatrove: CPU seconds from Parquet to Parquet, recall and precision.

    python benchmarks/near_duplicates.py [--texts FOLDER] [--copies 6000] [--peers PYTHON] [--run NAME ...]
        [--rounds 3] [--small-mb 12] [--keep FOLDER]

The documents are FOLDER's JSONL files (`text`, `lang`), or the documentation of Python's own modules; short records of
a file are joined, long ones cut. Edited copies of random documents are planted. PYTHON is one of a virtual
environment with `pip install gaoya rensa "datatrove[processing,io]" spacy pyarrow`; without it ours runs alone.

Every program runs in a process of its own, reads the same Parquet shards and writes the pairs that it found (datatrove:
the documents that it removed) to Parquet; CPU seconds of all threads count from after the imports, the median of the
rounds. Peers get word 5-shingles, 14 bands of 8 hashes, lower case; gaoya its own tokens and threshold .7, both as
fast as their bulk calls allow. datatrove runs its four stages on a part of the shards, ours on the same part.

A planted pair counts as found when the program joins the two texts: names the pair, for ours also by way of an exact
copy (a pair of Jaccard 1). Precision is the share of 3,000 random reported pairs whose true Jaccard similarity of word
5-shingles, counted here by a second implementation, is at least .7 (datatrove reports no pairs).
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import pkgutil
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq

SHARD_BYTES = 8 << 20
CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9d\U00020000-\U000323af"
CLASSES = ((0.8, 1.01), (0.7, 0.8), (0.5, 0.7))


def main() -> int:
    """Run all and print; 1 when ours misses its own floors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--copies", type=int, default=6000)
    parser.add_argument("--peers", help="python of the peers' virtual environment")
    parser.add_argument("--run", nargs="+", default=["ours", "gaoya", "rensa", "datatrove"], choices=sorted(RUNNERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small-mb", type=float, default=12, help="how much datatrove gets")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="folder for the shards, else a temporary one")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, shards, work = arguments.child
        print(json.dumps({"cpu": RUNNERS[name](Path(shards), Path(work))}))
        return 0
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="near-"))
    texts, pairs = plant(documents(arguments.texts), arguments.copies, random.Random(arguments.seed))
    size = write_shards(texts, folder / "all")
    small = write_shards(dict(part_of(texts, arguments.small_mb * 1e6)), folder / "small")
    truth = {pair: similarity(texts[pair[0]], texts[pair[1]]) for pair in pairs}
    counts = [sum(low <= value < high for value in truth.values()) for low, high in CLASSES]
    print(
        f"{len(texts):,} texts, {size / 1e6:.1f} MB, {len(pairs):,} planted copies; "
        f"of Jaccard >= .8, .7 to .8, .5 to .7: {counts}"
    )
    passed = True
    cpu: dict[tuple[str, str], float] = {}
    for name in arguments.run:
        where = "small" if name == "datatrove" else "all"
        python = sys.executable if name == "ours" else arguments.peers
        if python is None:
            print(f"left out: {name} (--peers PYTHON)")
            continue
        cpu[name, where] = timed(python, name, folder, where, 1 if name == "datatrove" else arguments.rounds)
        if name == "datatrove":
            cpu["ours", where] = timed(sys.executable, "ours", folder, where, arguments.rounds)
            continue
        found = joined(folder / f"{name}-{where}" / "pairs.parquet")
        recall = [
            statistics.fmean(pair in found for pair, value in truth.items() if low <= value < high)
            for low, high in CLASSES
        ]
        sample = random.Random(1).sample(sorted(found.reported), min(3000, len(found.reported)))
        precise = statistics.fmean(similarity(texts[a], texts[b]) >= 0.7 for a, b in sample)
        print(
            f"{name}: recall {' '.join(f'{share:.4f}' for share in recall)}; {len(found.reported):,} pairs, "
            f"precision {precise:.4f}"
        )
        if name == "ours":
            passed = recall[0] >= 0.99 and recall[1] >= 0.95 and precise >= 0.95
    for (name, where), seconds in cpu.items():
        mb = (size if where == "all" else small) / 1e6
        ratio = seconds / cpu["ours", where] if ("ours", where) in cpu else float("nan")
        print(f"{name}, {mb:.1f} MB: {seconds:.2f} CPU s, {mb / seconds:.2f} MB/CPU s, {ratio:.2f} times ours")
    if not arguments.keep:
        shutil.rmtree(folder)
    return 0 if passed else 1


# --- the texts ------------------------------------------------------------------------------------------------------


def documents(folder: Path | None) -> list[str]:
    """Real documents, none twice."""
    found: dict[str, None] = {}
    for records in from_jsonl(folder) if folder else from_python():
        held: list[str] = []
        for text in records:
            held.append(text)
            if sum(map(len, held)) < 1500:
                continue
            whole, held = "\n".join(held), []
            for start in range(0, len(whole), 20_000):
                found[whole[start : start + 20_000]] = None
    return list(found)


def from_jsonl(folder: Path) -> Iterator[list[str]]:
    """The texts of each file."""
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open() as lines:
            yield [text for line in lines if (text := str(json.loads(line).get("text", "")))]


def from_python() -> Iterator[list[str]]:
    """Docstrings of the standard library's modules."""
    for module in pkgutil.iter_modules():
        if module.name in sys.stdlib_module_names and not module.name.startswith(("_", "idle", "this", "anti")):
            try:
                members = vars(__import__(module.name)).values()
            except ImportError:
                continue
            yield [inspect.getdoc(member) or "" for member in members if callable(member)]


def plant(originals: list[str], copies: int, rng: random.Random) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Texts by record id, shuffled, and the (original, copy) pairs; at most one copy an original."""
    texts = {f"d{i:06d}": text for i, text in enumerate(originals)}
    long = [name for name, text in texts.items() if len(text) >= 300]
    pairs = []
    for name in rng.sample(long, min(copies, len(long) - 1)):
        copy = edited(texts[name], originals[rng.randrange(len(originals))], rng)
        texts["c" + name[1:]] = copy
        pairs.append((f"c{name[1:]}", name))
    order = list(texts)
    rng.shuffle(order)
    return {name: texts[name] for name in order}, pairs


def edited(text: str, other: str, rng: random.Random) -> str:
    """A copy as the web makes them: a block replaced or lost, words changed here and there, case and space changed."""
    share = rng.choice((0.02, 0.05, 0.1, 0.15, 0.2))
    pieces = re.split(r"(\s+)", text)
    if len(pieces) < 40:  # no spaces: characters instead
        pieces = list(text)
    count = max(1, int(len(pieces) * share))
    at = rng.randrange(max(1, len(pieces) - count))
    kind = rng.randrange(4)
    if kind == 0:
        pieces[at : at + count] = list(other[: sum(map(len, pieces[at : at + count]))])
    elif kind == 1:
        del pieces[at : at + count]
    elif kind == 2:
        for _ in range(max(1, count // 12)):
            pieces[rng.randrange(len(pieces))] = rng.choice(("other", "más", "違う", "ሌላ"))
    else:
        pieces = [piece.upper() if rng.random() < 0.1 else piece for piece in pieces]
        pieces[at:at] = ["   \n "]
    return "".join(pieces)


def part_of(texts: dict[str, str], size: float) -> Iterator[tuple[str, str]]:
    """The first texts, up to about `size` bytes."""
    for name, text in texts.items():
        size -= len(text.encode())
        if size < 0:
            return
        yield name, text


def write_shards(texts: dict[str, str], folder: Path) -> int:
    """Parquet shards with record_id and text; gives the bytes of all texts."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    total = held = 0
    names: list[str] = []

    def flush() -> None:
        number = len(list(folder.iterdir()))
        table = pa.table({"record_id": names, "text": [texts[name] for name in names]})
        pq.write_table(table, folder / f"{number:05d}.parquet", compression="zstd", use_dictionary=False)

    for name, text in texts.items():
        names.append(name)
        held += len(text.encode())
        if held >= SHARD_BYTES:
            flush()
            total, held, names = total + held, 0, []
    if names:
        flush()
    return total + held


# --- the truth, by another implementation ---------------------------------------------------------------------------


@functools.cache
def word_pattern() -> re.Pattern[str]:
    """Runs of letters, digits and marks; CJK characters one by one."""
    marks = "".join(chr(i) for i in range(0x300, 0x1FFFF) if unicodedata.category(chr(i)) in ("Mn", "Mc"))
    return re.compile(rf"(?:(?=[^\W_])[{CJK}])|(?:(?![{CJK}])(?:[^\W_]|[{re.escape(marks)}]))+")


def words(text: str) -> list[str]:
    """Lower-case words."""
    return word_pattern().findall(text.lower())


@functools.lru_cache(maxsize=20_000)
def shingle_set(text: str) -> frozenset[tuple[str, ...]]:
    """Word 5-shingles."""
    found = words(text)
    return frozenset(tuple(found[i : i + 5]) for i in range(max(1, len(found) - 4)))


def similarity(a: str, b: str) -> float:
    """True Jaccard similarity."""
    left, right = shingle_set(a), shingle_set(b)
    return len(left & right) / len(left | right)


class joined:  # noqa: N801 - reads as a word
    """Pairs of a file, and whether a pair is among them, exact copies taken as one text."""

    def __init__(self, path: Path) -> None:
        rows = pq.read_table(path).to_pydict()
        self._head: dict[str, str] = {}
        for a, b, value in zip(rows["a"], rows["b"], rows.get("jaccard", [0.0] * len(rows["a"])), strict=True):
            if value == 1:
                left, right = sorted((self._find(a), self._find(b)))
                self._head[right] = left
        self.reported = {(min(a, b), max(a, b)) for a, b in zip(rows["a"], rows["b"], strict=True)}
        self._heads = {self._key(a, b) for a, b in self.reported}

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return self._find(pair[0]) == self._find(pair[1]) or self._key(*pair) in self._heads

    def _find(self, name: str) -> str:
        while (up := self._head.get(name, name)) != name:
            name = up
        return name

    def _key(self, a: str, b: str) -> tuple[str, str]:
        left, right = sorted((self._find(a), self._find(b)))
        return left, right


# --- the programs ---------------------------------------------------------------------------------------------------


def timed(python: str, name: str, folder: Path, where: str, rounds: int) -> float:
    """Median CPU seconds of the rounds."""
    found = []
    for _ in range(rounds):
        work = folder / f"{name}-{where}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        command = [python, __file__, "--child", name, str(folder / where), str(work)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1])["cpu"])
    return statistics.median(found)


def ours(shards: Path, work: Path) -> float:
    """Band index of every shard, then the verified pairs."""
    from lmcore.curate.bands import Part, write_bands
    from lmcore.curate.exact import words_hashes
    from lmcore.curate.minhash import band_keys
    from lmcore.curate.pairs import find_pairs
    from storage.parquet import write_parquet

    begin = time.process_time()
    parts = []
    for path in sorted(shards.iterdir()):
        texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
        part = Part(work / "bands" / path.name, path)
        write_bands(part.bands, words_hashes(texts), band_keys(texts))
        parts.append(part)
    write_parquet(work / "pairs.parquet", find_pairs(parts))
    return time.process_time() - begin


def read_all(shards: Path) -> tuple[list[str], list[str]]:
    """Record ids and texts."""
    table = pq.read_table(shards)
    return table["record_id"].to_pylist(), table["text"].to_pylist()


def write_found(work: Path, names: list[str], found: list[tuple[int, list[int]]]) -> None:
    """Pairs of places as a Parquet file of record ids."""
    pairs = {(min(i, j), max(i, j)) for i, others in found for j in others if i != j}
    rows = sorted((min(names[i], names[j]), max(names[i], names[j])) for i, j in pairs)
    pq.write_table(pa.table({"a": [a for a, _ in rows], "b": [b for _, b in rows]}), work / "pairs.parquet")


def gaoya(shards: Path, work: Path) -> float:
    """Its string index with word 5-grams, filled and asked in bulk."""
    from gaoya.minhash import MinHashStringIndex

    begin = time.process_time()
    names, texts = read_all(shards)
    index = MinHashStringIndex(32, 0.7, 14, 8, None, "word", True, (5, 5), id_container="smallvec")
    index.par_bulk_insert_docs(list(range(len(texts))), texts)
    write_found(work, names, list(enumerate(index.par_bulk_query(texts))))
    return time.process_time() - begin


def rensa(shards: Path, work: Path) -> float:
    """Word 5-shingles from Python's own split, its MinHash and its index in bulk."""
    from rensa import RMinHash, RMinHashLSH

    begin = time.process_time()
    names, texts = read_all(shards)
    word = re.compile(r"\w+")
    sketches: list[Any] = []
    for text in texts:
        found = word.findall(text.lower())
        sketch = RMinHash(112, 42)
        sketch.update([" ".join(found[i : i + 5]) for i in range(max(1, len(found) - 4))])
        sketches.append(sketch)
    index = RMinHashLSH(0.7, 112, 14)
    index.insert_many(sketches)
    write_found(work, names, list(enumerate(index.query_all(sketches))))
    return time.process_time() - begin


def datatrove(shards: Path, work: Path) -> float:
    """Its four stages, one task each."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    begin = time.process_time()
    config = MinhashConfig()
    reader = ParquetReader(str(shards), id_key="record_id")
    stages = [
        [reader, MinhashDedupSignature(str(work / "signatures"), config=config)],
        [MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"), config=config)],
        [MinhashDedupCluster(str(work / "buckets"), str(work / "removed"), config=config)],
        [reader, MinhashDedupFilter(str(work / "removed")), ParquetWriter(str(work / "kept"))],
    ]
    for number, stage in enumerate(stages):
        tasks = config.num_buckets if number == 1 else 1
        LocalPipelineExecutor(stage, tasks=tasks, workers=1, logging_dir=str(work / f"log{number}")).run()
    return time.process_time() - begin


RUNNERS = {"ours": ours, "gaoya": gaoya, "rensa": rensa, "datatrove": datatrove}

if __name__ == "__main__":
    sys.exit(main())
