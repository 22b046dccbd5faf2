"""Fetch the packages of sets and make the sets of them: what is there already is left as it is.

DATA/packages/    what the clients fetched, with PACKAGES.tsv beside it
DATA/NAME.*       the sets, with SOURCES.tsv, the table that recipes look into
DATA/made.json    of which packages each set was made
"""

from __future__ import annotations

import contextlib
import difflib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from lmcore.collect.packages.clients import Fetched, fetch
from lmcore.collect.packages.sets import BY_NAME, SETS, Set
from lmcore.collect.packages.texts import tidied
from lmcore.collect.packages.trees import files_in
from lmcore.collect.packages.writing import described, write
from lmcore.collect.unpack import Unreadable
from lmcore.samples import TABLE, Listed, listed, table
from storage.atomic import disk_errors, remove_parts, write_json, write_text
from storage.digest import digest_file, digest_json
from storage.errors import CollectTrainError, RunError, UserError

VERSION = 1  # of how sets are made: another one makes them anew
MADE = "made.json"
_PRESET = 6  # of xz: the sets are many times the samples


def build(names: Sequence[str], folder: Path, tell: Callable[[str], None]) -> dict[str, Listed]:
    """Make the sets of these names, all where none is named, in `folder`; gives its table.

    Raises UserError for an unknown name, and RunError, after all others are made, that names the sets that could not
    be made and why.
    """
    chosen = [_set(name) for name in names] or list(SETS)
    folder = folder.absolute()
    problems = []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_parts(folder)
        rows = listed(folder) if (folder / TABLE).is_file() else {}
        made = _made(folder)
        for each in chosen:
            try:
                row, from_what = _one(each, folder, rows.get(each.name), made.get(each.name, ""), tell)
            except (CollectTrainError, Unreadable) as error:
                said = error.what if isinstance(error, CollectTrainError) else str(error)
                tell(f"{each.name}: not made: {said}")
                problems.append(f"{each.name} ({said})")
                continue
            rows[each.name], made[each.name] = row, from_what
            write_text(folder / TABLE, table(rows.values()))
            write_json(folder / MADE, made)
    if problems:
        raise RunError(
            f"{len(problems)} of {len(chosen)} sets could not be made: {'; '.join(problems)}",
            "run the same command again, or leave it: recipes read the samples of these names",
        )
    return rows


def _set(name: str) -> Set:
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, 1)
        raise UserError(
            f"there is no set {name!r}",
            (f"did you mean {near[0]}? " if near else "") + f"there are {', '.join(BY_NAME)}",
        )
    return BY_NAME[name]


def _one(each: Set, folder: Path, row: Listed | None, before: str, tell: Callable[[str], None]) -> tuple[Listed, str]:
    """(its row, the digest of what it is made of). Raises RunError and Unreadable."""
    packages: list[tuple[Fetched, Path]] = []
    for part in each.parts:
        fetched, package, new = fetch(part.package, folder)
        if new:
            tell(f"fetched {fetched.label}: {fetched.bytes / 1e6:.1f} MB")
        packages.append((fetched, package))
    path = folder / each.file
    from_what = digest_json([VERSION, each.file, [fetched.sha256 for fetched, _ in packages]])
    if row and before == from_what and path.is_file() and digest_file(path) == row.sha256:
        tell(f"{each.name}: there already")
        return row, from_what
    work = folder / ".work"
    shutil.rmtree(work, ignore_errors=True)
    try:
        with contextlib.ExitStack() as stack:
            members = []
            for number, (part, (_, package)) in enumerate(zip(each.parts, packages, strict=True)):
                found = stack.enter_context(files_in(package, work / str(number), part.wants))
                if not found:
                    raise Unreadable("no_text", f"{package.name} holds nothing called {', '.join(part.patterns)}")
                members.append(found)
            write(path, tidied(each.make(members), drop_personal=each.drop_personal), _PRESET)
        row = described(each, path, " ".join(fetched.label for fetched, _ in packages), work / "read")
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # not of the form that it had
        raise Unreadable("damaged", f"a package has another form now: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tell(f"{each.name}: {row.records:,} records, {row.bytes / 1e6:.1f} MB of text, {row.licence}")
    return row, from_what


def _made(folder: Path) -> dict[str, str]:
    """Of what each set was made; nothing where the file is not there or no good, so that all are made anew."""
    try:
        value = json.loads((folder / MADE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, dict) else {}
