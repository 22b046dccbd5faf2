"""The releases of each recipe and its champion, a name that moves by compare-and-swap.

    <store>/registry/<recipe>.json
    {"format": 1, "version": 7, "champion": 2, "withdrawn": [3],
     "releases": [{"number": 1, "release_key": ..., "model_key": ..., "bits_per_byte": ..., ...}, ...],
     "history": [{"champion": 1, "when": "2026-01-02T03:04:05+00:00", "why": ...}, ...]}

Writers take a lock, read, decide and replace the file in one rename; readers need no lock. A process killed at any
instant leaves the old registry or the new one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.atomic import disk_errors, fault, write_json
from storage.errors import RunError, UserError
from storage.locks import file_lock

FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class RegistryMoved(RunError):
    """Another run moved the champion since this one looked."""


class ReleaseWithdrawn(RunError):
    """The release was rolled back; only an explicit rollback to it makes it champion again."""


@dataclass(frozen=True)
class Release:
    """One released (or refused) model. The keys name artifacts of the store; digests are content digests."""

    number: int
    release_key: str
    digest: str  # of the release artifact: recording the same one twice gives one release
    model_key: str
    model_digest: str
    export_key: str | None
    bits_per_byte: float | None  # on the held-out pages the decision was made by
    decided: str  # ISO 8601, UTC
    promoted: bool  # has been champion
    reason: str

    def model_path(self, store_root: Path | str) -> Path:
        """The folder of its train artifact."""
        return Path(store_root) / "train" / self.model_key


class Move(BaseModel):
    """One move of the champion."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    champion: int | None
    when: str
    why: str


class RegistryState(BaseModel):
    """What a registry file holds. `version` counts the writes."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: int = FORMAT
    version: int = 0
    releases: tuple[Release, ...] = ()
    champion: int | None = None
    history: tuple[Move, ...] = ()
    withdrawn: tuple[int, ...] = ()

    def release(self, number: int) -> Release | None:
        """The release with this number, if any."""
        return next((release for release in self.releases if release.number == number), None)


class Registry:
    """The registry of one store."""

    def __init__(self, store_root: Path | str) -> None:
        self.root = Path(store_root)
        self.folder = self.root / "registry"

    def names(self) -> list[str]:
        """Every recipe that has releases, in order."""
        return sorted(p.stem for p in self.folder.glob("*.json") if _NAME.fullmatch(p.stem))

    def read(self, name: str) -> RegistryState:
        """The state of a recipe, empty when nothing was released yet.

        Raises UserError for a name that cannot be one, RunError for a damaged file.
        """
        path = self._path(name)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return RegistryState()
        try:
            state = RegistryState.model_validate_json(text)
        except ValidationError as error:
            raise RunError(
                f"the registry {path} is damaged: {str(error).splitlines()[0]}",
                "restore it from a backup, or move it away; the models and release artifacts themselves are not in it",
            ) from error
        if state.format != FORMAT:
            raise RunError(
                f"the registry {path} has format {state.format}, this program reads {FORMAT}",
                "use the version of collect-train that wrote it",
            )
        return state

    def champion(self, name: str) -> Release | None:
        """The release in use, None while there is none."""
        state = self.read(name)
        return None if state.champion is None else _of(state, name, state.champion)

    def check(self, name: str, digest: str, *, expected: int | None) -> None:
        """Raises RegistryMoved when a release that is not on record yet has been compared with no champion of today."""
        state = self.read(name)
        if not _by_digest(state, digest):
            _expect(state, name, expected)

    def record(
        self,
        name: str,
        *,
        release_key: str,
        digest: str,
        model_key: str,
        model_digest: str,
        export_key: str | None,
        bits_per_byte: float | None,
        reason: str,
    ) -> Release:
        """Write a release down, promoted by nobody yet. A digest that is already there gives that release back."""

        def add(state: RegistryState) -> RegistryState:
            if _by_digest(state, digest):
                return state
            release = Release(
                number=max((release.number for release in state.releases), default=0) + 1,
                release_key=release_key,
                digest=digest,
                model_key=model_key,
                model_digest=model_digest,
                export_key=export_key,
                bits_per_byte=bits_per_byte,
                decided=_now(),
                promoted=False,
                reason=reason,
            )
            return state.model_copy(update={"releases": (*state.releases, release)})

        found = _by_digest(self._change(name, add), digest)
        assert found is not None
        return found

    def promote(self, name: str, number: int, *, expected: int | None, why: str = "") -> Release:
        """Make a release the champion if the champion still is `expected`; nothing to do when it already is.

        Raises RegistryMoved when it is another one, ReleaseWithdrawn when its model was rolled back (under this or
        another number), UserError for an unknown number.
        """

        def move(state: RegistryState) -> RegistryState:
            release = _of(state, name, number)
            if state.champion == number:
                return state
            rolled_back = {r.model_digest for r in state.releases if r.number in state.withdrawn}
            if release.model_digest in rolled_back:
                raise ReleaseWithdrawn(
                    f"release {name}@{number} was rolled back and is not promoted again by itself",
                    f"to use it after all: `collect-train rollback {name} --to {number}`",
                )
            _expect(state, name, expected)
            return _moved(state, release, why or release.reason)

        return _of(self._change(name, move), name, number)

    def rollback(self, name: str, to: int | None = None, *, why: str) -> Release:
        """Go back to an earlier champion: the last one before today's, or release `to`.

        Releases promoted after the target are withdrawn, so that no rerun brings them back; the target itself is no
        longer withdrawn. Raises UserError when there is nothing to go back to or `to` was never promoted.
        """

        def back(state: RegistryState) -> RegistryState:
            self._check_known(state, name)
            target = _target(state, name, to)
            if target.number == state.champion:
                return state
            order = _order(state)
            later = order[order.index(target.number) + 1 :]
            same = {release.number for release in state.releases if release.model_digest == target.model_digest}
            withdrawn = tuple(sorted({*later, *state.withdrawn} - same))
            return _moved(state.model_copy(update={"withdrawn": withdrawn}), target, why)

        found = _now_champion(self._change(name, back))
        assert found is not None
        return found

    def resolve(self, reference: str) -> Release:
        """The release meant by NAME (its champion) or NAME@NUMBER. Raises UserError naming what there is."""
        name, at, number = reference.partition("@")
        state = self.read(name)
        self._check_known(state, name)
        if not at:
            found = _now_champion(state)
            if found is None:
                raise UserError(
                    f"{name} has {len(state.releases)} releases and none was promoted",
                    f"name one, for example {name}@{state.releases[-1].number}; `collect-train releases` lists them",
                )
            return found
        if not number.isascii() or not number.isdigit():
            raise UserError(
                f"{reference!r} names no release: {number!r} is not a number", f"write {name} or {name}@NUMBER"
            )
        return _of(state, name, int(number[:18]))

    def _check_known(self, state: RegistryState, name: str) -> None:
        """Raises UserError with the nearest name when nothing was ever released under `name`."""
        if not state.releases:
            names = self.names()
            near = difflib.get_close_matches(name, names, 1)
            mend = f"did you mean {near[0]}? " if near else ""
            there = f"releases exist of: {', '.join(names)}" if names else "run a recipe to its end first"
            raise UserError(f"there is no release of {name!r} in {self.root}", mend + there)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UserError(
                f"{name[:100]!r} cannot be the name of a release",
                "names have letters, digits, dots, dashes and underscores, begin with a letter or digit, and are at "
                "most 100 long",
            )
        return self.folder / f"{name}.json"

    def _change(self, name: str, change: Callable[[RegistryState], RegistryState]) -> RegistryState:
        """Apply `change` to the newest state under the lock; an unchanged state is not written."""
        path = self._path(name)
        with file_lock(self.root / ".locks" / f"registry-{name}"):
            old = self.read(name)
            new = change(old)
            if new is old:
                return old
            new = new.model_copy(update={"version": old.version + 1})
            fault("registry.before-write")
            with disk_errors(path):
                write_json(path, new.model_dump(mode="json"))
            fault("registry.after-write")
            return new


def _by_digest(state: RegistryState, digest: str) -> Release | None:
    return next((release for release in state.releases if release.digest == digest), None)


def _now_champion(state: RegistryState) -> Release | None:
    return None if state.champion is None else state.release(state.champion)


def _expect(state: RegistryState, name: str, champion: int | None) -> None:
    if state.champion != champion:
        raise RegistryMoved(
            f"the champion of {name} is {_label(state.champion)}, not {_label(champion)}: another run moved it",
            "run again; the new release is then compared with the new champion",
        )


def _of(state: RegistryState, name: str, number: int) -> Release:
    found = state.release(number)
    if found is None:
        numbers = ", ".join(str(release.number) for release in state.releases[-20:]) or "none"
        raise UserError(f"there is no release {name}@{number}", f"the releases of {name} are: {numbers}")
    return found


def _target(state: RegistryState, name: str, to: int | None) -> Release:
    if to is not None:
        release = _of(state, name, to)
        if not release.promoted:
            raise UserError(
                f"release {name}@{to} was never promoted: {release.reason}",
                "roll back to one that was champion; `collect-train releases` lists them",
            )
        return release
    order = _order(state)
    before = order[: order.index(state.champion)] if state.champion is not None else []
    for number in reversed(before):
        if number not in state.withdrawn:
            return _of(state, name, number)
    raise UserError(
        f"{name} has no earlier champion to go back to (now: {_label(state.champion)})",
        f"name a release: `collect-train rollback {name} --to NUMBER`",
    )


def _order(state: RegistryState) -> list[int]:
    """Numbers of all champions there were, in the order in which each was first promoted."""
    return list(dict.fromkeys(move.champion for move in state.history if move.champion is not None))


def _moved(state: RegistryState, release: Release, why: str) -> RegistryState:
    releases = tuple(replace(r, promoted=True) if r.number == release.number else r for r in state.releases)
    move = Move(champion=release.number, when=_now(), why=why)
    return state.model_copy(
        update={"releases": releases, "champion": release.number, "history": (*state.history, move)}
    )


def _label(number: int | None) -> str:
    return "none" if number is None else f"release {number}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
