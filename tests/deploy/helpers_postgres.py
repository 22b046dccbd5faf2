"""A PostgreSQL cluster of our own for the length of a test, from whatever binaries the machine has."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from helpers_deploy import free_port

PASSWORD = "elephants-never-forget"  # looked for afterwards where it must not be
USERS = ("postgres", "nobody")  # initdb refuses root


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl, the newest when there are several."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)


def why_not() -> str:
    """Why no cluster can be made here; empty when one can."""
    if binaries() is None:
        return "PostgreSQL is not installed (Debian: apt-get install postgresql)"
    if os.geteuid() == 0 and (_user() is None or not shutil.which("runuser")):
        return "initdb refuses root, and there is no runuser, or no user postgres or nobody, to be instead"
    return ""


def _user() -> pwd.struct_passwd | None:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in USERS if name in known), None)


class Postgres:
    """A running cluster on a free port of loopback, with one user `prefect` and one empty database `prefect`."""

    def __init__(self) -> None:
        found = binaries()
        assert found is not None
        self.bin = found
        self.folder = Path(tempfile.mkdtemp(prefix="collect-train-pg-", dir="/tmp"))  # one that another user may enter
        self.folder.chmod(0o755)
        secret = self.folder / "password"
        secret.write_text(PASSWORD + "\n")
        self.become = []
        if os.geteuid() == 0:
            user = _user()
            assert user is not None
            for path in (self.folder, secret):
                os.chown(path, user.pw_uid, user.pw_gid)
            self.become = ["runuser", "-u", user.pw_name, "--"]
        self.data = self.folder / "data"
        self.port = free_port()
        self._run(
            "initdb", "-D", self.data, "-U", "prefect", "--auth=scram-sha-256", f"--pwfile={secret}",
            "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off -c log_statement=none"
        self._run("pg_ctl", "start", "-w", "-D", self.data, "-l", self.folder / "log", "-o", settings)
        self._run("createdb", *self.where, "prefect")

    @property
    def url(self) -> str:
        """As Prefect wants it."""
        return f"postgresql+asyncpg://prefect:{PASSWORD}@127.0.0.1:{self.port}/prefect"

    @property
    def where(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "prefect"]

    def ask(self, sql: str) -> str:
        """The answer of one statement, unadorned."""
        return self._run("psql", *self.where, "-d", "prefect", "-At", "-c", sql).strip()

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", self.data)
        shutil.rmtree(self.folder)

    def _run(self, program: str, *args: str | Path) -> str:
        done = subprocess.run(
            [*self.become, self.bin / program, *args],
            env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD},
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{program}: {done.stdout}\n{self._log()}"
        return done.stdout

    def _log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""
