"""Curated folders and texts for the tests of the tokenizer and tokens rooms."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics

from lmcore.documents import CURATED, make_table
from storage.parquet import write_parquet

ROOT = Path(__file__).parents[2]

SCRIPTS = {
    "english": "The quick brown fox can't jump over 1234567 lazy dogs.",
    "hungarian": "Árvíztűrő tükörfúrógép; jó reggelt kívánok!",
    "amharic": "ሰላም እንዴት ነህ? ኢትዮጵያ በአፍሪካ ቀንድ የምትገኝ ሀገር ናት።",
    "japanese": "主人公は「行くぞ！」と叫んだ。物語はここから始まる。",
    "chinese": "快速的棕色狐狸跳过了懒狗。",
    "korean": "다람쥐 헌 쳇바퀴에 타고파",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "hindi": "ऋषियों को सताने वाले दुष्ट राक्षसों",
    "thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า",
    "russian": "Съешь же ещё этих мягких французских булок",
    "greek": "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
    "georgian": "ჩქარა ჭიდაობა",
    "cherokee": "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ",
    "gothic": "𐌼𐌰𐌲 𐌲𐌻𐌴𐍃 𐌹̈𐍄𐌰𐌽",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☠️ 🇭🇺",
    "combining": "Z̷̢̛a̸͎͝l̵̙̈g̶o e\u0301 \u212b ﬁ ½ ² Ⅷ",
    "controls": "\x00\x01\x7f\x85\u2028\u2029\ufeff\u200b\ufffd\ufffe\U0010ffff",
    "blanks": " \t  \r\n\n \r\r\n\u00a0\u3000  x\n\n\n  y \n",
    "code": 'def f(x):\n\treturn {"a": x**2}  # <|end|>\r\n',
}


@lru_cache
def documentation() -> tuple[str, ...]:
    """Python's help topics: some 700 KB of real prose in some 80 documents."""
    return tuple(text for _, text in sorted(topics.items()))


def write_curated(
    folder: Path, splits: dict[str, list[str]], rows_a_file: int = 5_000, langs: dict[str, str] | None = None
) -> Path:
    """A curated artifact of these texts; gives the folder. `langs`: the language of a text, "und" for the others."""
    for split, texts in splits.items():
        rows = [_row(split, number, text) for number, text in enumerate(texts)]
        rows = sorted((row | {"lang": (langs or {}).get(row["text"], "und")} for row in rows), key=_by_record)
        for number, start in enumerate(range(0, max(len(rows), 1), rows_a_file)):
            table = make_table(rows[start : start + rows_a_file], CURATED)
            write_parquet(folder / split / f"{number:05d}.parquet", table)
    return folder


def mixed_texts(seed: int, count: int) -> list[str]:
    """Documents of random length, from empty to long, out of real prose and every script."""
    draw = random.Random(seed)
    prose, scripts = documentation(), list(SCRIPTS.values())
    texts = []
    for _ in range(count):
        text = draw.choice(prose)
        start = draw.randrange(len(text))
        texts.append(text[start : start + draw.choice([0, 1, 30, 300, 3000])] + draw.choice(scripts))
    return texts


def run_python(code: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh process from the root of the repository."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def tree(folder: Path) -> dict[str, str]:
    """Digest of every file under a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _by_record(row: dict[str, object]) -> object:
    return row["record_id"]


def _row(split: str, number: int, text: str) -> dict[str, object]:
    name = hashlib.sha256(f"{split} {number} {text}".encode()).hexdigest()[:32]
    return {
        "record_id": name,
        "text_id": name,
        "text": text,
        "n_bytes": len(text.encode()),
        "source": "tests",
        "url": f"file:{split}/{number}",
        "title": "",
        "kind": "prose",
        "lang": "und",
        "license": "PSF-2.0",
        "synthetic": False,
        "page_of_origin": f"file:{split}/{number}",
        "turns": None,
        "quality": 50.0,
        "complexity": 50.0,
        "cluster_id": name,
        "cluster_size": 1,
    }
