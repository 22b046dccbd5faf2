"""How often the language of real text is found, and how fast: ours beside each of the two models alone.

    mkdir FOLDER; cd FOLDER
    apt-get download debian-reference-{de,en,es,fr,id,it,ja,pt,pt-br,zh-cn,zh-tw} libreoffice-help-hu
    apt-get download debian-faq-{de,fr,it,ja,nl,ru,zh-cn} developers-reference{,-de,-fr,-it,-ja,-ru}
    pip download --no-deps eld==1.0.6
    python benchmarks/languages.py FOLDER [--limits] [--wrong 20]

The Debian packages are one documentation in many languages (pages, and pieces of 300 and 60 characters of them; a
translation may hold passages that were left in English, so what all three methods call English is left out of the
translations). The wheel of eld has a test file of 1,000 sentences of Wikipedia, news and the web in each of 60
languages. Right is the first subtag, or another language of the same macrolanguage of ISO 639-3 (nb for no, yue for
zh). Texts of mixed languages are made of two Debian pages each, to see how well the share of the expected language is
told; and good text is decoded wrongly, to see how much of it the repair sets right. `--limits` shows accuracy
by length, which is how the limits between the models were set. CPU is of one process, loading not counted.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from lmcore.collect.extract import parse_html, visible_text
from lmcore.curate.language import LanguageParams, languages, same_language
from lmcore.curate.language_models import fast, slow
from lmcore.curate.normalise import normalise
from lmcore.curate.spelling import NormaliseParams, normalise_all

Labelled = list[tuple[str, str]]  # (language, text)
SEED = 20260801
LENGTHS = (20, 30, 40, 60, 80, 120, 200, 300)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limits", action="store_true", help="accuracy by length of text")
    parser.add_argument("--wrong", type=int, default=0, help="print so many of the texts that ours has wrong")
    asked = parser.parse_args()
    pages, sentences = debian(asked.folder), eld(asked.folder)
    print(f"{len(pages):,} pages in {len({lang for lang, _ in pages})} languages, {len(sentences):,} sentences in 60")
    sets = {"Debian pages": pages}
    for size in (300, 60):
        sets[f"Debian, {size} characters"] = pieces(pages, size, per_page=6)
    sets["sentences"] = sentences
    sets["sentences, 40 characters"] = [(lang, text[:40]) for lang, text in sentences if len(text) >= 40]
    for method in (ours, fasttext, py3langid):
        method("Loads the model.")
    print("| texts | n | ours | fastText | py3langid | ours am/hu/ja/en | texts/CPU s: ours | fastText | py3langid |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, texts in sets.items():
        if name.startswith("Debian"):  # what every method calls English in a translation was not translated
            texts = [
                (lang, text)
                for lang, text in texts
                if lang == "en" or any(method(text) != "en" for method in (ours, fasttext, py3langid))
            ]
        row, speed = [], []
        for method in (batch, each(fasttext), each(py3langid)):
            began = time.process_time()
            found = method([text for _, text in texts])
            speed.append(f"{len(texts) / (time.process_time() - began):,.0f}")
            right = np.array([same_language(a, b) for (a, _), b in zip(texts, found, strict=True)])
            row.append(f"{right.mean():.3f}")
            if method is batch:
                of = {code: right[[lang == code for lang, _ in texts]] for code in ("am", "hu", "ja", "en")}
                ours_of = "/".join(f"{part.mean():.3f}" if len(part) else "-" for part in of.values())
                bad = [(a, b, text) for (a, text), b, good in zip(texts, found, right, strict=True) if not good]
        print(f"| {name} | {len(texts):,} | {' | '.join(row)} | {ours_of} | {' | '.join(speed)} |")
        for a, b, text in bad[: asked.wrong]:
            print("   ", a, b, repr(text[:90]))
        if asked.wrong:
            print("   ", Counter((a, b) for a, b, _ in bad).most_common(12))
    if asked.limits:
        limits(sentences)
    mixed(pages)
    mojibake(pages, sentences)
    return 0


def batch(texts: Sequence[str]) -> list[str]:
    return languages(texts, LanguageParams()).lang


def ours(text: str) -> str:
    return batch([text])[0]


def fasttext(text: str) -> str:
    return next((lang for lang, _ in fast(" ".join(text.split()))), "und")


def py3langid(text: str) -> str:
    return slow(text)[0][0]


def each(one: Callable[[str], str]) -> Callable[[Sequence[str]], list[str]]:
    return lambda texts: [one(text) for text in texts]


def limits(sentences: Labelled) -> None:
    """Accuracy of all three on the first N characters of sentences whose script does not decide."""
    print("\n| characters | n | ours | fastText | py3langid |\n|---|---|---|---|---|")
    for size in LENGTHS:
        cut = [(lang, text[:size]) for lang, text in sentences if len(text) >= size and ord(text[0]) < 0x530][::5]
        rates = [
            np.mean([same_language(lang, method(text)) for lang, text in cut]) if cut else float("nan")
            for method in (ours, fasttext, py3langid)
        ]
        print(f"| {size} | {len(cut):,} | {' | '.join(f'{rate:.3f}' for rate in rates)} |")


def mixed(pages: Labelled) -> None:
    """Error of expected_share on pages joined of two languages, one of them expected."""
    source = random.Random(SEED)
    texts, truth, expected = [], [], []
    for _ in range(300):
        (lang, one), (other, two) = source.sample(pages, 2)
        if same_language(lang, other) or not one or not two:
            continue
        texts.append(f"{one}\n{two}")
        truth.append(len(one) / (len(one) + len(two)))
        expected.append(lang)
    began = time.process_time()
    errors = []
    for text, share, lang in zip(texts, truth, expected, strict=True):
        errors.append(abs(languages([text], LanguageParams(expected=(lang,))).expected_share[0] - share))
    spent = time.process_time() - began
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(
        f"\nexpected_share on {len(texts)} mixed pages: "
        f"mean error {np.mean(errors):.3f}, median {np.median(errors):.3f}"
    )
    print(f"with paragraphs: {size / spent:.1f} MB/CPU s, {len(texts) / spent:,.0f} texts/CPU s")


def mojibake(pages: Labelled, sentences: Labelled) -> None:
    """Good text that the repair changes (should be none), and planted mojibake that it sets right."""
    on = NormaliseParams(mojibake=True)
    good = [text for _, text in pages + sentences]
    began = time.process_time()
    after = normalise_all(good, ["und"] * len(good), on)
    spent = time.process_time() - began
    changed = [(a, b) for a, b in zip(map(normalise, good), after, strict=True) if a != b]
    print(
        f"\nmojibake repair: {len(changed)} of {len(good):,} good texts changed; "
        f"{sum(map(len, good)) / 1e6 / spent:.1f} M characters/CPU s with normalise"
    )
    for a, b in changed[:8]:
        print("   ", next(((x, y) for x, y in zip(a.split("\n"), b.split("\n"), strict=False) if x != y), ""))
    for codec in ("cp1252", "latin-1", "cp1250"):
        tried = done = 0
        for lang, text in sentences[::7]:
            clean = normalise(text)
            try:
                broken = clean.encode().decode(codec)
            except UnicodeDecodeError:
                continue
            if lang in ("hu", "de", "fr", "cs", "es", "am", "ja", "ru", "el") and not clean.isascii():
                tried += 1
                done += normalise_all([broken], ["und"], on) == [clean]
        print(f"    UTF-8 read as {codec}: {done} of {tried} sentences set right")


def debian(folder: Path) -> Labelled:
    """(language, visible text) of every HTML page of the downloaded Debian packages."""
    out = []
    for package in sorted(folder.glob("*.deb")):
        name = package.name.split("_")[0]
        lang = name.removeprefix("debian-reference-").removeprefix("debian-faq-").removeprefix("libreoffice-help-")
        lang = lang.removeprefix("developers-reference").removeprefix("-") or "en"
        target = folder / "unpacked" / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", str(package), str(target)], check=True)
        pages = sorted(target.rglob("*.html"))
        for page in pages[:: max(1, len(pages) // 60)]:
            tree = parse_html(page.read_text("utf-8", "replace"))
            text = normalise(visible_text(tree)) if tree is not None and not page.is_symlink() else ""
            if len(text) >= 1_000 and page.stem.split(".")[0] not in ("genindex", "search"):
                out.append((lang, text))
    return out


def eld(folder: Path) -> Labelled:
    """(language, sentence) of the test file in the wheel of eld."""
    with zipfile.ZipFile(next(folder.glob("eld-*.whl"))) as wheel:
        lines = wheel.read("eld/tests/data/big-test.txt").decode().splitlines()
    return [(lang, text) for lang, _, text in (line.partition("\t") for line in lines) if text]


def pieces(pages: Labelled, size: int, per_page: int) -> Labelled:
    """Pieces of `size` characters from random places, each from the start of a word."""
    source = random.Random(SEED)
    out = []
    for lang, text in pages:
        for _ in range(per_page):
            start = source.randrange(len(text) - size)
            out.append((lang, text[start : start + size]))
    return out


if __name__ == "__main__":
    sys.exit(main())
