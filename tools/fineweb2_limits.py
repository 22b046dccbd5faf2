"""Write lmcore/curate/rulesets/fineweb2.tsv from a checkout of the fineweb-2 repository.

    python tools/fineweb2_limits.py CHECKOUT ISO_639_3_JSON > lmcore/curate/rulesets/fineweb2.tsv

CHECKOUT holds `configs/*.yml` and `fineweb2-language-distribution.csv`; ISO_639_3_JSON is the file of Debian's package
iso-codes. Taken are the languages with a two-letter code and those that language identification (lid.176) knows by
three letters. A limit that cannot be meant is left out ("-") or clamped; `_BOUNDS` says which.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import yaml

# What the configurations call by the name of one member, and our tags by the macrolanguage's.
_MACRO = {
    "cmn": "zh", "arb": "ar", "ekk": "et", "lvs": "lv", "zsm": "ms", "pes": "fa", "plt": "mg", "khk": "mn", "npi": "ne",
    "ory": "or", "als": "sq", "swh": "sw", "uzn": "uz", "azj": "az", "ydd": "yi", "kmr": "ku", "pbt": "ps", "gaz": "om",
    "gug": "gn", "kpv": "kv", "quy": "qu", "ayr": "ay", "fuv": "ff", "knc": "kr",
}  # fmt: skip
_THREE = """
als arz ast azb bar bcl bh bpy bxr cbk ceb ckb dsb diq dty eml frr gom hif hsb ilo jbo kmr krc lez lmo lrc mai mhr min
mrj mwl mzn nah nap nds new pam pfl pms pnb rue sah scn sco tyv vec vep vls war wuu xal xmf yue tir tig
"""
# Scripts without spaces between words, where our words are runs of syllables: what counts words means nothing there.
_NO_SPACES = ("Thai", "Laoo", "Khmr", "Mymr", "Tibt")
# Column: lowest and highest limit kept, and from where on a limit cannot drop anything and is left out.
_BOUNDS = {
    "fineweb2_min_lang_score": (0.3, 0.9, None),
    "fineweb2_max_duplicate_line_count": (0.05, 1.0, 1.0),
    "fineweb2_min_punctuation_lines": (0.0, 0.5, 0.0),
    "fineweb2_max_newlines": (0.02, 1.0, 1.0),
    "fineweb2_min_mean_word_length": (0.0, 6.0, 0.0),
    "fineweb2_max_mean_word_length": (5.0, 40.0, None),
    "fineweb2_min_alpha_words": (0.0, 0.9, 0.0),
    **{f"fineweb2_max_top_{size}_gram": (0.05, 1.0, 1.0) for size in (2, 3, 4)},
    **{f"fineweb2_max_duplicate_{size}_grams": (0.05, 1.0, 1.0) for size in range(5, 11)},
}
# A character is a word here, so that word length means nothing and a word of theirs is about two of ours: the limits on
# runs of 2 and 5 words stand at runs of 4 and 10, the others are left out.
_CHARACTER_WORDS = ("Hani", "Jpan")
_RUNS = {"fineweb2_max_top_4_gram": "fineweb2_max_top_2_gram"} | {
    "fineweb2_max_duplicate_10_grams": "fineweb2_max_duplicate_5_grams"
}
_LINES = ("fineweb2_min_lang_score", "fineweb2_max_duplicate_line_count", "fineweb2_min_punctuation_lines")
_LENGTHS = ("fineweb2_min_mean_word_length", "fineweb2_max_mean_word_length")
# English is not part of FineWeb-2: FineWeb's limits and those of Gopher, which it applies.
_ENGLISH = [0.65, 0.3, 0.12, 0.3, 3, 10, 0.8, 0.2, 0.18, 0.16, 0.15, 0.14, 0.13, 0.12, 0.11, 0.1]


def main() -> None:
    """Print the table, one row a language and script, sorted by tag."""
    checkout, codes = Path(sys.argv[1]), Path(sys.argv[2])
    two = {row["alpha_3"]: row["alpha_2"] for row in json.loads(codes.read_text())["639-3"] if "alpha_2" in row}
    two |= _MACRO
    words: dict[str, int] = {}
    for row in csv.DictReader((checkout / "fineweb2-language-distribution.csv").open()):
        if row["split"] == "train" and row["words"].isdigit():
            words[row["subset"]] = int(row["words"])
    found: dict[str, list[str]] = {}
    for path in (checkout / "configs").glob("*.yml"):
        code = path.stem.split("_")[0]
        tag = two.get(code, code if code in _THREE.split() else "")
        if tag:
            found.setdefault(tag, []).append(path.stem)
    rows = {"en": ["en", "FineWeb", *(f"{value:g}" for value in _ENGLISH)]}
    for tag, stems in found.items():
        # the plain tag is the script with most text, the others are named by their script
        for place, stem in enumerate(sorted(stems, key=lambda stem: (-words.get(stem, 0), stem))):
            script = stem.split("_")[1]
            name = tag if place == 0 else f"{tag}-{script}"
            values = _limits(yaml.safe_load((checkout / "configs" / f"{stem}.yml").read_text()))
            rows[name] = [name, stem, *(_written(column, values, script) for column in _BOUNDS)]
    rows["no"] = ["no", *rows["nb"][1:]]  # what language identification calls Bokmål
    print("\t".join(["lang", "config", *_BOUNDS]))
    for name in sorted(rows):
        print("\t".join(rows[name]))


def _limits(config: dict[str, Any]) -> dict[str, float]:
    return {
        "fineweb2_min_lang_score": config["language_score"],
        "fineweb2_max_duplicate_line_count": config["dup_line_frac"],
        "fineweb2_min_punctuation_lines": config["line_punct_thr"],
        "fineweb2_max_newlines": config["new_line_ratio"],
        "fineweb2_min_mean_word_length": config["min_avg_word_length"],
        "fineweb2_max_mean_word_length": config["max_avg_word_length"],
        "fineweb2_min_alpha_words": config["max_non_alpha_words_ratio"],
        **{f"fineweb2_max_top_{size}_gram": limit for size, limit in config["top_n_grams"]},
        **{f"fineweb2_max_duplicate_{size}_grams": limit for size, limit in config["dup_n_grams"]},
    }


def _written(column: str, limits: dict[str, float], script: str) -> str:
    lowest, highest, idle = _BOUNDS[column]
    if script in _NO_SPACES and column not in _LINES:
        return "-"
    limit = limits[column]
    if script in _CHARACTER_WORDS:
        if column in _RUNS:
            limit = limits[_RUNS[column]]
        elif column in _LENGTHS or "gram" in column:
            return "-"
    if idle is not None and (limit >= idle if column.startswith("fineweb2_max") else limit <= idle):
        return "-"
    return f"{min(max(limit, lowest), highest):g}"


if __name__ == "__main__":
    main()
