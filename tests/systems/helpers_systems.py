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
        """What a command of a document gives, in the folder, on the small recipes; `check_answer` looks at it."""
        words = shlex.split(small(command))
        assert words[0] == "collect-train", command
        done = collect(*words[1:], env=self.env, cwd=self.folder)
        check_answer(words[1:], done, self.folder)
        return done


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
    added = {"run": SHORT, "generate": ("--seed", "0")}.get(told.split()[1], ())
    return shlex.join([told, *added]).replace(shlex.quote(told), told, 1)


def check_answer(words: list[str], done: Done, folder: Path) -> None:
    """Fails unless a command (without `collect-train`) said or left what one types it for."""
    where, out = f"{shlex.join(words)}:\n{done.out}\n{done.err}", done.out
    assert "Traceback" not in out + done.err, where
    assert out.strip(), where
    if "--help" in words:
        assert all(word in out for word in ("Usage: ", "--help", words[0])), where
        return
    if words[0] == "run":
        last = _value(words, "--until") or "release"
        assert re.search(rf"^[✓=] {last}\b", out, re.MULTILINE), where  # built, or used again
    elif words[0] in ("export", "export-tokens"):
        _check_files(words, out, folder, where)
    elif words[0] == "generate":
        prompt = _prompt(words)
        assert out.startswith(prompt), where
        assert out.removeprefix(prompt).strip(), where
    elif words[0] == "sql":
        assert re.search(r"^[1-9][\d,]* rows?$", out, re.MULTILINE), where
    elif words[0] == "card" and _value(words, "--out"):
        assert "<html" in (folder / _value(words, "--out")).read_text(encoding="utf-8"), where
    assert re.search(SAYS.get(words[0], r"\w"), out), where


SAYS = {  # a pattern that the output of a command has
    "run": r"next:|reached|\d",
    "params": r"\b\d{1,3}(,\d{3})+\b",  # parameters
    "info": r"parameters[^\n]*\b\d{1,3}(,\d{3})+\b",
    "chat": r"/quit",
    "logs": r"attempt 1 at run",
    "watch": r"attempt 1 at run",
    "status": r"release|champion|run ",
    "releases": r"@1\b",
    "verify": r"\b0 damaged",
    "autosize": r"d_model: \d+",
    "stats": r"unique",
    "card": r"collected → [\d,]+ unique",
}


def _value(words: list[str], option: str) -> str:
    """The value of an option; empty where it is not given."""
    return words[words.index(option) + 1] if option in words else ""


def _prompt(words: list[str]) -> str:
    """The text that `generate` was given to continue, which it prints first; none for a translation."""
    if "--translate" in words:
        return ""
    texts = [word for at, word in enumerate(words[1:], 1) if word[:1] != "-" and words[at - 1][:2] != "--"]
    return texts[-1]


def _check_files(words: list[str], out: str, folder: Path, where: str) -> None:
    """Fails unless each file that an export named is there, of the length that it said, in the folder it was told."""
    told = re.findall(r"^(\S+): .*?([\d,]+)\s+bytes", out, re.MULTILINE | re.DOTALL)
    named = [(folder / name, int(size.replace(",", ""))) for name, size in told]
    assert named, where
    assert all(path.stat().st_size == size for path, size in named), where
    wanted = folder / (_value(words, "--output") or _value(words, "--out") or words[-1])
    assert all(wanted == path or wanted in path.parents for path, _ in named), where


def commands(system: str) -> list[str]:
    """The commands on the right side of a system's table in docs/from-the-documents.md, in order, each once.

    Those with `(server)` behind them are left out: they go on until they are stopped.
    """
    page = (DOCS / "from-the-documents.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(system)}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    cells = [re.split(r"(?<!\\)\|", line) for line in section.splitlines() if line.startswith("|")]
    right = [row[2] for row in cells if len(row) > 3]
    return list(dict.fromkeys(c for cell in right for c in re.findall(r"`(collect-train [^`]+)`(?! \(server\))", cell)))
