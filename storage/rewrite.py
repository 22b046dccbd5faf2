"""The one change that a finished artifact may undergo: files of it replaced, for `collect-train forget`.

The new files and the new manifest are made whole in `<artifact>/.rewrite/` first. The manifest there is written last
and is the point of no return: before it the artifact is the old one, after it the files are moved into place by
whoever looks at the artifact next (`settle`), so that a kill at any instant leaves the old or the new artifact.

The artifact keeps its key. When data files changed it has another content digest, and its manifest lists those it had
before (`rewritten`): what refers to it by an old one still finds it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from storage.atomic import disk_errors, fault, fsync_path, write_text
from storage.manifest import MANIFEST, Content, Manifest, content_digest, list_files, read_manifest

FOLDER = ".rewrite"


Change = Callable[[Path, Path], Mapping[str, Any] | None]


def rewrite(artifact: Path, change: Change) -> Manifest | None:
    """Replace files of the artifact in this folder; gives its new manifest, None when nothing was to be changed.

    `change(artifact, target)` writes the files that change, whole, to the same places under `target`, and may give
    new figures for the artifact's metrics. Only one process may rewrite an artifact, and nobody may build on it
    meanwhile. Raises StorageError when the disk refuses.
    """
    settle(artifact)
    staged = artifact / FOLDER
    with disk_errors(staged):
        shutil.rmtree(staged, ignore_errors=True)  # of a rewriting that never came to its manifest
        staged.mkdir()
        figures = change(artifact, staged) or {}
        content, volatile = list_files(staged)
        if not content.files and not volatile:
            shutil.rmtree(staged)
            return None
        old = read_manifest(artifact)
        assert old is not None, artifact
        files = old.content.files | content.files
        provenance = old.provenance.model_copy(
            update={
                "files": old.provenance.files | volatile,
                "metrics": {name: figures.get(name, value) for name, value in old.provenance.metrics.items()},
                "rewritten": [*old.provenance.rewritten, *([old.content.digest] if content.files else [])],
            }
        )
        new = old.model_copy(
            update={"content": Content(digest=content_digest(files), files=files), "provenance": provenance}
        )
        for folder, _, names in os.walk(staged, topdown=False):
            for name in names:
                fsync_path(Path(folder, name))
            fsync_path(Path(folder))
        fault("store.rewrite.before-manifest")
        write_text(staged / MANIFEST, new.model_dump_json(indent=1) + "\n")
        fault("store.rewrite.after-manifest")
    settle(artifact)
    return new


def settle(artifact: Path) -> None:
    """Finish a rewriting that was decided and not finished; otherwise nothing. Several processes may do it at once."""
    staged = artifact / FOLDER
    if not (staged / MANIFEST).exists():
        return
    with disk_errors(artifact):
        for folder, folders, names in os.walk(staged):  # passes over what another process has just removed
            folders.sort()
            place = artifact / Path(folder).relative_to(staged)
            for name in sorted(names):
                if name != MANIFEST and not name.endswith(".part"):
                    _into_place(Path(folder, name), place / name)
                    fault("store.rewrite.between-files")
            fsync_path(place)
        _into_place(staged / MANIFEST, artifact / MANIFEST)  # last: until now the work is still known
        fsync_path(artifact)
        shutil.rmtree(staged, ignore_errors=True)


def _into_place(path: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process moved it
        os.replace(path, target)
