"""Masking of personal data: speed by kind of text, what it finds that was planted, and what it takes by mistake.

    python benchmarks/privacy_speed.py [--texts FOLDER] [--mb 20] [--show 0] [--regions HU US]

The text is FOLDER's JSONL files (`text`), an equal share of each, or Python's own documentation and sources. Speeds are
megabytes of UTF-8 a CPU second of one thread. Planted are 2,000 of every type, made by the generator below, one in each
text. What is found in the texts as they are is printed by type, with `--show N` examples of each: real text of
manuals and code holds few of them, so this is the list to look through for false alarms. datatrove's formatter of
personal data (e-mail, IP) runs beside where it is installed. Ends with 1 when masking twice differs from once.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stdnum import iban, luhn

from lmcore.curate.privacy import COUNTS, PrivacyParams, mask
from lmcore.curate.privacy_text import MASKS
from lmcore.curate.toxicity import toxicity

PLANTED = 2_000
LOWER = "abcdefghijklmnopqrstuvwxyz"
HOSTS = ("gmail.com", "posta.hu", "docomo.ne.jp", "uni-x.de", "mail.aau.edu.et")


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--mb", type=float, default=20)
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--regions", nargs="*", default=[])
    asked = parser.parse_args()
    params = PrivacyParams(regions=tuple(asked.regions))
    mask(["warm +36 20 555 1234 a@b.co"], params)
    groups = collected(asked.texts) if asked.texts else pythons_own()
    print(
        "| text | MB | mask, MB/CPU s | words, MB/CPU s | " + " | ".join(COUNTS) + " |\n|---|---|---|---|" + "---|" * 6
    )
    same, everything, total, spent = True, [], 0.0, 0.0
    for name, (lang, texts) in groups.items():
        texts = cut(texts, asked.mb * 1e6 / len(groups))
        size = sum(len(text.encode()) for text in texts) / 1e6
        seconds, masked = timed(lambda texts=texts: mask(texts, params))
        words, _ = timed(lambda texts=texts, lang=lang: toxicity(texts, [lang] * len(texts)))
        same &= mask(masked.texts, params).texts == masked.texts
        counts = " | ".join(str(int(masked.counts[name].sum())) for name in COUNTS)
        print(f"| {name} | {size:.1f} | {size / seconds:.0f} | {size / words:.0f} | {counts} |")
        everything += texts
        total, spent = total + size, spent + seconds
    print(
        f"\nall: {total:.1f} MB at {total / spent:.0f} MB/CPU s; masked twice is {'' if same else 'NOT '}masked once\n"
    )
    beside(everything, total)
    planted(everything, params)
    if asked.show:
        examples(everything, params, asked.show)
    return 0 if same else 1


def timed(run: Callable[[], object]) -> tuple[float, object]:
    """CPU seconds and result; the better of two runs."""
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        result = run()
        best = min(best, time.process_time() - start)
    return best, result


def collected(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """Texts by file name."""
    found = {}
    for path in sorted(folder.rglob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        if rows and "text" in rows[0]:
            found[path.stem] = (str(rows[0].get("lang", "und")), [row["text"] for row in rows])
    return found


def pythons_own() -> dict[str, tuple[str, list[str]]]:
    """Documentation and code that every machine with this Python has."""
    library = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    code = [path.read_text(encoding="utf-8", errors="replace") for path in library]
    return {"topics": ("en", list(topics.values()) * 10), "library": ("en", code)}


def cut(texts: list[str], size: float) -> list[str]:
    """The first texts up to so many bytes."""
    taken = []
    for text in texts:
        if size <= 0:
            break
        taken.append(text)
        size -= len(text.encode())
    return taken


def beside(texts: list[str], size: float) -> None:
    """datatrove's formatter on the same texts."""
    try:
        from datatrove.pipeline.formatters import PIIFormatter
    except ImportError:
        print("datatrove is not installed here: left out\n")
        return
    peer = PIIFormatter()
    seconds, _ = timed(lambda: [peer.format(text) for text in texts])
    print(f"datatrove's PIIFormatter (e-mail and IP only): {size / seconds:.1f} MB/CPU s\n")


def planted(texts: list[str], params: PrivacyParams) -> None:
    """How many of each type are found and replaced whole when written into real text, at the end of a line."""
    rng = random.Random(6)
    places = [text[:2_000] for text in texts if len(text) > 200]
    print("| planted | found and masked whole |\n|---|---|")
    for kind, make in makers(rng).items():
        rows = []
        for _ in range(PLANTED):
            lines = rng.choice(places).split("\n")
            at, item = rng.randrange(len(lines)), make()
            lines[at] += " " + item
            rows.append(("\n".join(lines), item))
        masked = mask([text for text, _ in rows], params).texts
        whole = sum(item not in text and MASKS[kind] in text for text, (_, item) in zip(masked, rows, strict=True))
        print(f"| {kind} | {whole / PLANTED:.3f} |")
    print()


def makers(rng: random.Random) -> dict[str, Callable[[], str]]:
    """A generator of each type, in the forms that people write."""

    def digits(count: int) -> str:
        return "".join(rng.choices("0123456789", k=count))

    def name() -> str:
        return "".join(rng.choices(LOWER, k=rng.randrange(3, 9)))

    def token(count: int) -> str:
        return "".join(rng.choices(LOWER + LOWER.upper() + "0123456789", k=count))

    def account() -> str:
        country, length = rng.choice((("DE", 18), ("HU", 24)))
        while True:
            number = digits(length)
            whole = f"{country}{iban.calc_check_digits(country + '00' + number)}{number}"
            if iban.is_valid(whole):
                return rng.choice((whole, iban.format(whole)))

    def card() -> str:
        number = rng.choice(("4", "51", "55", "2221"))
        number += digits(15 - len(number))
        number += luhn.calc_check_digit(number)
        return rng.choice((number, " ".join(number[i : i + 4] for i in range(0, 16, 4))))

    def phone() -> str:
        return rng.choice(
            (f"+36 {rng.choice((20, 30, 70))} {rng.randrange(200, 999)} {digits(4)}", f"+3612{digits(6)}")
        )

    def secret() -> str:
        return rng.choice((f"ghp_{token(36)}", f"AIza{token(35)}", f"password: {token(20)}", f"sk_live_{token(24)}"))

    def address() -> str:
        return (
            f"{rng.choice((2, 31, 80, 93, 151, 213))}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        )

    return {
        "email": lambda: f"{name()}{rng.choice(('.', '_', '-', ''))}{name()}@{rng.choice(HOSTS)}",
        "phone": phone,
        "ip": address,
        "iban": account,
        "card": card,
        "secret": secret,
    }


def examples(texts: list[str], params: PrivacyParams, count: int) -> None:
    """What was found, with its surroundings."""
    shown: dict[str, list[str]] = {kind: [] for kind in MASKS}
    for kind in shown:
        alone = PrivacyParams(**{**dict.fromkeys(MASKS, "keep"), kind: "mask"}, regions=params.regions)
        for before, after in zip(texts, mask(texts, alone).texts, strict=True):
            if before == after:
                continue
            place = next(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
            shown[kind].append(before[max(0, place - 50) : place + 50].replace("\n", "⏎"))
    rng = random.Random(6)
    for kind, found in shown.items():
        print(f"{kind}: {len(found)} texts")
        for text in rng.sample(found, min(count, len(found))):
            print(f"    {text}")


if __name__ == "__main__":
    sys.exit(main())
