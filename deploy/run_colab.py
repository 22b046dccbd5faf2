"""Train a recipe in a notebook with one file and one command: install, run without a server, write the model's files.

    !python run_colab.py --source https://HOST/collect_train-0.1.0-py3-none-any.whl --folder /content/drive/MyDrive/mu
    !python run_colab.py mu-small --source PATH_OR_GIT_URL --folder DIR --set train.epochs=1

Everything is kept in the folder: `store/` with every finished step and the checkpoints of the one under way, `files/`
with what the document of the recipe's system names. After a disconnect the same command goes on from the last
checkpoint; once it is done it has nothing left to do. No Prefect server is needed: the run starts a small one of its
own. The number format is the run's choice: bf16, or fp16 with a loss scale on GPUs that have no bf16.

This file needs nothing but Python 3.11 or later, pip and, for `--source git+https://...`, git.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RECIPE = "mu-small"
USABLE = "import flows.cli"


def main() -> int:
    """Install what is missing, run the recipe, write its files; gives the exit code of what failed, else 0."""
    wanted = _parse(sys.argv[1:])
    # Beside this file there are modules that are not to be taken for those of libraries.
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]
    if (wanted.reinstall or not _usable()) and ((code := _install(wanted.source)) or not _usable()):
        return code or 1
    os.environ.pop("PREFECT_API_URL", None)  # a server that is configured may not be there after a disconnect
    folder = wanted.folder.expanduser().resolve()
    store, sets = str(folder / "store"), [word for value in wanted.set for word in ("--set", value)]
    if code := _collect_train("run", wanted.recipe, *sets, "--store", store):
        print("what is done is kept; run the same command again to go on", file=sys.stderr)
        return code
    from lmcore.export.layouts import system_of
    from lmcore.recipe import load_recipe

    name = load_recipe(wanted.recipe, wanted.set).name
    if system_of(name) is None:
        print(f"no document says which files a model of {name} has: it is in {store}")
        return 0
    to = ("--layout", "document", "--output", str(folder / "files"))
    return _collect_train("export", name, *to, "--store", store)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_colab.py", description=(__doc__ or "").partition("\n")[0])
    here = Path(__file__).resolve().parents[1]
    own = str(here) if (here / "pyproject.toml").is_file() else ""
    parser.add_argument("recipe", nargs="?", default=RECIPE, help=f"a packaged recipe or a YAML file [{RECIPE}]")
    parser.add_argument("--folder", type=Path, default=Path("collect-train"), help="what outlives the machine")
    parser.add_argument(
        "--source", default=own, help="what pip installs: a folder, a wheel, a URL [the folder this file is in]"
    )
    parser.add_argument("--reinstall", action="store_true", help="install also when it can be used already")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a setting; may be repeated"
    )
    return parser.parse_args(arguments)


def _usable() -> bool:
    """Whether the project can be used with all it needs, asked in a process that knows what was just installed."""
    importlib.invalidate_caches()
    # -P: not from the folder that the notebook is in.
    return subprocess.run([sys.executable, "-P", "-c", USABLE], capture_output=True, check=False).returncode == 0


def _install(source: str) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - pip would say so in worse words
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"error: this is Python {version}\n  to mend: take a machine with 3.11 or later", file=sys.stderr)
        return 2
    if not source:
        print(
            "error: collect-train is not installed here, and nothing says where it is\n"
            "  to mend: name its folder, wheel or URL with --source",
            file=sys.stderr,
        )
        return 2
    print(f"installing {source}", flush=True)
    code = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", source], check=False).returncode
    if code:
        print("error: pip could not install it\n  to mend: see what it said above", file=sys.stderr)
    elif not _usable():
        print("error: what was installed cannot be used\n  to mend: restart the notebook's runtime", file=sys.stderr)
    return code


def _collect_train(*arguments: str) -> int:
    """A command of collect-train in this very process: who kills this one kills the run, and nothing is left behind."""
    from flows.cli import main as command

    sys.argv = ["collect-train", *arguments]
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
