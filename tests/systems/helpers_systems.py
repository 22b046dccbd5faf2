"""A system's small recipe, shortened, run once for all tests of a file; and what its document's commands are here."""

from __future__ import annotations

import csv
import io
import re
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from helpers_flows import ROOT, Done, finish, start

from lmcore.recipe import packaged_recipes

DOCS = ROOT / "docs"
SHORT = ("--set", "train.steps=20")
PATIENCE = 840.0  # seconds a whole run may take on a machine that others use too
SAID = "\n".join(["/help", "/quit", ""])  # to a command that asks


@dataclass(frozen=True)
class SmallRun:
    """A store in which a small recipe, shortened, was run to its release."""

    recipe: str
    store: Path
    folder: Path  # where commands write
    env: dict[str, str] = field(repr=False)
    done: Done = field(repr=False)

    def collect(self, *args: str, code: int | None = 0) -> Done:
        """Run `collect-train ARGS` on this store."""
        return collect(*args, env=self.env, code=code)

    def run(self, recipe: str, *args: str) -> Done:
        """Run another small recipe, shortened, in this store."""
        return self.collect("run", recipe, *SHORT, *args)

    def type(self, command: str) -> Done:
        """What a command of a document gives, in the folder, on the small recipes."""
        words = shlex.split(small(command))
        assert words[0] == "collect-train", command
        return collect(*words[1:], env=self.env, cwd=self.folder)


def collect(*args: str, env: dict[str, str], code: int | None = 0, **options) -> Done:
    """Run `collect-train ARGS` to its end; fails when its exit code is not `code` (None: any)."""
    done = finish(start(*args, env=env, stdin=subprocess.PIPE, **options), SAID, PATIENCE)
    assert code is None or done.code == code, f"{shlex.join(args)}: exit code {done.code}\n{done.out}\n{done.err}"
    return done


def asked(run: SmallRun, query: str) -> list[SimpleNamespace]:
    """Rows of `collect-train sql`."""
    printed = run.collect("sql", query, "--csv").out
    return [SimpleNamespace(**row) for row in csv.DictReader(io.StringIO(printed))]


def small(command: str) -> str:
    """A command as it is on small recipes: `run soma` becomes `run soma-small --set train.steps=20`."""
    names = packaged_recipes()
    words = re.split(r"(\s+|[@/:=])", command)
    told = "".join(f"{word}-small" if word in names and f"{word}-small" in names else word for word in words)
    return f"{told} {shlex.join(SHORT)}" if told.split()[1:2] == ["run"] else told


def commands(system: str) -> list[str]:
    """The commands on the right side of a system's table in docs/from-the-documents.md, in order, each once.

    Those with `(server)` behind them are left out: they go on until they are stopped.
    """
    page = (DOCS / "from-the-documents.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(system)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    cells = [re.split(r"(?<!\\)\|", line) for line in section.splitlines() if line.startswith("|")]
    right = [row[2] for row in cells if len(row) > 3]
    return list(dict.fromkeys(c for cell in right for c in re.findall(r"`(collect-train [^`]+)`(?! \(server\))", cell)))
