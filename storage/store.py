"""The store: folders of finished artifacts, and nothing else is true.

<store>/<stage>/<key>/manifest.json     a finished artifact; without the manifest it does not exist
<store>/.work/<stage>-<key>/            work in progress, kept over a crash
<store>/.aside/<stage>-<key>-<n>/       damaged artifacts, named, never deleted by themselves
<store>/.locks/                         one file per key, and one that every builder shares
<store>/.gone/                          what `gc` is deleting
<store>/runs/<run>/                     plan and report of each run
<store>/tombstones.json                 texts that may not come back
<store>/registry/, <store>/editions/    names that move
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from storage.atomic import disk_errors, fault, publish_folder, remove_parts, write_text
from storage.digest import digest_file, digest_json
from storage.errors import RunError, UserError
from storage.locks import file_lock
from storage.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    ManifestDamaged,
    Provenance,
    content_digest,
    list_files,
    read_manifest,
)
from storage.rewrite import settle

STAGES = ("collect", "measure", "compare", "curate", "tokenizer", "tokens", "train", "evaluate", "export", "release")
CORPUS_STAGES = ("collect", "measure", "compare", "curate", "tokens")  # these hold collected texts
KEY_DIGITS = 24
VARIABLE = "COLLECT_TRAIN_STORE"


class ArtifactDamaged(RunError):
    """A finished artifact whose files are not what its manifest says."""

    def __init__(self, artifact_path: Path, fault_found: str) -> None:
        super().__init__(
            f"{artifact_path} is damaged: {fault_found}",
            "run `collect-train verify`; it sets damaged artifacts aside and the next run rebuilds them",
        )
        self.fault_found = fault_found


@dataclass(frozen=True)
class Artifact:
    """A finished artifact, small enough to hand around: its stage, key and store."""

    stage: str
    key: str
    root: str

    @property
    def path(self) -> Path:
        """The folder that holds it."""
        return Path(self.root) / self.stage / self.key

    @property
    def manifest(self) -> Manifest:
        """Its manifest. Raises RunError when it is gone or damaged."""
        try:
            found = (self.path / MANIFEST).stat()
        except OSError as error:
            raise RunError(
                f"there is no artifact at {self.path}", "run the recipe again; it rebuilds what is missing"
            ) from error
        return _manifest(self.path, found.st_ino, found.st_mtime_ns)

    @property
    def digest(self) -> str:
        """Content digest: what downstream keys depend on."""
        return self.manifest.content.digest

    @property
    def digests(self) -> tuple[str, ...]:
        """Every content digest it has had, the first one first: others may refer to it by any of them."""
        return self.manifest.digests

    @property
    def metrics(self) -> dict[str, Any]:
        """The figures its stage reported."""
        return self.manifest.provenance.metrics

    @property
    def store(self) -> Store:
        """The store that holds it."""
        return Store(self.root)

    def local(self) -> Path:
        """A local folder with its files, for memory-mapping and DuckDB."""
        return self.path

    def file(self, name: str) -> Path:
        """One of its files. Raises ArtifactDamaged when it is missing."""
        path = self.path / name
        if not path.is_file():
            raise ArtifactDamaged(self.path, f"{name} is missing")
        return path


@functools.lru_cache(maxsize=512)
def _manifest(folder: Path, inode: int, changed: int) -> Manifest:  # noqa: ARG001 - another file, another manifest
    manifest = read_manifest(folder)
    if manifest is None:
        raise RunError(f"there is no artifact at {folder}", "run the recipe again; it rebuilds what is missing")
    return manifest


@dataclass(frozen=True)
class Damage:
    """One finding of `verify`."""

    stage: str
    key: str
    fault_found: str
    content: bool  # False: only provenance files, the artifact stays in use
    aside: Path | None
    stale: tuple[Artifact, ...]


class Store:
    """A folder of artifacts, given as a path or a file:// URL."""

    def __init__(self, where: str | os.PathLike[str]) -> None:
        """Raises UserError for a URL that is not local."""
        text = os.fspath(where)
        if "://" in text:
            parts = urlsplit(text)
            if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
                raise UserError(
                    f"the store {text} is not a local folder; object storage is not supported yet",
                    "give a local path, for example --store ./store",
                )
            text = unquote(parts.path)
        self.root = Path(text).expanduser().absolute()

    @classmethod
    def default(cls) -> Store:
        """The store that COLLECT_TRAIN_STORE names, else ./store."""
        return cls(os.environ.get(VARIABLE) or "store")

    @staticmethod
    def key(stage: str, version: int, params: dict[str, Any], inputs: dict[str, Any]) -> str:
        """24 hex digits naming the work: stage, its version, its Params and the content digests of its inputs."""
        return digest_json({"stage": stage, "version": version, "params": params, "inputs": inputs})[:KEY_DIGITS]

    def find(self, stage: str, key: str) -> Artifact | None:
        """The finished artifact, None when there is none. Sizes are checked, digests only by `verify`.

        Raises ArtifactDamaged when a data file is missing or has another size, or the manifest is unreadable.
        """
        folder = self.root / stage / key
        settle(folder)
        try:
            manifest = read_manifest(folder)
        except ManifestDamaged as error:
            raise ArtifactDamaged(folder, error.what) from error
        if manifest is None:
            return None
        for name, entry in manifest.content.files.items():
            problem = _size_problem(folder, name, entry)
            if problem:
                raise ArtifactDamaged(folder, problem)
        return Artifact(stage, key, str(self.root))

    def is_there(self, stage: str, key: str) -> bool:
        """Whether an artifact was finished, without a look at its files."""
        return (self.root / stage / key / MANIFEST).exists()

    def artifacts(self, *stages: str) -> Iterator[Artifact]:
        """Every finished artifact, of these stages or of all, in order of stage and key; damaged manifests too."""
        for stage in stages or STAGES:
            folder = self.root / stage
            if not folder.is_dir():
                continue
            for path in sorted(folder.iterdir()):
                if not path.name.startswith(".") and (path / MANIFEST).exists():
                    settle(path)
                    yield Artifact(stage, path.name, str(self.root))

    def readable(self, *stages: str) -> Iterator[Artifact]:
        """Like `artifacts`, without those whose manifest cannot be read."""
        for artifact in self.artifacts(*stages):
            with contextlib.suppress(RunError):
                _ = artifact.manifest
                yield artifact

    def by_digest(self, digest: str, stage: str | None = None) -> Artifact:
        """The artifact with this content digest, now or before it was rewritten. Raises RunError when there is none."""
        found = [artifact for artifact in self.readable(*([stage] if stage else [])) if digest in artifact.digests]
        if found:
            return next((artifact for artifact in found if artifact.digest == digest), found[0])
        raise RunError(
            f"the store {self.root} has no {stage or 'artifact'} with content digest {digest[:12]}",
            "it was moved or set aside (`collect-train verify` says so): restore it, or use --edition new",
        )

    def resolve(self, name: str) -> Artifact:
        """The artifact a person means by STAGE/KEY, STAGE (its newest), a key or digest prefix, or a path.

        Raises UserError when there is none, or more than one.
        """
        path = Path(name)
        if (path / MANIFEST).is_file():
            return Artifact(path.absolute().parent.name, path.absolute().name, str(path.absolute().parent.parent))
        if name in STAGES and (newest := max(self.readable(name), key=_finished, default=None)):
            return newest
        stage, _, prefix = name.rpartition("/")
        if stage and stage not in STAGES:
            raise UserError(f"unknown stage {stage!r} in {name!r}", f"the stages are {', '.join(STAGES)}")
        found = [
            a
            for a in self.readable(*([stage] if stage else []))
            if prefix and (a.key.startswith(prefix) or a.digest.startswith(prefix))
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UserError(f"no artifact {name!r} in {self.root}", "list them with `collect-train status`")
        raise UserError(
            f"{name!r} fits {len(found)} artifacts: {', '.join(f'{a.stage}/{a.key[:12]}' for a in found[:5])}",
            "give more digits",
        )

    @classmethod
    def of_work(cls, work: Path) -> Store:
        """The store that a work folder is in."""
        return cls(work.absolute().parents[1])

    def work(self, stage: str, key: str) -> Path:
        """The folder for work in progress on a key; it outlives a crash."""
        path = self.root / ".work" / f"{stage}-{key}"
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def has_work(self, stage: str, key: str) -> bool:
        """Whether an unfinished attempt is there to be continued."""
        return (self.root / ".work" / f"{stage}-{key}").is_dir()

    def clear_work(self, stage: str, key: str) -> None:
        """Forget work in progress."""
        shutil.rmtree(self.root / ".work" / f"{stage}-{key}", ignore_errors=True)

    def lock(
        self, stage: str, key: str, on_wait: Callable[[str], None] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        """One builder of a key at a time on this machine."""
        return file_lock(self.root / ".locks" / f"{stage}-{key}", on_wait)

    def in_use(self, on_wait: Callable[[str], None] | None = None) -> contextlib.AbstractContextManager[None]:
        """Held, beside others, by whoever builds, checks or clears: nobody rewrites artifacts meanwhile."""
        return file_lock(self.root / ".locks" / "store", on_wait, shared=True)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Held by whoever rewrites artifacts, alone. Raises Locked at once when somebody uses the store."""
        return file_lock(self.root / ".locks" / "store", wait=False)

    def publish(self, stage: str, key: str, out: Path, provenance: Provenance) -> Artifact:
        """Make the files in `out` the artifact `stage/key`. `out` is gone afterwards.

        The manifest is written last and the folder appears in one rename. When another builder was first, its
        artifact stays. Raises StorageError for a disk that refuses.
        """
        assert stage in STAGES, stage
        assert re.fullmatch(r"[0-9a-f]+", key), key
        final = self.root / stage / key
        with disk_errors(out):
            remove_parts(out)
            content, volatile = list_files(out)
            assert content.files, f"stage {stage} left nothing in {out}"
            manifest = Manifest(
                stage=stage, key=key, content=content, provenance=provenance.model_copy(update={"files": volatile})
            )
            fault("store.publish.before-manifest")
            write_text(out / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        if final.is_dir() and not (final / MANIFEST).exists():
            self.set_aside(stage, key, "it had no manifest: what was left of a deletion")
        publish_folder(out, final, "store.publish")
        return Artifact(stage, key, str(self.root))

    def set_aside(self, stage: str, key: str, reason: str) -> Path:
        """Move a damaged artifact out of the way, keeping its files and saying why."""
        target = self.root / ".aside" / f"{stage}-{key}"
        for number in range(1, 10_000):
            numbered = target.with_name(f"{target.name}-{number}")
            if not numbered.exists():
                break
        with disk_errors(numbered):
            numbered.parent.mkdir(parents=True, exist_ok=True)
            (self.root / stage / key).rename(numbered)
            write_text(numbered / "reason.txt", reason + "\n")
        return numbered

    def descendants(self, *digests: str) -> tuple[Artifact, ...]:
        """Every artifact built, directly or not, from one with such a content digest."""
        parents: dict[str, list[Artifact]] = {}
        for artifact in self.readable():
            for entry in artifact.manifest.provenance.inputs:
                parents.setdefault(entry.digest, []).append(artifact)
        found: dict[tuple[str, str], Artifact] = {}
        pending = list(digests)
        while pending:
            for artifact in parents.get(pending.pop(), []):
                if (artifact.stage, artifact.key) not in found:
                    found[artifact.stage, artifact.key] = artifact
                    pending += artifact.digests
        return tuple(sorted(found.values(), key=lambda a: (STAGES.index(a.stage), a.key)))

    def built_from(self, stage: str, key: str) -> tuple[Artifact, ...]:
        """Every artifact built, directly or not, from `stage/key`, even when its own manifest is unreadable."""
        try:
            digests = set(Artifact(stage, key, str(self.root)).digests)
        except RunError:
            digests = {
                entry.digest
                for artifact in self.readable()
                for entry in artifact.manifest.provenance.inputs
                if (entry.stage, entry.key) == (stage, key)
            }
        return self.descendants(*digests)

    def verify(self, on_artifact: Callable[[Artifact], None] = lambda _: None) -> list[Damage]:
        """Hash every file again. Artifacts with damaged content are set aside; what was built from them is named."""
        artifacts = list(self.artifacts())
        if not artifacts:
            return []
        with self.in_use():
            damages = (self._checked(artifact, on_artifact) for artifact in artifacts)
            return [damage for damage in damages if damage]

    def _checked(self, artifact: Artifact, on_artifact: Callable[[Artifact], None]) -> Damage | None:
        on_artifact(artifact)
        problem, in_content = self._first_problem(artifact)
        if problem is None:
            return None
        stale: tuple[Artifact, ...] = ()
        aside = None
        if in_content:
            stale = self.built_from(artifact.stage, artifact.key)
            aside = self.set_aside(artifact.stage, artifact.key, problem)
        return Damage(artifact.stage, artifact.key, problem, in_content, aside, stale)

    def _first_problem(self, artifact: Artifact) -> tuple[str | None, bool]:
        try:
            manifest = read_manifest(artifact.path)
        except ManifestDamaged as error:
            return error.what, True
        if manifest is None:
            return None, False  # another process has just set it aside
        groups: tuple[tuple[dict[str, FileEntry], bool], ...] = (
            (manifest.content.files, True),
            (manifest.provenance.files, False),
        )
        for files, in_content in groups:
            for name, entry in files.items():
                problem = _size_problem(artifact.path, name, entry)
                if problem is None and digest_file(artifact.path / name) != entry.sha256:
                    problem = f"{name} has other bytes than its manifest says"
                if problem:
                    return problem, in_content
        if manifest.content.digest != content_digest(manifest.content.files):
            return "the manifest's content digest does not match its list of files", True
        return None, False


def _finished(artifact: Artifact) -> str:
    return artifact.manifest.provenance.finished


def _size_problem(folder: Path, name: str, entry: FileEntry) -> str | None:
    try:
        size = (folder / name).stat().st_size
    except OSError:
        return f"{name} is missing"
    return None if size == entry.size else f"{name} has {size:,} bytes, its manifest says {entry.size:,}"
