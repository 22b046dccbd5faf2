"""A night's batch against everything known: CPU seconds, bytes of the index, peak memory.

    python benchmarks/nightly.py [--texts FOLDER] [--known 1000000] [--new 2000] [--group-rows 500] [--keep FOLDER]

Real documents (`near_duplicates.py` says which) are too few: the known ones are spans of 60 to 250 words from random
places of them, so neighbours overlap as real ones do. Of the new ones 30 % are edited copies of known ones, the rest
other spans. The band index and the measured shards (record_id, text) of the known are written first and not counted.
Counted, from after the imports, in a process of its own: reading the new texts, their band keys and words hashes,
their index, and `find_pairs` with the reading of the candidates' texts, down to a Parquet file of pairs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq
from near_duplicates import documents, edited, similarity

from lmcore.curate.bands import Part, write_bands
from lmcore.curate.exact import words_hashes
from lmcore.curate.minhash import band_keys
from lmcore.curate.pairs import find_pairs
from storage.parquet import write_parquet

SHARD_ROWS = 5000


def main() -> int:
    """Build and count; 1 when an aim is missed (3 CPU s, 250 bytes, at the sizes given by default)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--known", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=2000)
    parser.add_argument("--group-rows", type=int, default=250, help="rows in a row group of the measured shards")
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--keep", type=Path, help="folder for the shards, built only when it is not there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(night(arguments.child)))
        return 0
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="nightly-"))
    if not (folder / "new").exists():
        build(
            folder, arguments.texts, arguments.known, arguments.new, arguments.group_rows, random.Random(arguments.seed)
        )
    index = sum(path.stat().st_size for path in folder.glob("known/*.bands")) / arguments.known
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(folder)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{arguments.new:,} new against {arguments.known:,} known: {found['cpu']:.2f} CPU s, {found['pairs']:,} pairs, "
        f"{found['joined']} of {found['planted']} planted copies joined, peak {found['peak_mb']:.0f} MB "
        f"({found['imports_mb']:.0f} MB after the imports), index {index:.1f} bytes a document"
    )
    if not arguments.keep:
        shutil.rmtree(folder)
    return 0 if found["cpu"] < 3 and index < 250 else 1


def build(folder: Path, source: Path | None, known: int, new: int, group_rows: int, rng: random.Random) -> None:
    """The shards of both; a new text's id is n- and that of the known one of which it is a near-duplicate."""
    words = [text.split(" ") for text in documents(source)]
    long = [piece for piece in words if len(piece) > 300]
    samples: list[tuple[int, str]] = []
    for first in range(0, known, SHARD_ROWS):
        rows = range(first, min(known, first + SHARD_ROWS))
        texts = [span(long, rng) for _ in rows]
        samples += [(row, text) for row, text in zip(rows, texts, strict=True) if rng.random() < new / known]
        part = shard(folder / "known", first // SHARD_ROWS, [f"k{row:08d}" for row in rows], texts, group_rows)
        write_bands(part.bands, words_hashes(texts), band_keys(texts))
    copies = []
    for row, text in samples[: int(new * 0.3)]:
        copy = edited(text, span(long, rng), rng)
        copies.append((f"n{'-' if similarity(text, copy) >= 0.7 else ''}k{row:08d}", copy))
    others = [(f"n{i:06d}", span(long, rng)) for i in range(new - len(copies))]
    names, texts = zip(*(copies + others), strict=True)
    shard(folder / "new", 0, list(names), list(texts), group_rows)


def span(documents: list[list[str]], rng: random.Random) -> str:
    """A random piece of a random document."""
    words = documents[rng.randrange(len(documents))]
    length = rng.randrange(60, 250)
    at = rng.randrange(len(words) - length)
    return " ".join(words[at : at + length])


def shard(folder: Path, number: int, names: list[str], texts: list[str], group_rows: int) -> Part:
    """The measured file of one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    part = Part(folder / f"{number:05d}.bands", folder / f"{number:05d}.measured")
    table = pa.table({"record_id": names, "text": texts})
    pq.write_table(table, part.measured, row_group_size=group_rows, compression="zstd", use_dictionary=False)
    return part


def night(folder: Path) -> dict[str, float]:
    """What is counted."""
    imports = peak_mb()
    begin = time.process_time()
    new = Part(folder / "new.bands", folder / "new" / "00000.measured")
    texts = pq.read_table(new.measured, columns=["text"])["text"].to_pylist()
    write_bands(new.bands, words_hashes(texts), band_keys(texts))
    known = [Part(path, path.with_suffix(".measured")) for path in sorted((folder / "known").glob("*.bands"))]
    found = find_pairs([new], known)
    write_parquet(folder / "pairs.parquet", found)
    cpu = time.process_time() - begin
    names = pq.read_table(new.measured, columns=["record_id"])["record_id"].to_pylist()
    planted = {(name.removeprefix("n-"), name) for name in names if name.startswith("n-")}
    joined = {(row["a"], row["b"]) for row in found.to_pylist()} & planted
    return {
        "cpu": cpu,
        "pairs": found.num_rows,
        "planted": len(planted),
        "joined": len(joined),
        "peak_mb": peak_mb(),
        "imports_mb": imports,
    }


def peak_mb() -> float:
    """The most memory this process has held (getrusage would give the parent's, where that was more)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    sys.exit(main())
