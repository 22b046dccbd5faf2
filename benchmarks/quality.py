"""What other texts say of a text: boilerplate, templates, the reference model and the learned quality, on real text.

    python benchmarks/quality.py --texts FOLDER [--part classifier reference templates boilerplate]

FOLDER holds domains/*/*/*.jsonl (`text`, `lang`), real text of Debian, PyPI and npm packages. The classifier is set
beside fastText (`pip install fasttext-numpy2-wheel`) and scikit-learn's logistic regression where they are installed;
all learn from the same texts and are asked about the same held-out ones. Times are CPU seconds of this process.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import importlib.util
import json
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow as pa

from lmcore.curate.boilerplate import LINES, boilerplate_share, line_table
from lmcore.curate.classifier import train_classifier
from lmcore.curate.hash_sample import HashSample
from lmcore.curate.labelled import ClassifierParams
from lmcore.curate.line_counts import boilerplate_lines
from lmcore.curate.normalise import normalise
from lmcore.curate.ranks import auc
from lmcore.curate.reference import Reference
from lmcore.curate.sketches import sketches
from lmcore.curate.templates import TemplateCounts
from lmcore.curate.words import gram_hashes, split
from storage.parquet import write_parquet

SEED = 20261122
Examples = list[tuple[str, bool]]


def main() -> None:
    """Run the parts asked for and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, required=True)
    parts = {"classifier": classifier, "reference": reference, "templates": templates, "boilerplate": boilerplate}
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    arguments = parser.parse_args()
    corpus = read(arguments.texts)
    print(f"{len(corpus)} files, {sum(map(size, corpus.values())) / 1e6:.1f} MB")
    for part in arguments.part:
        print(f"\n{part}")
        parts[part](corpus)
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def read(folder: Path) -> dict[str, list[str]]:
    """Different normalised texts of at least 20 words of each file, cut to pieces of 2,000 characters."""
    corpus = {}
    for file in sorted(folder.glob("domains/*/*/*.jsonl")):
        texts = (normalise(json.loads(line)["text"]) for line in file.open(encoding="utf-8"))
        cut = (text[i : i + 2000] for text in texts for i in range(0, min(len(text), 40_000), 2000))
        corpus[file.stem] = list(dict.fromkeys(piece for piece in cut if len(split([piece]).word_start) >= 20))
    return {name: texts for name, texts in corpus.items() if texts}


def classifier(corpus: dict[str, list[str]]) -> None:
    """Held-out AUC of ours, fastText and scikit-learn on tasks of different difficulty."""
    pick = random.Random(SEED)
    prose = [
        text for name in ("jane-austen", "botchan-en", "libreoffice-help-en", "bible-web-en") for text in corpus[name]
    ]
    hungarian = corpus["libreoffice-help-hu"]
    tasks: dict[str, Examples] = {
        "prose and help / chat and fortunes": label(prose, corpus["chitchat"] + corpus["fortunes"], pick),
        "help / the same, one word in ten put elsewhere": disturbed(corpus["libreoffice-help-en"], 0.1, pick),
        "help / the same, one word in three put elsewhere": disturbed(corpus["libreoffice-help-en"], 0.33, pick),
        "Hungarian help / the same, one word in three put elsewhere": disturbed(hungarian, 0.33, pick),
        "Bible / Austen": label(corpus["bible-web-en"], corpus["jane-austen"], pick),
    }
    for name, examples in tasks.items():
        start = time.process_time()
        model = train_classifier(examples, ClassifierParams(min_auc=0.5))
        seconds = time.process_time() - start
        figures = model.figures
        texts = [text for text, _ in examples]
        good = np.array([good for _, good in examples])
        held = sketches(texts) % np.uint64(5) == 0
        asked = [text for text, out in zip(texts, held, strict=True) if out]
        start = time.process_time()
        quality = model.quality(asked)
        speed = size(asked) / 1e6 / (time.process_time() - start)
        print(
            f"{name}: {figures.good} + {figures.bad} learned, {figures.held_out_good + figures.held_out_bad} held out"
        )
        print(
            f"  ours: AUC {auc(quality, good[held]):.4f} (95 % {figures.auc_low:.3f} to {figures.auc_high:.3f}), "
            f"{seconds:.1f} s, {speed:.0f} MB/s"
        )
        learned = [(text, yes) for text, yes, out in zip(texts, good, held, strict=True) if not out]
        pick.shuffle(learned)
        peers(learned, asked, good[held])


def label(good: list[str], bad: list[str], pick: random.Random) -> Examples:
    """At most 3,000 of each."""
    good, bad = (pick.sample(texts, min(3000, len(texts))) for texts in (good, bad))
    return [*((text, True) for text in good), *((text, False) for text in bad)]


def disturbed(texts: list[str], share: float, pick: random.Random) -> Examples:
    """Half of the texts as they are and the other half with words exchanged: no text with both labels."""
    texts = pick.sample(texts, min(6000, len(texts)))
    bad = []
    for text in texts[::2]:
        words = text.split(" ")
        places = pick.sample(range(len(words)), int(len(words) * share))
        for a, b in zip(places, pick.sample(places, len(places)), strict=True):
            words[a], words[b] = words[b], words[a]
        bad.append(" ".join(words))
    return [*((text, True) for text in texts[1::2]), *((text, False) for text in bad)]


def peers(learned: Examples, asked: list[str], good: np.ndarray) -> None:
    """fastText's supervised model and scikit-learn's, where they are installed."""
    if importlib.util.find_spec("fasttext"):
        import fasttext

        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.writelines(f"__label__{int(yes)} {' '.join(text.lower().split())}\n" for text, yes in learned)
            file.flush()
            start = time.process_time()
            model = fasttext.train_supervised(file.name, wordNgrams=2, epoch=10, lr=0.5, thread=1, seed=1, verbose=0)
            seconds = time.process_time() - start
        start = time.process_time()
        flat = [" ".join(text.lower().split()) for text in asked]
        scores = [
            sum(float(p) for name, p in zip(*model.predict(text, k=2), strict=True) if name[-1] == "1") for text in flat
        ]
        speed = size(asked) / 1e6 / (time.process_time() - start)
        print(f"  fastText: AUC {auc(np.array(scores), good):.4f}, {seconds:.1f} s, {speed:.0f} MB/s")
    if importlib.util.find_spec("sklearn"):
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import LogisticRegression

        start = time.process_time()
        vectors = HashingVectorizer(n_features=1 << 19, ngram_range=(1, 2), token_pattern=r"\S+", binary=True)
        model = LogisticRegression(C=100, max_iter=200).fit(
            vectors.transform([text for text, _ in learned]), [yes for _, yes in learned]
        )
        seconds = time.process_time() - start
        start = time.process_time()
        scores = model.decision_function(vectors.transform(asked))
        speed = size(asked) / 1e6 / (time.process_time() - start)
        print(f"  scikit-learn: AUC {auc(scores, good):.4f}, {seconds:.1f} s, {speed:.0f} MB/s")


def reference(corpus: dict[str, list[str]]) -> None:
    """Bits a byte of held-out, disturbed and other text; time, size and memory."""
    pick = random.Random(SEED)
    names = ("libreoffice-help-en", "libreoffice-help-hu", "bible-ja-classical", "ui-am", "jane-austen")
    held = {name: [t for t in corpus[name] if sketches([t])[0] % np.uint64(5) == 0] for name in names}
    known = {name: sorted(set(corpus[name]) - set(held[name])) for name in names}
    sample = HashSample(16_000_000)
    for texts in known.values():
        sample.add(texts)
    for order in (2, 3, 4):
        start = time.process_time()
        model = Reference.train(sample, order=order)
        seconds = time.process_time() - start
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            on_disk = sum(file.stat().st_size for file in Path(folder).iterdir())
        trained = size(sample.texts())
        everything = [text for texts in held.values() for text in texts]
        start = time.process_time()
        model.bits(everything)
        speed = size(everything) / 1e6 / (time.process_time() - start)
        print(
            f"order {order}: {trained / 1e6:.1f} MB learned in {seconds:.1f} s, {model.n_grams:,} grams, "
            f"{on_disk / 1e6:.1f} MB; {speed:.1f} MB/s"
        )
        for name in names:
            texts = held[name][:300]
            rows = {"held out": texts}
            for share in (0.1, 0.33, 1.0):
                rows[f"{share:.0%} of words elsewhere"] = [moved(text, share, pick) for text in texts]
            bits = {what: model.bits(group) for what, group in rows.items()}
            areas = [
                auc(np.concatenate((bits["held out"], other)), np.repeat([False, True], len(texts)))
                for what, other in bits.items()
                if what != "held out"
            ]
            line = ", ".join(f"{what} {found.mean():.2f}" for what, found in bits.items())
            print(f"  {name}: {line}; AUC {' '.join(f'{area:.3f}' for area in areas)}")
        others = ("fortunes", "chitchat", "python-stdlib", "bible-web-en", "chromium-hu", "chromium-am", "udhr-ja")
        found = ", ".join(f"{name} {model.bits(corpus[name][:300]).mean():.2f}" for name in others if name in corpus)
        noise = ["".join(pick.choices("abcdefghijklmnopqrstuvwxyz0123456789 ", k=500)) for _ in range(100)]
        print(f"  other text: {found}, letters at random {model.bits(noise).mean():.2f}")


def moved(text: str, share: float, pick: random.Random) -> str:
    """The text with a share of its words (characters where it has no blanks) in each other's places."""
    between = " " if text.count(" ") * 20 > len(text) else ""
    words = text.split(" ") if between else list(text)
    places = pick.sample(range(len(words)), int(len(words) * share))
    moved_ = list(words)
    for a, b in zip(places, pick.sample(places, len(places)), strict=True):
        moved_[a] = words[b]
    return between.join(moved_)


def templates(corpus: dict[str, list[str]]) -> None:
    """Speed, and the error of counters against exact counting and of samples of the runs."""
    texts = [text for found in corpus.values() for text in found]
    pick = random.Random(SEED)
    rivers = [
        f"The {pick.choice(texts).split()[0]} is a river in the county of {pick.choice(texts).split()[-1]}. It is "
        f"{pick.randint(10, 900)} km long and has a basin of {pick.randint(1, 99)},{pick.randint(100, 999)} square km."
        for _ in range(500)
    ]
    texts += rivers
    n_words = sum(len(split([text]).word_start) for text in texts)
    shares = {}
    exact = by_hand(texts)
    print(f"{n_words:,} words; planted pages: {exact[-500:].mean():.3f} by exact counting")
    fitting = max(10, int(np.log2(n_words / 3)) + 1)  # the fewest counters without thinning
    for bits, thinning in ((28, 0), (fitting, 0), (fitting - 1, 0), (28, 1), (28, 4)):
        counts = TemplateCounts(bits=bits, thinning=thinning)
        start = time.process_time()
        counts.add(texts)
        added = time.process_time() - start
        start = time.process_time()
        shares[bits, thinning] = share = counts.share(texts)
        asked = time.process_time() - start
        print(
            f"2^{bits} counters ({counts.mean:.2f} each), one run in {1 << thinning}: "
            f"add {size(texts) / 1e6 / added:.0f} MB/s, share {size(texts) / 1e6 / asked:.0f} MB/s; "
            f"mean difference from exact counting {np.abs(exact - share).mean():.4f}, planted {share[-500:].mean():.3f}"
        )
    start, means = 0, {}
    for name, found in corpus.items():
        means[name] = shares[28, 0][start : start + len(found)].mean()
        start += len(found)
    print("mean share: " + ", ".join(f"{name} {mean:.3f}" for name, mean in sorted(means.items(), key=lambda x: -x[1])))


def by_hand(texts: list[str]) -> np.ndarray:
    """The share by exact counting of all runs, for texts without short ones."""
    from lmcore.curate.templates import _NUMBER, _run_sizes

    rows = []
    seen: Counter[int] = Counter()
    for text in texts:
        found = split([_NUMBER.sub("0", text)])
        hashes = gram_hashes(found, int(_run_sizes(found, 1)[0]))[1].tolist()
        rows.append(hashes)
        seen.update(set(hashes))
    return np.array([sum(seen[run] > 10 for run in row) / max(1, len(row)) for row in rows])


def boilerplate(corpus: dict[str, list[str]]) -> None:
    """Speed, bytes a document, and 2,000 new documents against a million known ones."""
    texts = [text for found in corpus.values() for text in found]
    start = time.process_time()
    table = line_table(texts)
    seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_parquet(folder / "real", table)
        on_disk = (folder / "real").stat().st_size
        print(
            f"{size(texts) / 1e6 / seconds:.1f} MB/s, {on_disk / len(texts):.0f} bytes a document, "
            f"{on_disk / table.num_rows:.1f} a line"
        )
        lines = boilerplate_lines([folder / "real"], [], memory_mb=125)
        start = time.process_time()
        share = boilerplate_share(texts, lines)
        print(f"{len(lines)} lines; share {size(texts) / 1e6 / (time.process_time() - start):.1f} MB/s")
        means: dict[str, float] = defaultdict(float)
        first = 0
        for part, found in corpus.items():
            means[part] = share[first : first + len(found)].mean()
            first += len(found)
        print("mean share: " + ", ".join(f"{k} {v:.3f}" for k, v in sorted(means.items(), key=lambda x: -x[1])[:8]))
        pick = np.random.default_rng(SEED)
        known = []
        for shard in range(200):  # 5,000 documents of 20 lines, one line in ten of 10,000 that come again and again
            common = pick.integers(0, 10_000, 10_000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            line = np.concatenate((pick.integers(0, 2**64 - 1, 90_000, dtype=np.uint64), common))
            line.sort()
            rows = pa.table({"line": line, "text": pick.integers(0, 2**32, 100_000, dtype=np.uint32)}, schema=LINES)
            known.append(folder / f"{shard}.parquet")
            write_parquet(known[-1], rows)
        new = folder / "new.parquet"
        write_parquet(new, pa.concat_tables([rows.slice(0, 36_000), rows.slice(90_000, 4_000)]).sort_by("line"))
        start = time.process_time()
        found = boilerplate_lines([new], known, memory_mb=125)
        print(f"2,000 new against 1 M known documents: {time.process_time() - start:.2f} s, {len(found)} lines")


def size(texts: list[str]) -> int:
    """UTF-8 bytes."""
    return sum(len(text.encode()) for text in texts)


if __name__ == "__main__":
    main()
