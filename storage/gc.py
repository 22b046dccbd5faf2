"""What of a store may go, and making it go: nobody knows here why something is wanted, only what follows from that.

An artifact stays when it is a root, when it was needed to build one that stays, or when it is younger than an hour:
a run that has just begun may be about to use it. Everything that goes is first renamed into `<store>/.gone/`, in one
instant, so that a kill leaves whole artifacts and a folder that the next time is emptied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from storage.atomic import disk_errors, fault, fsync_path
from storage.errors import RunError
from storage.locks import Locked, file_lock, holder
from storage.manifest import MANIFEST, InputEntry, Manifest
from storage.rewrite import FOLDER as REWRITE
from storage.store import STAGES, Artifact, Store

YOUNG_SECONDS = 3600.0
GONE = ".gone"
Name = tuple[str, str]  # stage and key


@dataclass(frozen=True)
class Verdict:
    """What becomes of one artifact."""

    stage: str
    key: str
    path: Path
    size: int  # bytes of all its files
    age: float  # seconds since it was finished
    why: str
    goes: bool


@dataclass(frozen=True)
class Leftover:
    """Something that is no artifact and that nobody comes back for."""

    path: Path
    size: int
    age: float  # seconds since anything in it changed
    why: str
    lock: Path | None = None  # of the key it is work on


@dataclass(frozen=True)
class Sweep:
    """Everything that was looked at."""

    verdicts: tuple[Verdict, ...]  # in order of stage and key
    leftovers: tuple[Leftover, ...]


def judge(
    store: Store,
    roots: Mapping[Name, str],
    needs: Callable[[Artifact], Iterable[str]],
    *,
    older_than: float,
) -> Sweep:
    """Say what stays and what may go. Changes nothing.

    `roots` says why artifacts are wanted. `needs(collected)` gives the content digests of the collections that this
    one refers to: it needs these, and not every edition before it. Unfinished work and what was set aside may go when
    nothing in it has changed for `older_than` seconds.
    """
    now = time.time()
    artifacts = list(store.artifacts())
    known: dict[Artifact, Manifest] = {}  # read once: another gc may be taking them away
    for artifact in artifacts:
        with contextlib.suppress(RunError):
            known[artifact] = artifact.manifest
    reached = _reached(known, roots, needs)
    verdicts: list[Verdict] = []
    for artifact in artifacts:
        if artifact not in known and not artifact.path.exists():
            continue  # it has just been taken away
        age = now - _changed(artifact.path, deep=False)
        why, goes = reached.get((artifact.stage, artifact.key), ""), False
        if not why and artifact not in known:
            why = "its manifest cannot be read: `collect-train verify`"
        elif not why and _leads_out(store, artifact.path):
            why = "a link out of the store: left alone"
        elif not why and age < YOUNG_SECONDS:
            why = "younger than an hour"
        elif not why:
            why, goes = "nothing that is kept was built from it", True
            if pid := holder(_lock(store, artifact.stage, artifact.key)):
                why, goes = f"process {pid} works on it", False
        verdicts.append(Verdict(artifact.stage, artifact.key, artifact.path, _size(artifact.path), age, why, goes))
    verdicts.sort(key=lambda verdict: (STAGES.index(verdict.stage), verdict.key))
    return Sweep(tuple(verdicts), tuple(_leftovers(store, now, older_than)))


def clear(store: Store, thing: Verdict | Leftover) -> str:
    """Remove one artifact or leftover; "" when it is gone, else why it was left.

    Raises StorageError when the disk refuses.
    """
    lock = thing.lock if isinstance(thing, Leftover) else _lock(store, thing.stage, thing.key)
    try:
        if lock is None:
            return _remove(store, thing)
        with file_lock(lock, wait=False):
            return _remove(store, thing)
    except Locked as locked:
        return f"process {locked.holder} works on it"


def _remove(store: Store, thing: Verdict | Leftover) -> str:
    path = thing.path
    if _leads_out(store, path):
        return "a link out of the store: left alone"
    deep = isinstance(thing, Leftover)
    if path.exists() and time.time() - _changed(path, deep=deep) < min(thing.age, YOUNG_SECONDS):
        return "it has changed meanwhile"
    with disk_errors(path):
        fault("gc.before-delete")
        if path.parent != store.root / GONE:
            gone = store.root / GONE / f"{path.parent.name}-{path.name}-{uuid.uuid4().hex[:8]}"
            gone.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.rename(path, gone)
            except FileNotFoundError:
                return ""  # another gc was quicker
            fsync_path(path.parent)
            path = gone
        fault("gc.after-rename")
        _delete(path)
    return ""


def _delete(path: Path) -> None:
    """Delete a file, or a folder that another gc may be deleting at the same time; links are not followed."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    while path.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)


def _reached(
    manifests: Mapping[Artifact, Manifest], roots: Mapping[Name, str], needs: Callable[[Artifact], Iterable[str]]
) -> dict[Name, str]:
    """Why each artifact is wanted that is: it is a root, or a root was built from it, directly or not."""
    by_name = {(artifact.stage, artifact.key): artifact for artifact in manifests}
    by_digest: dict[str, list[Artifact]] = {}
    for artifact, manifest in manifests.items():
        for digest in manifest.digests:
            by_digest.setdefault(digest, []).append(artifact)
    found: dict[Name, str] = {}
    pending = [(name, why, why) for name, why in roots.items()]
    for name, why, root in pending:  # grows while it is walked: first all roots, then what they need
        if name not in by_name or name in found:
            continue
        artifact = by_name[name]
        found[name] = why
        inputs = manifests[artifact].provenance.inputs
        wanted = list(needs(artifact)) if artifact.stage == "collect" else _inputs(artifact.stage, inputs)
        named = {entry.digest: (entry.stage, entry.key) for entry in inputs}
        for digest in wanted:
            same = by_digest.get(digest, [])
            exact = [other for other in same if (other.stage, other.key) == named.get(digest)]
            pending += [((other.stage, other.key), f"needed by {root}", root) for other in exact or same[:1]]
    return found


def _inputs(stage: str, inputs: Sequence[InputEntry]) -> list[str]:
    """Content digests of what an artifact needs that is no collection: what it was built from.

    A comparison is whole by itself, and so is a corpus: of the one before it, it needs nothing.
    """
    whole = {"compare": ("new", "known", "earlier"), "curate": ("parent",)}.get(stage, ())
    return [entry.digest for entry in inputs if entry.name not in whole]


def _leftovers(store: Store, now: float, older_than: float) -> Iterator[Leftover]:
    root = store.root
    for path in sorted((root / GONE).glob("*")):
        yield Leftover(path, _size(path), now - _changed(path, deep=True), "a deletion that was interrupted")
    for path in sorted((root / ".work").glob("*-*")):
        age = now - _changed(path, deep=True)
        lock = root / ".locks" / path.name
        if age >= older_than and holder(lock) is None:
            yield Leftover(path, _size(path), age, "unfinished, and nobody went on with it", lock)
    for path in sorted((root / ".aside").glob("*-*")):
        age = now - _changed(path, deep=True)
        if age >= older_than:
            yield Leftover(path, _size(path), age, "damaged, set aside")
    for path in _parts(root):
        age = now - _changed(path, deep=True)
        if age >= YOUNG_SECONDS:
            yield Leftover(path, _size(path), age, "half a file, of a write that was killed")


def _parts(root: Path) -> Iterator[Path]:
    """Half files of killed writes, and rewritings of artifacts that were killed before they were decided."""
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in (".work", ".aside", GONE, ".locks")]
        yield from (Path(folder, name) for name in sorted(names) if name.startswith(".") and name.endswith(".part"))
        if REWRITE in folders:
            folders.remove(REWRITE)
            staged = Path(folder, REWRITE)
            if not (staged / MANIFEST).exists():
                yield staged
        folders.sort()


def _lock(store: Store, stage: str, key: str) -> Path:
    return store.root / ".locks" / f"{stage}-{key}"


def _leads_out(store: Store, path: Path) -> bool:
    """Whether a link in the way leads somewhere else than it seems."""
    return path.is_symlink() or path.parent.resolve() != store.root.resolve() / path.parent.relative_to(store.root)


def _changed(path: Path, *, deep: bool) -> float:
    """When a folder or its manifest, or with `deep` anything in it, was last changed: seconds since the epoch."""
    if not deep:
        found = []
        for place in (path, path / MANIFEST):
            with contextlib.suppress(FileNotFoundError):
                found.append(place.lstat().st_mtime)
        return max(found, default=0.0)
    return max((entry.st_mtime for entry in _entries(path)), default=0.0)


def _size(path: Path) -> int:
    return sum(entry.st_size for entry in _entries(path))


def _entries(path: Path) -> Iterator[os.stat_result]:
    """Facts about a file, or a folder and everything in it; links are not followed."""
    paths = [str(path)]
    for folder, folders, names in os.walk(path):
        paths += [os.path.join(folder, name) for name in (*folders, *names)]
    for each in paths:
        try:
            yield os.lstat(each)
        except FileNotFoundError:
            continue  # a process that works there has just removed it
