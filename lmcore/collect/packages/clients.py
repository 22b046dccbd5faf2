"""Packages by name, through the clients a machine has: `pip download`, `apt-get download`, `npm pack`.

What was fetched is kept under `packages/` with its checksum in PACKAGES.tsv, and not fetched again. pip asks a package
that is source only for its metadata, which runs the build script of that package and nothing else.
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import sys
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from storage.atomic import fsync_path, write_text
from storage.digest import digest_file
from storage.errors import RunError

PACKAGES = "packages"
TABLE = "PACKAGES.tsv"
SECONDS = 1800.0  # for one package
_COLUMNS = ("client", "name", "version", "file", "bytes", "sha256")
# One wheel for all machines: only what lies in it is read.
_PIP = ("--only-binary", ":all:", "--platform", "manylinux_2_28_x86_64", "--implementation", "cp")
_PYTHON = ("--python-version", "3.11")


@dataclass(frozen=True)
class Package:
    """A package by name. Without a version it is the one that this machine's release has."""

    client: Literal["pip", "deb", "npm"]
    name: str
    version: str = ""
    source: bool = False  # of pip: the source package, which holds files that the wheel does not


@dataclass(frozen=True)
class Fetched:
    """A package that lies here."""

    client: str
    name: str
    version: str
    file: str
    bytes: int
    sha256: str

    @property
    def label(self) -> str:
        """As a table of samples names it."""
        return f"{self.client}:{self.name}={self.version}"


def fetch(package: Package, folder: Path) -> tuple[Fetched, Path, bool]:
    """(what it is, the file, whether it was fetched just now). Raises RunError when the client cannot give it."""
    known = _known(folder)
    row = known.get((package.client, package.name))
    if row and package.version in ("", row.version):
        path = folder / PACKAGES / row.file
        if path.is_file() and digest_file(path) == row.sha256:
            return row, path, False
    new = folder / PACKAGES / f".{package.client}-{package.name}.part"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        _run(package, new)
        files = sorted(path for path in new.iterdir() if path.is_file())
        if len(files) != 1:
            raise RunError(f"{package.client} gave {len(files)} files for {package.name}", "see what the client says")
        path = folder / PACKAGES / files[0].name
        size, digest = files[0].stat().st_size, digest_file(files[0])
        row = Fetched(package.client, package.name, _version(package, files[0].name), path.name, size, digest)
        files[0].replace(path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    known[package.client, package.name] = row
    _write(folder, known)
    return row, path, True


def _run(package: Package, folder: Path) -> None:
    pinned = f"{package.name}=={package.version}" if package.version else package.name
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", "."]
    commands = {
        "pip": [*pip, *(("--no-binary", ":all:") if package.source else (*_PIP, *_PYTHON)), pinned],
        "deb": ["apt-get", "-q", "download", package.name],
        "npm": ["npm", "pack", "--silent", "--ignore-scripts", pinned.replace("==", "@")],
    }
    command = commands[package.client]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError as error:
        raise RunError(f"there is no {command[0]} on this machine for {package.name}", "use one that has it") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{command[0]} took over {SECONDS:,.0f} s for {package.name}", "run it again") from error
    if done.returncode:
        said = [line for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        last = said[-1].strip()[:300] if said else f"exit code {done.returncode}"
        raise RunError(f"{command[0]} could not fetch {package.name}: {last}", "see that the registry is reachable")


def _version(package: Package, file: str) -> str:
    """The version that a file's name holds."""
    if package.client == "deb":
        return unquote(file).split("_")[1]
    if package.version:
        return package.version
    found = re.search(r"-(\d[^-]*?)(?:-.*\.whl|\.tar\.\w+|\.tgz|\.zip)$", file)
    return found[1] if found else "unknown"


def _known(folder: Path) -> dict[tuple[str, str], Fetched]:
    path = folder / TABLE
    if not path.is_file():
        return {}
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter="\t")
    found = [Fetched(**{**row, "bytes": int(row["bytes"])}) for row in rows]  # type: ignore[arg-type]
    return {(row.client, row.name): row for row in found}


def _write(folder: Path, known: dict[tuple[str, str], Fetched]) -> None:
    lines = ["\t".join(_COLUMNS), *("\t".join(map(str, astuple(known[key]))) for key in sorted(known))]
    write_text(folder / TABLE, "\n".join(lines) + "\n")
