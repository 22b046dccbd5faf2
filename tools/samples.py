"""Rebuild the samples that come with the program from fetched sets, and the table of them in docs/samples.md.

    python tools/samples.py DATA          write lmcore/samples/ from what `collect-train data --to DATA` made
    python tools/samples.py --docs        only write the table in docs/samples.md and lmcore/samples/README.md

Which rows are taken is decided by their digests, so the same sets give the same files.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from lmcore.collect.packages.sets import SETS, Set
from lmcore.collect.packages.texts import Row
from lmcore.collect.packages.writing import described, read, write
from lmcore.samples import FOLDER, TABLE, Listed, listed, table
from storage.atomic import write_text
from storage.digest import canonical_json

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "samples.md"
README = "README.md"
BEGIN, END = "<!-- table: tools/samples.py writes it -->", "<!-- end of table -->"
PRESET = 9 | lzma.PRESET_EXTREME
LARGEST_SHARE = 0.04  # of a sample that one row may be


def pick(each: Set, rows: Iterable[Row]) -> list[Row]:
    """The rows of a set that its sample holds, in the set's order."""
    if each.only:
        return [row for row in rows if row["name"] in each.only]
    groups: dict[str, list[tuple[int, Row]]] = {}
    for number, row in enumerate(rows):
        # questions about one paragraph stay together: it is said once in the file for all of them
        groups.setdefault(_digest(row.get("context") or canonical_json(row)), []).append((number, row))
    taken: list[tuple[int, Row]] = []
    left = each.sample
    for digest in sorted(groups):
        size = sum(len(canonical_json(row).encode()) for _, row in groups[digest])
        if size <= each.sample * LARGEST_SHARE and size <= left:
            taken += groups[digest]
            left -= size
    return [row for _, row in sorted(taken, key=lambda pair: pair[0])]


def rebuild(data: Path, target: Path) -> list[Listed]:
    """Write the samples of every set that `data` has into `target`, with their table. Raises UserError without one."""
    fetched = listed(data)
    rows = []
    work = target / ".work"
    for each in SETS:
        if each.name not in fetched:
            print(f"{each.name}: not in {data}, left out", file=sys.stderr)
            continue
        path = target / each.file
        write(path, pick(each, read(data / each.file)), PRESET)
        rows.append(described(each, path, fetched[each.name].packages, work))
    shutil.rmtree(work, ignore_errors=True)
    write_text(target / TABLE, table(rows))
    return rows


def readme(rows: Iterable[Listed]) -> str:
    """The page beside the samples: whose texts they are, as their licences ask."""
    lines = [
        "# Samples",
        "",
        "Small real texts that come with the program. Each is under the licence named here and in SOURCES.tsv, not",
        "under the program's own; the licences that must go with them are in `licences/`. docs/samples.md says how",
        "they are used. `tools/samples.py` writes this page.",
        "",
    ]
    by_name = {each.name: each for each in SETS}
    for row in rows:
        lines += [f"## {row.name}", "", f"{row.licence} ({row.licence_source}). {by_name[row.name].attribution}"]
        lines += [f"Taken from {row.packages.replace(' ', ', ')}; a part of it, with copies left out.", ""]
    return "\n".join(lines[:-1]) + "\n"


def docs_table(rows: Iterable[Listed]) -> str:
    """The table of docs/samples.md."""
    lines = ["| name | kind | text | language | records | text MB | file kB | licence | package |", "|---" * 9 + "|"]
    lines += [
        f"| `{row.name}` | `{row.reads}` | {row.kind} | {row.languages} | {row.records:,} | {row.bytes / 1e6:.2f} "
        f"| {row.packed / 1e3:,.0f} | {row.licence} | {row.packages.replace(' ', ', ')} |"
        for row in rows
    ]
    whole = list(rows)
    lines.append(
        f"| together | | | | {sum(row.records for row in whole):,} | {sum(row.bytes for row in whole) / 1e6:.2f} "
        f"| {sum(row.packed for row in whole) / 1e3:,.0f} | | |"
    )
    return "\n".join(lines)


def write_pages() -> None:
    """Write both pages anew from the table of the samples."""
    rows = list(listed(FOLDER).values())
    write_text(FOLDER / README, readme(rows))
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n{docs_table(rows)}\n{END}{rest.split(END)[1]}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path)
    parser.add_argument("--docs", action="store_true")
    given = parser.parse_args()
    if given.data:
        for row in rebuild(given.data, FOLDER):
            print(f"{row.name}: {row.records:,} records, {row.packed / 1e3:,.0f} kB")
    if given.data or given.docs:
        write_pages()
    else:
        parser.error("name the folder of the fetched sets, or --docs")


if __name__ == "__main__":
    main()
