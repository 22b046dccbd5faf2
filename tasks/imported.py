"""A model that others made, as two artifacts of the store: its vocabulary and, made from that, a train artifact.

The key is that of the folder's files, so the same folder is read once, wherever it lies. What follows starts from it as
from any trained model.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from storage.atomic import write_bytes, write_json
from storage.manifest import InputEntry, Provenance
from storage.store import Artifact, ArtifactDamaged, Store
from tasks.environment import code_version, environment

VERSION = 1  # raised when the same folder begins to give other bytes


def import_model(store: Store, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Artifact:
    """The train artifact of a Hugging Face folder; `tell` hears what was left out.

    It and its vocabulary are made when they are not there, or are lost, damaged or not of each other.

    Raises UserError for a folder that cannot be used, RunError for a damaged file.
    """
    from lmcore.export.hf_folder import open_folder  # torch loads here
    from lmcore.export.hf_import import import_hf
    from lmcore.models.io import save_model

    files = open_folder(folder)
    params = {"imported": VERSION, "files": files.digests}
    key = Store.key("train", VERSION, params, {})
    with store.in_use(), store.lock("train", key):
        known, model = _whole(store, "tokenizer", key), _whole(store, "train", key)
        if known and model and _means(model, known):
            return model
        clock = time.monotonic()
        imported = import_hf(files)
        seconds = round(time.monotonic() - clock, 3)
        for note in imported.notes:
            tell(f"{folder.name}: {note}")

        out = store.work("tokenizer", key) / "out"
        shutil.rmtree(out, ignore_errors=True)
        for name, content in imported.tokenizer.files().items():
            write_bytes(out / name, content)
        tokenizer = _publish(
            store, "tokenizer", key, out, params, {"vocab_size": imported.tokenizer.vocab_size}, seconds
        )

        if model and not _means(model, tokenizer):  # by another version of the library, which writes other bytes
            store.set_aside("train", key, "its vocabulary was lost, and is another one when it is read again")
        out = store.work("train", key) / "out"
        shutil.rmtree(out, ignore_errors=True)
        save_model(out, imported.model)
        shutil.copyfile(tokenizer.file("tokenizer.json"), out / "tokenizer.json")
        ledger = imported.model.ledger()
        write_json(out / "ledger.json", ledger.to_json())
        shape = {"model": imported.model.config.key_values()}
        metrics = {"parameters": ledger.total, "imported": folder.name, "notes": list(imported.notes)}
        return _publish(store, "train", key, out, params | shape, metrics, seconds, tokenizer)


def _publish(
    store: Store,
    stage: str,
    key: str,
    out: Path,
    params: dict[str, Any],
    metrics: dict[str, Any],
    seconds: float,
    *inputs: Artifact,
) -> Artifact:
    if found := _whole(store, stage, key):
        store.clear_work(stage, key)
        return found
    now = datetime.now(UTC).isoformat(timespec="seconds")
    provenance = Provenance(
        params=params,
        stage_version=VERSION,
        pure=True,
        inputs=[InputEntry(name=a.stage, stage=a.stage, key=a.key, digest=a.digest) for a in inputs],
        metrics=metrics,
        started=now,
        finished=now,
        seconds=seconds,
        attempts=1,
        host=socket.gethostname(),
        environment=environment(),
        code=code_version(),
        run="",
    )
    artifact = store.publish(stage, key, out, provenance)
    store.clear_work(stage, key)
    return artifact


def _means(model: Artifact, tokenizer: Artifact) -> bool:
    """Whether the ids of `model` are those of `tokenizer`."""
    return any(entry.digest in tokenizer.digests for entry in model.manifest.provenance.inputs)


def _whole(store: Store, stage: str, key: str) -> Artifact | None:
    """The artifact if it is there; a damaged one is set aside, to be made again."""
    try:
        return store.find(stage, key)
    except ArtifactDamaged as damage:
        store.set_aside(stage, key, damage.fault_found)
        return None
