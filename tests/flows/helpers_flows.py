"""A tiny recipe against the frozen site, the real command line in a process of its own, and what a store holds."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml
from frozen_site import FrozenSite

from storage.atomic import FAULT_VARIABLE
from storage.store import STAGES, VARIABLE, Store

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 280.0  # seconds one command may take on a machine that others use too
MARK = "COLLECT_TRAIN_TEST_MARK"  # every process that a run leaves behind carries it in its environment
STEPS = 24
# readline, which pytest loads, exports LINES and COLUMNS
NOT_INHERITED = (FAULT_VARIABLE, VARIABLE, MARK, "COLUMNS", "LINES", "FORCE_COLOR")
PREFECT_HOME = tempfile.mkdtemp(prefix="collect-train-prefect-home-")  # not the user's own
atexit.register(shutil.rmtree, PREFECT_HOME, ignore_errors=True)

RECIPE = {
    "name": "tiny",
    "description": "A few frozen pages, a few steps",
    "curate": {
        "split": {"val": 0.15, "test": 0.15},
        "gates": {"min_documents": 5, "min_train_bytes": 10_000, "min_unique_word_ratio": 0},
    },
    "tokenizer": {"vocab_size": 400, "cap": True},
    "model": {"n_layers": 1, "d_model": 32, "n_heads": 2, "context": 32},
    "train": {
        "steps": STEPS,
        "batch": 4,
        "micro_batch": 2,
        "precision": "fp32",
        "attention": "sdpa",
        "optimizer": "adamw",
        "prompts": ["The"],
    },
    "evaluate": {"max_bytes": 20_000, "bootstrap_draws": 100, "ngram_order": 3, "prompts": ["The"]},
    "export": {"prompts": ["The", "x = [1, 2.5]"], "greedy_tokens": 4},
    "runtime": {
        "tokenizer": {"workers": 1},
        "tokens": {"workers": 1},
        "train": {
            "device": "cpu",
            "threads": 1,
            "compile": "off",
            "save_every_steps": 4,
            "sample_at": [0.0, 1.0],
            "sample_tokens": 8,
            "validate_every": 0.5,
            "validation_tokens": 1_000,
        },
        "evaluate": {"device": "cpu", "threads": 1},
        "export": {"threads": 1},
    },
}


def frozen_site() -> FrozenSite:
    """The frozen site on the first free port of a few.

    Pages are dealt to the splits by their URLs, which the port is part of: an arbitrary one might leave no page
    for the test. Below the range that the kernel gives to clients, these are rarely taken.
    """
    for port in range(18_230, 18_240):
        with contextlib.suppress(OSError):
            return FrozenSite(port=port)
    raise AssertionError("ports 18230 to 18239 are all taken")


def web_source(url: str, **changes) -> dict:
    """The frozen site (or another one at `url`) as a source: its first 30 pages by (depth, URL)."""
    source = {
        "name": "frozen", "kind": "web", "seeds": [url + "/"], "lang": "en", "license": "PSF-2.0",
        "delay": 0, "retries": 1, "timeout": 30, "max_pages": 30, "min_chars": 100,
    }  # fmt: skip
    return source | changes


def write_recipe(folder: Path, *sources: dict, name: str = "tiny.yaml", **sections) -> str:
    """Write the tiny recipe with these sources, sections merged one level deep; gives its path."""
    recipe = RECIPE | {"sources": list(sources)}
    for section, values in sections.items():
        recipe[section] = {**recipe.get(section, {}), **values} if isinstance(values, dict) else values
    path = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return str(path)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def error(self) -> tuple[str, str]:
        """What it says went wrong, and how to mend it; fails unless these two lines are all it says on stderr."""
        lines = self.err.rstrip("\n").splitlines()
        assert len(lines) == 2, f"exit code {self.code}, and not two lines of error:\n{self.out}\n{self.err}"
        assert lines[0].startswith("error: "), self.err
        assert lines[1].startswith("  to mend: "), self.err
        return lines[0].removeprefix("error: "), lines[1].removeprefix("  to mend: ")


def environment(**changes: str) -> dict[str, str]:
    """The environment of a command: nothing of Prefect's or ours is inherited, one thread, wide lines."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PREFECT_") and name not in NOT_INHERITED
    }
    ours = {"OMP_NUM_THREADS": "1", "COLUMNS": "240", "DO_NOT_TRACK": "1", "PREFECT_HOME": PREFECT_HOME}
    return kept | ours | changes


def start(*args: str, store: Path | str = "", env: dict[str, str] | None = None, **options) -> subprocess.Popen[str]:
    """Start `collect-train ARGS --store STORE` as a process of its own."""
    command = [sys.executable, "-m", "flows.cli", *args, *(["--store", str(store)] if store else [])]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment(**(env or {})), text=True, **{"cwd": ROOT, **pipes, **options})


def finish(process: subprocess.Popen[str], stdin: str | None = None, patience: float = PATIENCE) -> Done:
    """Wait for a command."""
    began = time.monotonic()
    try:
        out, err = process.communicate(stdin, timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the command did not end in {patience:.0f} s:\n{out}\n{err}") from None
    return Done(process.returncode, out, err, time.monotonic() - began)


def collect(
    *args: str,
    store: Path | str = "",
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    code: int | None = 0,
) -> Done:
    """Run `collect-train ARGS` to its end; fails when its exit code is not `code` (None: any)."""
    options = {} if stdin is None else {"stdin": subprocess.PIPE}
    done = finish(start(*args, store=store, env=env, **options), stdin)
    assert code is None or done.code == code, f"exit code {done.code}, not {code}:\n{done.out}\n{done.err}"
    return done


def digests(store: Path | str) -> dict[str, list[str]]:
    """Content digests of a store by stage."""
    shelf = Store(store)
    return {stage: sorted(a.digest for a in shelf.readable(stage)) for stage in STAGES}


def states(done: Done) -> dict[str, str]:
    """How each stage of a run ended, from the lines it printed; the champion's evaluation, which comes second, is
    left out."""
    found = {}
    for line in done.out.splitlines():
        words = line.split()
        if len(words) > 2 and words[0] in ("✓", "=", "✗"):
            found.setdefault(words[1], next(w for w in words if w in ("Completed", "Reused", "Failed", "Stopped")))
    return found


def bytes_and_times(store: Path) -> dict[str, tuple[int, int]]:
    """Size and time of the last change of every file of every artifact."""
    files = (path for stage in STAGES for path in (store / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(store)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def unfinished(store: Path) -> list[str]:
    """Names of what is left of unfinished work."""
    return sorted(path.name for path in (Path(store) / ".work").glob("*"))


def marked(mark: str) -> list[str]:
    """Command lines of living processes that inherited `mark` from a command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(" ".join(process.cmdline()))
    return found


@contextlib.contextmanager
def prefect_server(folder: Path):
    """A Prefect server that several runs share, to save each the start of its own; gives its API's URL."""
    from flows.embedded import server

    folder.mkdir(parents=True, exist_ok=True)
    with server(folder) as running:
        yield running.url
