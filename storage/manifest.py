"""The manifest of an artifact: what it is (`content`) and how it came to be (`provenance`), kept apart.

Only `content` is ever compared: equal files have equal digests wherever, whenever and by whomever they were
made. Files under `provenance/` hold volatile facts (fetch times, speeds) and are listed in the provenance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.digest import digest_file, digest_json
from storage.errors import RunError

MANIFEST = "manifest.json"
PROVENANCE_FOLDER = "provenance"
FORMAT = 1


class ManifestDamaged(RunError):
    """A manifest that is there and cannot be read."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Part):
    """Digest and size in bytes of one file."""

    sha256: str
    size: int


class Content(_Part):
    """Every data file; `digest` is the artifact's content digest, over names and sha256."""

    digest: str
    files: dict[str, FileEntry]


class InputEntry(_Part):
    """One artifact that this one was built from."""

    name: str
    stage: str
    key: str
    digest: str


class Provenance(_Part):
    """How an artifact came to be. Never compared."""

    params: dict[str, Any]
    stage_version: int
    pure: bool
    inputs: list[InputEntry]
    metrics: dict[str, Any]
    started: str
    finished: str
    seconds: float
    attempts: int
    host: str
    environment: dict[str, str]
    code: dict[str, str]
    run: str
    files: dict[str, FileEntry] = {}
    rewritten: list[str] = []  # content digests it had before texts were taken out of it, oldest first


class Manifest(_Part):
    """What `manifest.json` holds."""

    format: int = FORMAT
    stage: str
    key: str
    content: Content
    provenance: Provenance

    @property
    def digests(self) -> tuple[str, ...]:
        """Every content digest the artifact has had, the first one first."""
        return (*self.provenance.rewritten, self.content.digest)


def list_files(folder: Path) -> tuple[Content, dict[str, FileEntry]]:
    """Hash every file below `folder`: (content, provenance files). The manifest itself is left out."""
    content: dict[str, FileEntry] = {}
    volatile: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise RunError(
                f"{path} is a link; an artifact holds plain files only", "this is a fault of the stage that made it"
            )
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if name == MANIFEST:
            continue
        entry = FileEntry(sha256=digest_file(path), size=path.stat().st_size)
        (volatile if name.startswith(PROVENANCE_FOLDER + "/") else content)[name] = entry
    return Content(digest=content_digest(content), files=content), volatile


def content_digest(files: dict[str, FileEntry]) -> str:
    """sha256 over the names, sizes and digests of the data files."""
    return digest_json({name: [entry.sha256, entry.size] for name, entry in files.items()})


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artifact folder, None when there is none.

    Raises ManifestDamaged when it is there and is not a manifest this program can read.
    """
    path = folder / MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestDamaged(
            f"cannot read {path}: {error}", "run `collect-train verify`; it sets damaged artifacts aside"
        ) from error
    try:
        manifest = Manifest.model_validate(json.loads(text))
    except (json.JSONDecodeError, ValidationError) as error:
        raise ManifestDamaged(
            f"{path} is damaged: {str(error).splitlines()[0]}",
            "run `collect-train verify`; it sets damaged artifacts aside",
        ) from error
    if manifest.format != FORMAT:
        raise ManifestDamaged(
            f"{path} has format {manifest.format}, this program reads {FORMAT}",
            "use the version of collect-train that wrote it",
        )
    return manifest
