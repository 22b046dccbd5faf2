"""The store's place: can it be written, do renames and locks work there, is there room, will it stay."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from flows.checks.finding import Finding, failure, ok, warning
from flows.estimate import Needs
from flows.look import human_bytes
from storage.errors import RunError
from storage.locks import Locked, file_lock
from storage.store import Store
from storage.tombstones import read_tombstones

LITTLE = 1_000_000_000  # bytes free below which any run is in danger
IN_MEMORY = {"tmpfs", "ramfs"}
NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "9p", "afs", "ceph", "fuse.glusterfs", "lustre"}


def check_disk(store: Store, needed: Needs | None) -> Iterator[Finding]:
    """Permissions, rename and lock, kind of file system, room, and a takedown that was not finished."""
    there = store.root.is_dir()
    place = store.root if there else _nearest(store.root)
    yield _usable(store.root, place, there)
    yield _kind(place)
    yield _room(place, needed)
    if there:
        yield from _unfinished(store)


def _nearest(path: Path) -> Path:
    """The folder that the store would be made in."""
    return next(parent for parent in path.parents if parent.is_dir())


def _usable(root: Path, place: Path, there: bool) -> Finding:
    told = f"{root}" if there else f"{root} will be made in {place}"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=place) as name:
            folder = Path(name)
            (folder / "part").mkdir()
            (folder / "part" / "file").write_bytes(b"x")
            os.rename(folder / "part", folder / "whole")
            with file_lock(folder / "lock"):
                try:
                    with file_lock(folder / "lock", wait=False):
                        return failure(
                            "store", f"{told}: locks do not exclude there", "use a store on a local file system"
                        )
                except Locked:
                    pass
    except (OSError, RunError) as error:
        reason = error.what if isinstance(error, RunError) else error.strerror or str(error)
        return failure("store", f"{told}: {reason}", "choose a store that you may write, with --store DIR")
    return ok("store", f"{told}: can be written, renames and locks work")


def _kind(place: Path) -> Finding:
    real = os.path.realpath(place)
    mounts = [part for part in psutil.disk_partitions(all=True) if _is_below(real, part.mountpoint)]
    mount = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    if mount is None:
        return ok("file system", "unknown")
    told = f"{mount.fstype} on {mount.mountpoint}"
    if mount.fstype in IN_MEMORY:
        return warning("file system", f"{told}: it is in memory and gone after a restart", "use a store on a disk")
    if mount.fstype in NETWORK:
        return warning(
            "file system",
            f"{told}: a network file system, on which locks are not to be relied on",
            "let only one machine build in this store, or put it on a local disk",
        )
    return ok("file system", told)


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _room(place: Path, needed: Needs | None) -> Finding:
    free = shutil.disk_usage(place).free
    told = f"{human_bytes(free)} free"
    mend = "free space (`collect-train gc` says what of a store may go), or choose another place with --store DIR"
    if needed is not None:
        want = needed.disk["total"]
        told += f"; a run needs about {human_bytes(want)} (texts {human_bytes(needed.disk['texts'])} at most)"
        if want > free:
            return failure("disk", told, mend)
    return warning("disk", told, mend) if free < LITTLE else ok("disk", told)


def _unfinished(store: Store) -> Iterator[Finding]:
    try:
        known = read_tombstones(store.root)
    except RunError as error:
        yield failure("takedown", error.what, error.mend)
        return
    for tombstone in known:
        if tombstone.finished is None:
            yield warning(
                "takedown",
                f"forgetting {tombstone.what} was begun on {tombstone.when} and not finished",
                f"collect-train forget '{tombstone.what}' --yes",
            )
