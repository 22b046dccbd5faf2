"""The SQLite file in which a source keeps what came over the network: kill -9 loses what was in flight, no more."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from lmcore.collect.politeness import Rules
from lmcore.progress import Report
from storage.errors import RunError, StorageError

_SHARED = """
create table about (format integer not null, settings text not null);
create table robots (origin text primary key, text text not null, refusal text not null, reason text not null);
"""


class DamagedError(Exception):
    """The file is none of this source with these settings; the message says why."""


class Database:
    """Opens or makes `path`. Only one thread may use it. Raises DamagedError for a file it cannot trust.

    A subclass gives its tables, and the number that changes with them.
    """

    FORMAT: ClassVar[int]
    SCHEMA: ClassVar[str]

    def __init__(self, path: Path, settings: str) -> None:
        self.path = path
        fresh = not path.exists() or path.stat().st_size == 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        try:
            self._db.execute("pragma journal_mode = wal")
            self._db.execute("pragma secure_delete = on")  # what is forgotten is overwritten
            # In WAL mode this survives the death of the process; a power cut may cost the last few pages.
            self._db.execute("pragma synchronous = normal")
            if fresh or not self._db.execute("select 1 from sqlite_master where name = 'about'").fetchone():
                with self._transaction():
                    for statement in (_SHARED + self.SCHEMA).split(";\n"):
                        self._db.execute(statement)
                    self._db.execute("insert into about values (?, ?)", (self.FORMAT, settings))
            self._check(settings)
        except sqlite3.DatabaseError as error:
            self._db.close()
            if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                raise disk_error(path, error) from error
            raise DamagedError(str(error)) from error
        except DamagedError:
            self._db.close()
            raise

    @classmethod
    def open(cls, path: Path, settings: str, report: Report) -> Self:
        """The database of `path`; a damaged one is set aside, a new one begun, and one line says so."""
        try:
            return cls(path, settings)
        except DamagedError as error:
            path.replace(path.with_name(f"{path.name}.damaged"))
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            report(0, None, f"{path.name} could not be continued ({error}): starting again")
            return cls(path, settings)

    def close(self) -> None:
        """Close the file; everything committed stays."""
        self._db.close()

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def save_robots(self, known: dict[str, Rules]) -> None:
        """Keep what robots.txt of each host says, so that a resumed collection does not ask again."""
        with self._transaction():
            self._db.executemany(
                "insert or replace into robots values (?, ?, ?, ?)",
                [(origin, rules.text, rules.refusal, rules.reason) for origin, rules in sorted(known.items())],
            )

    def robots(self) -> dict[str, Rules]:
        """What `save_robots` kept."""
        return {origin: Rules(*rest) for origin, *rest in self._all("select * from robots")}

    def _check(self, settings: str) -> None:
        verdict = self._one("pragma quick_check(1)")
        if verdict != "ok":
            raise DamagedError(str(verdict))
        if self._row("select format, settings from about") != (self.FORMAT, settings):
            raise DamagedError("it belongs to other settings")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("begin immediate")
            try:
                yield
                self._db.execute("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("rollback")
                raise

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if _is_damage(error):
                raise self._damaged(error) from error
            raise disk_error(self.path, error) from error
        except sqlite3.IntegrityError:
            raise
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: sqlite3.Error) -> RunError:
        return RunError(
            f"{self.path} is damaged: {error}",
            "run the same command again; a damaged file is set aside and collecting starts again",
        )

    def _all(self, query: str, *values: Any) -> Iterator[Any]:
        with self._errors():
            yield from self._db.execute(query, values)

    def _row(self, query: str, *values: Any) -> Any:
        with self._errors():
            return self._db.execute(query, values).fetchone()

    def _one(self, query: str, *values: Any) -> Any:
        return self._row(query, *values)[0]

    def _column(self, query: str, *values: Any) -> list[Any]:
        with self._errors():
            return [row[0] for row in self._db.execute(query, values)]


def _is_damage(error: sqlite3.Error) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("malformed", "not a database", "no such", "corrupt", "has no column"))


def disk_error(path: Path, error: sqlite3.Error) -> RunError:
    """What SQLite says of a disk that refuses, in our words; StorageError where it is the disk."""
    text = str(error).lower()
    if "full" in text or "disk i/o" in text:
        return StorageError(
            f"disk full while writing {path}",
            "free space; what was stored so far is kept, run the same command again",
        )
    if "readonly" in text or "unable to open" in text:
        return StorageError(f"cannot write {path}: {error}", "choose a writable store with --store DIR")
    return RunError(f"{path} cannot be used: {error}", "see that no other run uses it, run again")
