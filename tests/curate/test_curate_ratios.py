"""Speed as a ratio of CPU seconds to the same work in plain Python, on the same text: what a slip would lose.

The recorded ratios stand in benchmarks/RESULTS.md. A machine shared with others shifts both sides alike.
"""

import statistics
import sys
import sysconfig
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lmcore.curate.bands import Part, write_bands
from lmcore.curate.exact import words_hashes
from lmcore.curate.minhash import band_keys
from lmcore.curate.pairs import find_pairs
from lmcore.curate.signals import signals
from storage.parquet import write_parquet

RECORDED = {"signals": 4.0, "near-duplicates": 25.0}  # plain Python's CPU seconds / ours
FLOOR = 0.6  # of the recorded ratio
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def texts():
    """About 3 MB: Python's own library in pieces of some 2,500 characters, and one copy in ten with changed words."""
    library = Path(sysconfig.get_path("stdlib"))
    pieces = []
    for path in sorted(library.glob("*.py")):
        text = path.read_text("utf-8", "replace")
        pieces += [text[start : start + 2500] for start in range(0, len(text), 2500)]
        if sum(map(len, pieces)) > 2_700_000:
            break
    pieces = [piece for piece in pieces if len(piece.split()) > 50]
    copies = [" ".join("x" if n % 60 == 30 else word for n, word in enumerate(piece.split())) for piece in pieces[::10]]
    assert 2_000_000 < sum(map(len, [*pieces, *copies])) < 4_000_000
    return [*pieces, *copies]


def ratio(name, plain, ours):
    """The median over three rounds, one after the other, of plain Python's CPU seconds / ours."""
    found = []
    for _ in range(3):
        seconds = []
        for work in (plain, ours):
            start = time.process_time()
            work()
            seconds.append(time.process_time() - start)
        found.append(seconds[0] / seconds[1])
    middle = statistics.median(found)
    print(f"{name}: {middle:.2f} times as fast as plain Python {sys.version.split()[0]}; rounds {np.round(found, 2)}")
    return middle


def gopher(text):
    """Gopher's quality and repetition signals, as one would write them down."""
    words = text.split()
    lower = [word.lower() for word in words]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    total = sum(map(len, words)) or 1
    found = {
        "n_words": len(words),
        "mean_word_length": total / max(1, len(words)),
        "alpha": sum(any(c.isalpha() for c in word) for word in words) / max(1, len(words)),
        "stop_words": len(STOP_WORDS & set(lower)),
        "hash": text.count("#") / max(1, len(words)),
        "ellipsis": (text.count("...") + text.count("…")) / max(1, len(words)),
        "bullets": sum(line.startswith(("-", "*", "•")) for line in lines) / max(1, len(lines)),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / max(1, len(lines)),
    }
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        seen, count, chars = set(), 0, 0
        for part in parts:
            if part in seen:
                count += 1
                chars += len(part)
            seen.add(part)
        found[f"duplicate_{name}_count"] = count / max(1, len(parts))
        found[f"duplicate_{name}"] = chars / total
    for size in (2, 3, 4):
        counts = Counter(zip(*(lower[start:] for start in range(size)), strict=False))
        gram, times = max(counts.items(), key=lambda item: item[1] * sum(map(len, item[0])), default=((), 0))
        found[f"top_{size}"] = times * sum(map(len, gram)) / total if times > 1 else 0
    for size in range(5, 11):
        seen, covered = set(), set()
        for start, gram in enumerate(zip(*(lower[start:] for start in range(size)), strict=False)):
            if gram in seen:
                covered.update(range(start, start + size))
            seen.add(gram)
        found[f"duplicate_{size}"] = sum(len(lower[place]) for place in covered) / total
    return found


def test_signals_beside_plain_python(texts):
    """All our signals (56) against the 18 of Gopher in plain Python."""
    langs, kinds = ["en"] * len(texts), ["prose"] * len(texts)
    signals(texts[:5], langs[:5], kinds[:5])  # tables are made once
    ours = signals(texts, langs, kinds)
    plain = [gopher(text) for text in texts]
    assert [row["n_words"] for row in plain] == ours["n_words"].tolist()
    assert np.allclose([row["mean_word_length"] for row in plain], ours["mean_word_length"], atol=1e-5)
    found = ratio("signals", lambda: [gopher(text) for text in texts], lambda: signals(texts, langs, kinds))
    assert found > FLOOR * RECORDED["signals"]


def plain_pairs(texts, permutations=112, rows=4):
    """MinHash of sets of word 5-tuples (one 32-bit hash, universal permutations), bands, true Jaccard."""
    rng = np.random.default_rng(1)
    prime = np.uint64((1 << 61) - 1)
    a, b = (rng.integers(1, 1 << 31, permutations, np.uint64) for _ in range(2))
    sets, buckets = [], defaultdict(list)
    for number, text in enumerate(texts):
        words = text.lower().split()
        grams = set(zip(*(words[start:] for start in range(5)), strict=False)) or {tuple(words)}
        sets.append(grams)
        signature = np.full(permutations, np.uint64(0xFFFFFFFF))
        for gram in grams:
            value = np.uint64(hash(gram) & 0xFFFFFFFF)
            signature = np.minimum(signature, (a * value + b) % prime & np.uint64(0xFFFFFFFF))
        for band in range(permutations // rows):
            buckets[band, signature[band * rows : (band + 1) * rows].tobytes()].append(number)
    candidates = {(i, j) for group in buckets.values() for n, i in enumerate(group) for j in group[n + 1 :]}
    return {(i, j) for i, j in candidates if len(sets[i] & sets[j]) >= 0.7 * len(sets[i] | sets[j])}


def our_pairs(folder, texts):
    names = [f"{number:032x}" for number in range(len(texts))]
    write_bands(folder / "bands.parquet", words_hashes(texts), band_keys(texts))
    write_parquet(folder / "measured.parquet", pa.table({"record_id": names, "text": texts}), 250)
    table = find_pairs([Part(folder / "bands.parquet", folder / "measured.parquet")])
    return {(int(a, 16), int(b, 16)) for a, b in zip(table["a"].to_pylist(), table["b"].to_pylist(), strict=True)}


def test_near_duplicates_beside_plain_python(texts, tmp_path):
    """From texts to verified pairs; ours writes and reads its files as well."""
    ours, plain = our_pairs(tmp_path, texts), plain_pairs(texts)
    assert len(ours & plain) > 0.9 * len(plain) > 50, "they find the same"
    found = ratio("near-duplicates", lambda: plain_pairs(texts), lambda: our_pairs(tmp_path, texts))
    assert found > FLOOR * RECORDED["near-duplicates"]
